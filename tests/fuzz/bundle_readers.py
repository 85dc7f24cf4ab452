"""Readers of the files of a bundle."""

from __future__ import annotations

import contextlib
import io
import json
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from .reader import Reader, written


@cache
def manifests() -> list[bytes]:
    from manifests import chatml_prompt, grid_vision, seed_prompt, square

    from handglass.runtime.bundle import entries as e
    from handglass.runtime.bundle.manifest import Manifest

    manifest = Manifest(
        e.ModelEntry("MiniCPMV", {"hidden_size": 8}),
        e.TargetEntry("host", "x86_64-linux-gnu", "x86-64-v3", ("avx2",)),
        {"language": "w4", "vision": "f16"},
        {"handglass": "0.1.0", "tvm": "0.27.0"},
        {"decode": e.FunctionEntry(("ids (1,) int32",), "(20,) float32")},
        (e.TensorEntry("a.weight", (20, 8), "float16"), e.TensorEntry("b", (3,), "float32")),
        e.StateEntry(16, (e.StateTensor("layers.0.k_cache", (16, 8), "float32"),)),
        square(28, 14, 64, 2),
        seed_prompt(),
        e.TokenizerEntry("sentencepiece", "tokenizer.model"),
        660,
        8,
        {"decode": e.WorkEntry(1.0, 2.0, 3.0, 4)},
        {name: e.FileEntry("0" * 64, 4) for name in ("lib.so", "tokenizer.model")},
    )
    slices = replace(manifest, vision=grid_vision(), prompt=chatml_prompt(system="Be short."))
    return [manifest.text().encode(), slices.text().encode()]


def read_manifest(data: bytes, folder: Path) -> None:
    """As `inspect` shows it, and as `run` prepares a picture for it."""
    from handglass.cli import inspect
    from handglass.cli.output import print_json
    from handglass.runtime.bundle.reader import Bundle
    from handglass.runtime.bundle.requirements import check_target
    from handglass.runtime.prompt.preprocess import open_preprocessor

    (folder / "manifest.json").write_bytes(data)
    found = Bundle.inspect(folder)
    with contextlib.redirect_stdout(io.StringIO()) as out:
        print_json(inspect.as_json(found, True))
        print(inspect.as_text(found, True))
    shown = out.getvalue()
    assert all(line.isprintable() for line in shown.splitlines()), "not escaped"
    json.loads(shown.splitlines()[0])
    assert found.manifest.resident_bytes >= 0
    if found.manifest.vision is not None:
        open_preprocessor(found.manifest)(np.zeros((30, 20, 3), np.uint8))
    check_target(found.manifest.target, "x86_64", frozenset({"avx2"}))


@cache
def reports() -> list[bytes]:
    work = {
        "symbols": {"s": [0, 0], "pos": [2]},
        "multiply_adds": [[64, [{"s": 1}, {"pos": 1, "": 15}]]],
        "touched": {"1": [[[1, [{"s": 1}]], [0.5, []]]]},
    }
    kernel = {"function": "f", "rule": "r", "calls": 1, "patterns": ["dot4"], "work": work}
    report = {
        "format": "handglass-report",
        "versions": {"handglass": "0.1.0"},
        "phases": {"lower": 1.5},
        "kernels": [{**kernel, "choices": {"rows": 2}, "record": None}],
        "records": {},
    }
    return [json.dumps(report).encode()]


def read_report(data: bytes, folder: Path) -> None:
    from handglass.runtime.bundle.report import parse_report

    for kernel in parse_report(data, "report.json").values():
        assert kernel.limit
        kernel.flops(((3, 4), (8, 4), 5))
        kernel.bytes(((3, 4), (8, 4), 5), (4, 4, 0))


@cache
def tensor_files() -> list[bytes]:
    made = []
    for shapes in ({"a": (2, 3), "b": (4,)}, {"c": (0, 3), "d": ()}, {"e": (1,)}):
        table: dict[str, Any] = {"__metadata__": {"format": "pt"}}
        end = 0
        for name, shape in shapes.items():
            begin, end = end, end + 4 * int(np.prod(shape))
            table[name] = {"dtype": "F32", "shape": shape, "data_offsets": [begin, end]}
        header = json.dumps(table).encode()
        made.append(len(header).to_bytes(8, "little") + header + bytes(end))
    return made


def read_tensors(data: bytes, folder: Path) -> None:
    from handglass.runtime.bundle.tensors import TensorFile

    file = TensorFile.open(written(folder, "params-1.safetensors", data))
    for name in file.names:
        assert file.array(name).nbytes == file.spec(name).nbytes
        file.drop_cached(name)


def read_cases(data: bytes, folder: Path) -> None:
    from handglass.runtime.execution.known_answers import read_cases

    read_cases(written(folder, "checks.json", data))


@cache
def cases() -> list[bytes]:
    item = {"shape": [2, 3], "dtype": "float32", "fill": {"kind": "uniform", "low": -1, "high": 1}}
    case = {"name": "f", "family": "matmul", "library": "lib.so", "function": "f", "seed": 3}
    case |= {"items": [item, {"int": 5}], "answers": {"0": "a"}, "floor_db": 40.0}
    text = {"format": "handglass-known-answers", "version": 1, "cases": [case]}
    return [json.dumps(text).encode()]


READERS = {
    "manifest": Reader(manifests, read_manifest),
    "report": Reader(reports, read_report),
    "tensors": Reader(tensor_files, read_tensors),
    "known-answers": Reader(cases, read_cases),
}
