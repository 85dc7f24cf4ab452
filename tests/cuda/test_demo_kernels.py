"""Every kernel of the demo model compiles for every preset, with both CUDA majors."""

from __future__ import annotations

import pytest

pytest.importorskip("tvm", reason="compiles the demo model")
from generated import demo_source, resources

from handglass.targets import find_target
from handglass.targets.codegen.cuda.architectures import images_of
from handglass.targets.codegen.cuda.gpu import CudaCapabilities
from handglass.targets.codegen.cuda.nvrtc import Nvrtc
from handglass.targets.codegen.cuda.prelude import with_prelude
from handglass.targets.presets.cuda import CARDS, JETSONS

pytestmark = [pytest.mark.compiler, pytest.mark.cuda]

PRESETS = [row[0] for row in (*JETSONS, *CARDS)]
MOST_STACK = 64
"""Bytes: sinf of a large argument needs some, and ptxas keeps a few registers of a tile there."""
SCHEMES = ("f32", "f16", "w8a8", "w4a8", "w4")


def check(nvrtc: Nvrtc, preset: str, quantization: str) -> None:
    gpu = find_target(preset).gpu
    assert isinstance(gpu, CudaCapabilities)
    source = with_prelude(demo_source(preset, quantization))
    for image in images_of(gpu.capabilities, nvrtc):
        _, log = nvrtc.compile(source, image)
        found = resources(log)
        if image.startswith("sm_"):
            assert len(found) == source.count('extern "C" __global__') / 2  # declared, and defined
        assert {name: used for name, used in found.items() if used.stack > MOST_STACK} == {}
        assert all(used.registers <= 255 for used in found.values())


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_compiles_the_default_scheme(nvrtc: Nvrtc, preset: str) -> None:
    check(nvrtc, preset, "w4a8")


@pytest.mark.parametrize("quantization", [name for name in SCHEMES if name != "w4a8"])
def test_every_scheme_compiles_for_jetson_orin(nvrtc: Nvrtc, quantization: str) -> None:
    check(nvrtc, "jetson-orin", quantization)
