"""The known answer of tensor cores: right on chips with and without m16n8k16."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("tvm", reason="compiles with the TVM compiler")

from cuda_kernels import image, kernels_of, target_of
from emulator.launch import Module

from handglass.compiler.parity.known_kernels import Known, known_kernels
from handglass.runtime.execution.known_answers import Case, arrays_of
from handglass.targets import find_target
from handglass.targets.presets.cuda import CARDS, JETSONS

pytestmark = pytest.mark.compiler

FAMILY = "tensor cores"
PRESETS = [row[0] for row in (*CARDS, *JETSONS)]


def probe_of(preset: str) -> list[Known]:
    with target_of(preset) as target:
        return [
            known
            for known in known_kernels(target, find_target(preset).kind)
            if known.family == FAMILY
        ]


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_has_one(preset: str) -> None:
    assert len(probe_of(preset)) == 1


def test_other_gpus_have_none() -> None:
    assert find_target("vulkan").gpu is not None and not probe_of("vulkan")


@pytest.mark.cuda
@pytest.mark.parametrize("architecture", ["compute_75", "compute_80"])
def test_the_answer(architecture: str) -> None:
    (known,) = probe_of("cuda")
    case = Case(known.name, FAMILY, "", "", tuple(known.items), 20, {}, None)
    a, b, out = map(np.asarray, arrays_of(case))
    kernels = kernels_of(known.func, target_of("cuda"))
    module = Module(image(kernels.source, architecture, 13)[0].decode().rstrip("\0"))
    (launch,) = kernels.launches
    given = {"a": a, "b": b, "out": out}
    arguments = [given[argument.args[0].name] for argument in launch.arguments]
    counts = module.launch(launch.kernel, [len(a) // 16], [32], *arguments)
    np.testing.assert_allclose(out, known.answer(a, b), rtol=1e-5, atol=1e-5)
    assert counts.mma == len(a) // 16 * (2 if architecture == "compute_75" else 1)
