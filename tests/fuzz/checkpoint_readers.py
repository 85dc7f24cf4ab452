"""Readers of the files of a checkpoint."""

from __future__ import annotations

import json
import logging
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

from gguf_files import small_file

from .bundle_readers import tensor_files
from .reader import CHECKPOINT, Reader, written


def read_config(data: bytes, folder: Path) -> None:
    """The config.json of the demo checkpoint, up to lowering."""
    from handglass.compiler import models
    from handglass.compiler.checkpoints.checkpoint import Checkpoint
    from handglass.compiler.checkpoints.template_file import TemplateFile
    from handglass.compiler.models.matching import build_for
    from handglass.compiler.models.storage import choose_storage
    from handglass.schedules.select import ANY_CPU

    place = folder / "checkpoint"
    place.mkdir(exist_ok=True)
    weights = place / "model.safetensors"
    if not weights.exists():
        weights.symlink_to(CHECKPOINT / weights.name)
    written(place, "config.json", data)
    checkpoint = Checkpoint.open(place)
    logging.getLogger("handglass").setLevel(logging.ERROR)  # most damaged files have unknown keys
    family, config = models.read_config(checkpoint.config)
    storage = choose_storage(config.language, ANY_CPU, "w4a8", None, None, None)
    build_for(checkpoint, family, config, storage)
    family.prompt(config, TemplateFile())
    family.vision(config)


def read_generation(data: bytes, folder: Path) -> None:
    from handglass.compiler.checkpoints.fields import Fields
    from handglass.compiler.checkpoints.shards import read_json

    fields = Fields(read_json(written(folder, "generation_config.json", data)), "generation")
    fields.tokens("eos_token_id", 660)


def read_index(data: bytes, folder: Path) -> None:
    from handglass.compiler.checkpoints.shards import open_shards

    for number, content in enumerate(tensor_files(), 1):
        written(folder, f"{number}.safetensors", content)
    written(folder, "model.safetensors.index.json", data)
    for name, shard in open_shards(folder, False).items():
        shard.shape(name)


@cache
def indexes() -> list[bytes]:
    owner = {"a": "1.safetensors", "b": "1.safetensors", "e": "3.safetensors"}
    return [json.dumps({"metadata": {"total_size": 44}, "weight_map": owner}).encode()]


def read_gguf(data: bytes, folder: Path) -> None:
    """A file of a language model, up to lowering; then every tensor."""
    from handglass.compiler.checkpoints.opening import open_checkpoint
    from handglass.compiler.models import find_family
    from handglass.runtime.prompt.tokenizer import parse_tokenizer

    path = written(folder, "model.gguf", data)
    checkpoint = open_checkpoint(path)
    for name in sorted(checkpoint.unused(())):
        checkpoint.read(name, checkpoint.shape(name))
    content = checkpoint.tokenizer("tokenizer.json")
    assert isinstance(content, bytes)
    parse_tokenizer("tokenizers", content, path)
    family = find_family(checkpoint.config)
    family.prompt(family.configure(checkpoint.config), checkpoint.template())


@cache
def gguf_files() -> list[bytes]:
    with TemporaryDirectory() as folder:
        return [small_file(Path(folder) / "a.gguf").read_bytes()]


READERS = {
    "config": Reader(lambda: [(CHECKPOINT / "config.json").read_bytes()], read_config),
    "generation-config": Reader(lambda: [b'{"eos_token_id": [2, 7]}'], read_generation),
    "index": Reader(indexes, read_index),
    "gguf": Reader(gguf_files, read_gguf),
}
