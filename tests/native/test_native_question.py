"""handglass-native run: damaged or hostile requests and tiles are refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("tvm", reason="compiles with the TVM compiler")

from native_bundles import asked
from native_program import NativeProgram
from test_native_request import GREEDY

from handglass.runtime.answer.native_request import Written
from handglass.runtime.bundle.tensor_writer import TensorWriter

pytest_plugins = ["native_fixtures"]
pytestmark = [pytest.mark.compiler, pytest.mark.slow]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"prompt": [[1, 9999999]]}, "token id 9999999 is outside the vocabulary"),
        ({"prompt": [[1], {"tile": 1}]}, "'tile' must be an integer from 0 to 0"),
        ({"prompt": [[1], {"picture": 0}]}, "'tile' is missing"),
        ({"prompt": [{"tile": 0}] * 17}, "the context of this bundle holds"),
        ({"pictures": []}, "1 of 1 --pixels belong to no picture"),
        ({"pictures": [0, 1]}, "a picture of 0 tiles where 1 of 1 --pixels are left"),
        ({"pictures": [1, 1]}, "a picture of 1 tiles where 0 of 1 --pixels are left"),
        ({"pictures": [2**62, 2**62]}, "a picture of 4611686018427387904 tiles"),
        ({"pictures": [-1, 2]}, "not a size: -1"),
        ({"pictures": 1}, "'pictures' must be a list"),
        ({"prompt": [[1], []]}, "an empty list of ids"),
        ({"prompt": []}, "the prompt is empty"),
        ({"prompt": [[1] * 5000]}, "the context of this bundle holds"),
        ({"stop": [-1]}, "not a size: -1"),
        ({"max_tokens": 0}, "'max_tokens' must be an integer from 1"),
        ({"surprise": 1}, "unknown field 'surprise'"),
        ({"positions": [[0, 0, 0]]}, "the request has 1 positions for"),
        ({"positions": [[0, 0]]}, "positions: not 3 positions: [0, 0]"),
        ({"positions": [0]}, "positions: not 3 positions: 0"),
        ({"positions": [[0, -1, 0]]}, "positions: not a size: -1"),
        ({"positions": [[0, 1024, 0]]}, "position 1024 is outside the context of 1024"),
        ({"thinking": 1}, "'thinking' must be true or false"),
        ({"sampling": GREEDY | {"temp": -1}}, "'temp' must be a finite number from 0"),
        ({"sampling": GREEDY | {"top_p": 0}}, "'top_p' must be a finite number"),
        ({"sampling": GREEDY | {"top_p": 1.5}}, "'top_p' must be a finite number"),
        ({"sampling": GREEDY | {"top_k": -1}}, "'top_k' must be an integer from 0"),
        ({"sampling": GREEDY | {"repeat_penalty": 0}}, "'repeat_penalty' must be a finite"),
        ({"sampling": GREEDY | {"seed": -1}}, "'seed' must be an integer from 0"),
        ({"sampling": GREEDY | {"min_p": 0}}, "unknown field 'min_p'"),
    ],
)
def test_a_request_is_checked(
    program: NativeProgram,
    bundle: Path,
    question: Written,
    change: dict[str, Any],
    words: str,
) -> None:
    request = json.loads(question.request.read_text("utf-8"))
    question.request.write_text(json.dumps(request | change), "utf-8")
    program.fails(3, words, *asked(question, bundle))


def test_text_that_is_no_request(program: NativeProgram, bundle: Path) -> None:
    for text in ("", "{", '{"a": 1, "a": 1}', "[" * 100 + "]" * 100, "1 2", '"\\ud800"', "01"):
        program.fails(3, "not valid JSON", "run", bundle, "--ids", "-", stdin=text)
    old = '{"format": "handglass-request", "version": 2}'
    program.fails(5, "not a handglass-request of version 3", "run", bundle, "--ids", "-", stdin=old)


def test_tiles_that_are_not_given(program: NativeProgram, bundle: Path, question: Written) -> None:
    program.fails(3, "0 of 0 --pixels are left", "run", bundle, "--ids", question.request)
    request = json.loads(question.request.read_text("utf-8")) | {"pictures": []}
    question.request.write_text(json.dumps(request), "utf-8")
    program.fails(3, "but no --pixels was given", "run", bundle, "--ids", question.request)


def tile(height: int, width: int) -> dict[str, np.ndarray]:
    """The inputs of the demo model: patches of 14 x 14, a table of 8 x 8 positions."""
    n = height * width
    grid = np.stack(np.divmod(np.arange(n), width), axis=1)
    ids = grid @ [8, 1]
    pixels = np.zeros((3, 14, 14 * n), np.float32)
    return {"pixels": pixels, "position_ids": ids.astype("i4"), "grid": grid.astype("i4")}


def write_arrays(path: Path, arrays: dict[str, np.ndarray]) -> None:
    specs = [(name, array.shape, array.dtype.name) for name, array in arrays.items()]
    with TensorWriter(path, specs) as file:
        for name, array in arrays.items():
            file.write(name, np.ascontiguousarray(array))


def test_a_tile_may_be_smaller(program: NativeProgram, bundle: Path, question: Written) -> None:
    write_arrays(question.tiles[0], tile(3, 7))
    done = program.run(*asked(question, bundle), "-n", 2)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1])["timings"]["image_tokens"] == [64]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda t: t.pop("grid"), "it must have grid (6, 2) int32"),
        (lambda t: t.pop("position_ids"), "it must have position_ids (n,) int32"),
        (lambda t: t.update(position_ids=t["position_ids"][:0]), "of 1 to 64 patches"),
        (lambda t: t.update(position_ids=t["position_ids"][:5]), "(3, 14, 70) float32"),
        (lambda t: t.update(pixels=t["pixels"].astype(np.float16)), "(3, 14, 84) float32"),
        (lambda t: t.update(position_ids=t["position_ids"] - 1), "must be from 0 to 63"),
        (lambda t: t.update(position_ids=t["position_ids"] + 54), "must be from 0 to 63"),
        (lambda t: t.update(grid=t["grid"][::-1]), "count its 6 patches row by row"),
        (lambda t: t.update(grid=t["grid"] + 1), "count its 6 patches row by row"),
        (lambda t: t.update(tile(1, 9)), "at most 8 along a side"),
        (lambda t: t.update(grid=t["grid"] + (2**31 - 3)), "count its 6 patches row by row"),
    ],
)
def test_a_tile_is_checked(
    program: NativeProgram,
    bundle: Path,
    question: Written,
    change: Callable[[dict[str, np.ndarray]], object],
    words: str,
) -> None:
    arrays = tile(2, 3)
    change(arrays)
    write_arrays(question.tiles[0], arrays)
    program.fails(3, words, *asked(question, bundle))


def safetensors(header: bytes, data: bytes = b"") -> bytes:
    return len(header).to_bytes(8, "little") + header + data


def one_tensor(shape: list[int], name: str = "x") -> bytes:
    entry = {"dtype": "F64", "shape": shape, "data_offsets": [0, 0]}
    return safetensors(json.dumps({name: entry}).encode())


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (one_tensor([1 << 58]), "tensor 'x': shape"),
        (one_tensor([1 << 59, 1 << 5]), "tensor 'x': shape"),
        (one_tensor([0, 1 << 62, 1 << 62]), "tensor 'x': shape"),
        (one_tensor([10**30]), "tensor 'x': not a size"),
        (one_tensor([1 << 59], "\x1b[2Jx"), "tensor '\\x1b[2Jx'"),
        (one_tensor([1 << 59], "\x9b\u202e圆\u2069"), "tensor '\\x9b\\u202e圆\\u2069'"),
        (safetensors(b"[" + b"[]," * (1 << 20) + b"[]]"), "expected an object"),
        (safetensors(b"[" + b"0," * (3 << 20) + b"0]"), "too many values"),
        (safetensors(b" " * (9 << 20)), str(9 << 20)),
        (safetensors(b"[" * 5000), "nested too deeply"),
        (safetensors(b'{"\\ud800": 1}'), "lone surrogate"),
    ],
    ids=[
        *("2^61", "wraps", "empty", "10^30", "escape", "overrides"),
        *("lists", "numbers", "long", "deep", "half"),
    ],
)
def test_hostile_headers(
    program: NativeProgram, bundle: Path, question: Written, content: bytes, words: str
) -> None:
    question.tiles[0].write_bytes(content)
    program.fails(3, words, *asked(question, bundle))


def test_a_file_that_is_no_tile(program: NativeProgram, bundle: Path, question: Written) -> None:
    question.tiles[0].write_bytes(b"\xff" * 100)
    program.fails(3, "not a safetensors file", *asked(question, bundle))
