"""Readers of the files of a checkpoint."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from gguf_files import small_file, small_sentencepiece_file
from merged_mmproj_files import small_hybrid_file, small_merged
from mmproj_files import small_mmproj
from packed_weights import Method, pack
from safetensors.numpy import save

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
    from handglass.compiler.packing.describe import TOKENIZERS
    from handglass.runtime.prompt.tokenizer import parse_tokenizer

    path = written(folder, "model.gguf", data)
    checkpoint = open_checkpoint(path)
    for name in sorted(checkpoint.unused(())):
        checkpoint.read(name, checkpoint.shape(name))
    for kind, name in TOKENIZERS:
        if isinstance(content := checkpoint.tokenizer(name), bytes):
            parse_tokenizer(kind, content, path)
    family = find_family(checkpoint.config)
    family.prompt(family.configure(checkpoint.config), checkpoint.template())


@cache
def gguf_files() -> list[bytes]:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "a.gguf"
        kinds = (small_file, small_sentencepiece_file, small_hybrid_file)
        return [write(path).read_bytes() for write in kinds]


def read_packing(data: bytes, folder: Path) -> None:
    from handglass.compiler.checkpoints.packing import packing_of
    from handglass.compiler.checkpoints.shards import read_json

    packing_of({"quantization_config": read_json(written(folder, "config.json", data))})


def read_packed(data: bytes, folder: Path) -> None:
    """The tensors of a checkpoint packed by AWQ, or by GPTQ if it has lists of groups."""
    from handglass.compiler.checkpoints.checkpoint import Checkpoint

    place = folder / "packed"
    place.mkdir(exist_ok=True)
    method = Method("gptq", 3) if b"g_idx" in data else Method("awq")
    config = json.dumps({"quantization_config": method.config})
    written(place, "config.json", config.encode())
    written(place, "model.safetensors", data)
    checkpoint = Checkpoint.open(place)
    for name in sorted(checkpoint.unused(())):
        checkpoint.read(name, checkpoint.shape(name))


@cache
def packed_files() -> list[bytes]:
    random = np.random.default_rng(1)
    stored = (pack((32, 64), method, random)[0] for method in (Method("gptq", 3), Method("awq")))
    return [save({f"a.{name}": array for name, array in parts.items()}) for parts in stored]


def read_mmproj(data: bytes, folder: Path) -> None:
    """The file of a vision tower beside a good one of a language model; then every tensor."""
    from handglass.compiler.checkpoints.opening import open_checkpoint
    from handglass.compiler.models import find_family

    is_merged = b"minicpmv4_" in data
    text = folder / f"text-{is_merged}.gguf"
    if not text.exists():
        (small_hybrid_file if is_merged else small_file)(text)
    checkpoint = open_checkpoint(text, mmproj=written(folder, "mmproj.gguf", data))
    checkpoint.preprocessor()
    for name in sorted(checkpoint.unused(())):
        checkpoint.read(name, checkpoint.shape(name))
    find_family(checkpoint.config).configure(checkpoint.config)


@cache
def mmproj_files() -> list[bytes]:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "a.gguf"
        return [write(path).read_bytes() for write in (small_mmproj, small_merged)]


READERS = {
    "mmproj": Reader(mmproj_files, read_mmproj),
    "packing": Reader(lambda: [json.dumps(Method("gptq").config).encode()], read_packing),
    "packed": Reader(packed_files, read_packed),
    "config": Reader(lambda: [(CHECKPOINT / "config.json").read_bytes()], read_config),
    "generation-config": Reader(lambda: [b'{"eos_token_id": [2, 7]}'], read_generation),
    "index": Reader(indexes, read_index),
    "gguf": Reader(gguf_files, read_gguf),
}
