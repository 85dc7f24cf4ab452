"""The probes compute their documented results: skipped work would overestimate the machine."""

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("tvm", reason="compiles with the TVM compiler")
import tvm
from tvm import relax

from handglass.compiler.lowering import dot_probe
from handglass.compiler.lowering.cpu_probes import CHAINS
from handglass.compiler.lowering.probe_function import READ_WIDTH
from handglass.compiler.lowering.probes import add_probes
from handglass.schedules.isa.integer_isa import find_integer_isa
from handglass.targets import find_target
from handglass.targets.codegen.build import build_library

pytestmark = [pytest.mark.compiler, pytest.mark.levels]

HOST = find_target("host")
DOT = find_integer_isa(tvm.target.Target(HOST.tvm))
LANES = HOST.vector_bits // 32


@pytest.fixture(scope="module")
def probes(tmp_path_factory: pytest.TempPathFactory) -> relax.VirtualMachine:
    path = tmp_path_factory.mktemp("probes") / "lib.so"
    build_library(add_probes(tvm.IRModule(), HOST), HOST, Path(path))
    return relax.VirtualMachine(tvm.runtime.load_module(str(path)), tvm.cpu())


def test_read_sums_every_value(probes: relax.VirtualMachine) -> None:
    data = np.random.default_rng(0).integers(-9, 9, (5, 13, READ_WIDTH)).astype(np.float32)
    found = probes["probe_read"](tvm.runtime.tensor(data)).numpy()
    np.testing.assert_array_equal(found, data.sum(axis=1))


@pytest.mark.parametrize("rounds", [0, 1, 2, 7, 40])
def test_fma_does_every_round(probes: relax.VirtualMachine, rounds: int) -> None:
    found = probes["probe_fma"](tvm.runtime.ShapeTuple([3, rounds])).numpy()
    start = np.repeat(np.arange(CHAINS, dtype=np.float32), LANES)
    expected = (start - 1) * 0.5**rounds + 1  # 1 is the fixed point of x/2 + 1/2
    np.testing.assert_allclose(found, np.tile(expected, (3, 1)), rtol=1e-6)


def test_other_functions_stay(probes: relax.VirtualMachine) -> None:
    builder = relax.BlockBuilder()
    x = relax.Var("x", relax.TensorType((4,), "float32"))
    with builder.function("mine", [x]):
        with builder.dataflow():
            out = builder.emit_output(relax.op.add(x, x))
        builder.emit_func_output(out)
    names = {var.name_hint for var, _ in add_probes(builder.get(), HOST).functions_items()}
    assert {"mine", "probe_read", "probe_fma", "probe_dot4", "probe_dot8"} <= names


@pytest.mark.parametrize("bits", [4, DOT.byte_bits])
@pytest.mark.parametrize("rounds", [0, 1, 2, 7, 40])
def test_dot_does_every_round(probes: relax.VirtualMachine, bits: int, rounds: int) -> None:
    codes = DOT.codes(bits)
    count = codes.step * DOT.lanes
    name = "probe_dot4" if bits == 4 else "probe_dot8"
    found = probes[name](tvm.runtime.ShapeTuple([2, rounds])).numpy()
    k = np.arange(dot_probe.CHAINS * count)
    rows = np.arange(rounds)[:, None] % dot_probe.VARIANTS
    x = (rows + k) % 5 - 2  # (rounds, products)
    sums = 3 * x.sum(axis=0).reshape(-1, codes.step).sum(axis=1)
    assert found.shape == (2, len(k))
    np.testing.assert_array_equal(found, np.tile(sums, (2, codes.step)))
