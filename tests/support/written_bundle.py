"""A small bundle with made-up files, and changes of its manifest."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from manifests import seed_prompt, square

from handglass.runtime.bundle.entries import (
    FunctionEntry,
    ModelEntry,
    StateEntry,
    StateTensor,
    TargetEntry,
    TensorEntry,
    TokenizerEntry,
)
from handglass.runtime.bundle.reader import Bundle, Manifest
from handglass.runtime.bundle.writer import BundleWriter

MANIFEST = Manifest(
    model=ModelEntry("MiniCPMV", {"hidden_size": 8, "nested": {"list": [1, 2.5, None]}}),
    target=TargetEntry("host", "x86_64-linux-gnu", "x86-64-v3", ("avx2", "fma")),
    scheme={"language": "w4", "vision": "f32"},
    versions={"handglass": "0.1.0", "tvm": "0.27.0.post1"},
    functions={"prefill": FunctionEntry(("x (s, 8) float32", "pos"), "(10,) float32")},
    params=(TensorEntry("a.weight", (3, 5), "float16"),),
    state=StateEntry(16, (StateTensor("layers.0.k_cache", (2, 16, 4), "float32"),)),
    vision=square(28, 14, 4, 2, std=(0.5, 0.25, 0.5)),
    prompt=seed_prompt(),
    tokenizer=TokenizerEntry("sentencepiece", "tokenizer.model"),
    vocab_size=10,
    hidden_size=8,
)
FILES = {"lib.so": b"code", "tokenizer.model": b"pieces", "params-00001.safetensors": b"weights"}


def write(path: Path, overwrite: bool = False, files: dict[str, bytes] = FILES) -> Bundle:
    with BundleWriter(path, overwrite) as writer:
        for name, data in files.items():
            writer.add_file(name, data)
        return writer.finish(MANIFEST)


def edit(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    file = path / "manifest.json"
    data = json.loads(file.read_text("utf-8"))
    change(data)
    file.write_text(json.dumps(data), "utf-8")


def put(*keys: Any) -> Callable[[dict[str, Any]], object]:
    """A change that sets data[keys[0]]...[keys[-2]] to keys[-1]."""

    def change(data: Any) -> None:
        for key in keys[:-2]:
            data = data[key]
        data[keys[-2]] = keys[-1]

    return change


def drop(*keys: Any) -> Callable[[dict[str, Any]], object]:
    def change(data: Any) -> None:
        for key in keys[:-1]:
            data = data[key]
        del data[keys[-1]]

    return change
