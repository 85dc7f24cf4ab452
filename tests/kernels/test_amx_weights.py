"""Weights in bfloat16 for AMX: how they are stored and rounded; one row, which needs no tiles."""

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("tvm", reason="compiles with the TVM compiler")

import tvm
from odd_models import UNTIED, write_checkpoint
from test_amx import HOST, SHAPES, TILES
from test_integer_matmul import normal, placeholder, run
from tolerance import KERNEL
from tvm import te

from handglass.compiler.models import layers
from handglass.compiler.ops.bfloat16 import bfloat16_bits as bits_of
from handglass.compiler.parity.stored_weights import round_bfloat16
from handglass.compiler.schemes.quantize import find_scheme
from handglass.compiler.schemes.scheme import selection_of
from handglass.runtime.bundle.bfloat16 import bfloat16_bits
from handglass.schedules import CPU_RULES
from handglass.schedules.rule import schedule_function

pytestmark = [pytest.mark.compiler, pytest.mark.levels]


@pytest.mark.parametrize(("n", "k"), SHAPES)
def test_one_row_reads_the_same_weights(n: int, k: int) -> None:
    scheme = find_scheme("bf16", TILES)
    x = placeholder((1, k), "float32", "x")
    parts = [placeholder(s, d, name) for name, (s, d) in scheme.shapes(n, k).items()]
    y = layers.product(scheme, selection_of(scheme).one_row, (n, k), 1, x, *parts)
    func = te.create_prim_func([x, *parts, y]).with_attr("global_symbol", "main")
    taken = schedule_function(func, CPU_RULES, HOST)
    assert taken is not None and taken[1].name == "cpu-matmul"
    weight, row = normal(n, k), normal(1, k)
    packed = scheme.pack(weight)
    kernel = tvm.compile(taken[0].mod, HOST)["main"]
    (y,) = run(kernel, [row, *packed.values()], np.zeros((1, n), np.float32))
    KERNEL.check(y, row.astype(np.float64) @ scheme.unpack(packed, n, k).T)


def test_pack_and_unpack() -> None:
    scheme, plain = find_scheme("bf16", TILES), find_scheme("bf16")
    weight = normal(37, 50)
    parts = scheme.pack(weight)
    assert {n: (p.shape, p.dtype.name) for n, p in parts.items()} == scheme.shapes(37, 50)
    kept = scheme.unpack(parts, 37, 50)
    assert np.array_equal(kept, plain.unpack(plain.pack(weight), 37, 50))
    assert parts["weight"].view("<u2").reshape(3, 2, 16, 16, 2)[1, 1, 3, 4, 1] == bfloat16_bits(
        weight[20:21, 39]
    )


def test_rounding_to_bfloat16() -> None:
    """Ties to even; any NaN stays NaN; infinities and denormals are preserved."""
    words = "3f808000 3f818000 3f808001 7f7fffff 7f800000 ff800000 00000001 80008000 00018000"
    nans = "7f800001 7fffffff ffc00000"
    bits = np.array([int(word, 16) for word in f"{words} {nans}".split()], np.uint32)
    values = np.concatenate([bits.view(np.float32), normal(500)])
    x = te.placeholder((len(values),), "float32", name="x")
    y = te.compute(x.shape, lambda i: bits_of(x[i]), name="y")
    kernel = tvm.compile(tvm.IRModule({"main": te.create_prim_func([x, y])}), HOST)["main"]
    (got,) = run(kernel, [values], np.zeros(len(values), np.uint16))
    back = (got.astype(np.uint32) << 16).view(np.float32)
    assert np.array_equal(np.isnan(back), np.isnan(values))
    finite = ~np.isnan(values)
    assert np.array_equal(got[finite], bfloat16_bits(values[finite]))


def test_verify_rounds_as_the_target_does(tmp_path: Path) -> None:
    """Many rows are rounded to bfloat16; single rows (decode, head) are not."""
    from handglass.compiler.checkpoints.checkpoint import Checkpoint
    from handglass.compiler.models import find_family
    from handglass.compiler.models.storage import choose_storage
    from handglass.compiler.parity.stored_weights import StoredWeights, round_rows

    weights = Checkpoint.open(write_checkpoint(tmp_path / "c", UNTIED, "float32"))
    family = find_family(weights.config)
    config = family.configure(weights.config)
    storage = choose_storage(config.language, TILES, "w4a8", "bf16", 64, None)
    stored = StoredWeights(weights, family.build(weights, config, storage)).with_rows_alone(2)
    x = normal(5, UNTIED["hidden_size"])
    met = stored.rounded("llm.model.layers.0.self_attn.q_proj.weight", x)
    assert np.array_equal(met[:3], round_bfloat16(x[:3]))
    assert np.array_equal(met[3:], round_rows(x[3:], 32))
    assert np.array_equal(stored.rounded("llm.lm_head.weight", x, alone=True), round_rows(x, 32))
