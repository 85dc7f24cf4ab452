"""The work of a kernel, as the compiler stores it and the runtime reads it, against hand counts."""

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("tvm", reason="builds functions with the TVM compiler")
from tvm import te, tirx

from handglass.compiler.lowering.work import work_of
from handglass.compiler.ops.attention import attention
from handglass.compiler.ops.matmul import matmul
from handglass.errors import InputError, MismatchError
from handglass.runtime.bundle.entries import FileEntry
from handglass.runtime.bundle.reader import Bundle
from handglass.runtime.bundle.report import Kernel, read_report

pytestmark = [pytest.mark.compiler]


def kernel(func: tirx.PrimFunc) -> Kernel:
    """The kernel after a round trip through JSON, as in `report.json`."""
    return Kernel("f", "rule", 1, (), json.loads(json.dumps(work_of(func))))


def test_matmul_of_any_number_of_rows() -> None:
    m = te.var("m", "int64")
    x = te.placeholder((m, 40), "float32", name="x")
    w = te.placeholder((3, 40, 16), "float32", name="w")
    found = kernel(te.create_prim_func([x, w, matmul(x, 45, 40, w)]))
    sizes = ((7, 40), (3, 40, 16), (7, 45))
    assert found.flops(sizes) == 2 * 7 * 40 * 48  # whole panels, no padding of rows
    assert found.bytes(sizes, (4, 4, 4)) == 4 * (7 * 40 + 3 * 40 * 16 + 7 * 45)


def test_one_row() -> None:
    x = te.placeholder((1, 40), "float32", name="x")
    w = te.placeholder((3, 40, 16), "float16", name="w")
    y = matmul(x, 48, 40, lambda b, k, lane: w[b, k, lane].astype("float32"))
    found = kernel(te.create_prim_func([x, w, y]))
    sizes = ((1, 40), (3, 40, 16), (1, 48))
    assert found.flops(sizes) == 2 * 40 * 48
    assert found.bytes(sizes, (4, 2, 4)) == 4 * 40 + 2 * 3 * 40 * 16 + 4 * 48


def test_attention_reads_the_past_and_not_the_whole_cache() -> None:
    """One query of 6 heads over 2 kv heads of 8, in a cache of 512 positions."""
    pos = te.var("pos", "int64")
    q = te.placeholder((1, 6, 8), "float32", name="q")
    keys = te.placeholder((2, 32, 8, 16), "float16", name="keys")
    values = te.placeholder((2, 512, 8), "float16", name="values")
    out = attention(q, keys, values, 1.0, lambda i: pos + i + 1)
    found = kernel(te.create_prim_func([q, keys, values, pos, out]))
    sizes = ((1, 6, 8), (2, 32, 8, 16), (2, 512, 8), 32, (1, 48))
    past = 2 * 2 * 8 * 33  # bytes of keys, and of values
    assert found.bytes(sizes, (4, 2, 2, 0, 4)) == 4 * 48 + 2 * past + 4 * 48
    assert found.flops(sizes) == 2 * 2 * 6 * 33 * 8


def test_attention_of_many_queries_does_not_count_what_they_may_not_see() -> None:
    s, pos = te.var("s", "int64"), te.var("pos", "int64")
    q = te.placeholder((s, 6, 8), "float32", name="q")
    keys = te.placeholder((2, 32, 8, 16), "float16", name="keys")
    values = te.placeholder((2, 512, 8), "float16", name="values")
    out = attention(q, keys, values, 1.0, lambda i: pos + i + 1)
    found = kernel(te.create_prim_func([q, keys, values, pos, out]))
    sizes = ((5, 6, 8), (2, 32, 8, 16), (2, 512, 8), 27, (5, 48))
    assert found.flops(sizes) == 2 * 2 * 6 * 8 * (28 + 29 + 30 + 31 + 32)
    assert found.bytes(sizes, (4, 2, 2, 0, 4)) == 2 * 4 * 5 * 48 + 2 * 2 * 2 * 8 * 32


def test_a_gather_reads_the_rows_that_it_needs() -> None:
    s = te.var("s", "int64")
    ids = te.placeholder((s,), "int32", name="ids")
    table = te.placeholder((1000, 12), "float32", name="table")
    rows = te.compute((s, 12), lambda i, j: table[ids[i], j], name="rows")
    found = kernel(te.create_prim_func([ids, table, rows]))
    sizes = ((3,), (1000, 12), (3, 12))
    assert found.flops(sizes) == 0
    assert found.bytes(sizes, (4, 4, 4)) == 4 * 3 + 4 * 3 * 12 + 4 * 3 * 12
    many = ((5000,), (1000, 12), (5000, 12))
    assert found.bytes(many, (4, 4, 4)) == 4 * 5000 + 4 * 1000 * 12 + 4 * 5000 * 12


def test_what_is_no_sum_of_lengths_is_not_told() -> None:
    s = te.var("s", "int64")
    x = te.placeholder((s,), "float32", name="x")
    square = te.compute((s * s,), lambda i: x[i % s], name="square")
    assert work_of(te.create_prim_func([x, square])) is None
    unknown = Kernel("f", "rule", 1, (), None)
    assert unknown.flops(((3,), (9,))) is None
    assert unknown.bytes(((3,), (9,)), (4, 4)) == 48


@pytest.mark.slow
def test_report_of_a_bundle(small_bundle: Path) -> None:
    kernels = read_report(Bundle.open(small_bundle))
    rules = {kernel.rule for kernel in kernels.values()}
    assert {"cpu-matmul", "cpu-attention", "cpu-rows"} <= rules
    assert all(kernel.work is not None for kernel in kernels.values())
    text = json.loads((small_bundle / "report.json").read_text("utf-8"))
    assert set(text["phases"]) >= {"lower", "pack", "codegen"}
    assert text["versions"]["tvm"]


@pytest.mark.slow
def test_a_bundle_without_report(small_bundle: Path) -> None:
    manifest = Bundle.open(small_bundle).manifest
    files = {name: entry for name, entry in manifest.files.items() if name != "report.json"}
    bundle = Bundle(small_bundle, replace(manifest, files=files))
    with pytest.raises(MismatchError, match=r"report\.json"):
        read_report(bundle)


@pytest.mark.slow
@pytest.mark.parametrize("text", ["", "{}", '{"kernels": 3}', '{"kernels": [{"name": 1}]}'])
def test_a_spoilt_report(small_bundle: Path, tmp_path: Path, text: str) -> None:
    (tmp_path / "report.json").write_text(text)
    manifest = Bundle.open(small_bundle).manifest
    entry = FileEntry(hashlib.sha256(text.encode()).hexdigest(), len(text))
    bundle = Bundle(tmp_path, replace(manifest, files={**manifest.files, "report.json": entry}))
    with pytest.raises(InputError, match=r"report\.json"):
        read_report(bundle)
