"""Every kernel of a model compiles for every preset, with both CUDA majors."""

from __future__ import annotations

import pytest

pytest.importorskip("tvm", reason="compiles the demo model")
from generated import demo_source, release_source
from thinned import only, thinned

from handglass.targets import find_target
from handglass.targets.codegen.cuda.architectures import images_of
from handglass.targets.codegen.cuda.gpu import CudaCapabilities
from handglass.targets.codegen.cuda.nvrtc import Nvrtc
from handglass.targets.codegen.cuda.packages import MAJORS
from handglass.targets.codegen.cuda.prelude import with_prelude
from handglass.targets.codegen.cuda.spills import compile_image, resources
from handglass.targets.presets.cuda import CARDS, JETSONS

pytestmark = [pytest.mark.compiler, pytest.mark.cuda]

PRESETS = [row[0] for row in (*JETSONS, *CARDS)]
MOST_STACK = 64
"""Bytes: sinf of a large argument needs an array."""
MOST_SPILLED = {"sm_120": 80}
"""Bytes, by image: causal attention with heads of 256 spills outside of its loop
(test_flash_code.py)."""
DECLARED = 'extern "C" __global__'
OTHER_SCHEMES = ("f32", "f16", "w8a8", "w4")


def chips_of(preset: str) -> tuple[int, ...]:
    gpu = find_target(preset).gpu
    assert isinstance(gpu, CudaCapabilities)
    return gpu.capabilities


CASES = [
    (major, preset, number)
    for preset in PRESETS
    for number in range(len(chips_of(preset)) + 1)
    for major in MAJORS
]
"""The last image of a preset is PTX."""
FEW = {(MAJORS[n % 2], preset, 0) for n, preset in enumerate(PRESETS)} | {(12, "rtx-30", 1)}
"""An image takes NVRTC up to half a minute, so each preset has one, and one is PTX."""


def check(nvrtc: Nvrtc, preset: str, source: str, number: int) -> None:
    """Compile the source for a chip of a preset; no kernel may keep its sums in memory."""
    image = images_of(chips_of(preset), nvrtc)[number]
    _, log = compile_image(nvrtc, with_prelude(source), image)
    found, spilled = resources(log), MOST_SPILLED.get(image, 0)
    if image.startswith("sm_"):
        assert len(found) == source.count(DECLARED) / 2  # declared, and defined
    assert {name: used for name, used in found.items() if used.spilled > spilled} == {}
    assert {name: used for name, used in found.items() if used.stack > MOST_STACK} == {}
    assert all(used.registers <= 255 for used in found.values())


@pytest.mark.parametrize(("nvrtc", "preset", "number"), only(FEW, CASES), indirect=["nvrtc"])
def test_every_preset_compiles_the_default_scheme(nvrtc: Nvrtc, preset: str, number: int) -> None:
    check(nvrtc, preset, demo_source(preset, "w4a8"), number)


@pytest.mark.parametrize(
    ("nvrtc", "quantization"), thinned(2, MAJORS, OTHER_SCHEMES), indirect=["nvrtc"]
)
def test_every_scheme_compiles_for_jetson_orin(nvrtc: Nvrtc, quantization: str) -> None:
    check(nvrtc, "jetson-orin", demo_source("jetson-orin", quantization), 0)


@pytest.mark.large
@pytest.mark.parametrize(("nvrtc", "preset", "number"), CASES, indirect=["nvrtc"])
@pytest.mark.parametrize("release", ["seed", "4.6"])
def test_every_preset_compiles_a_release_at_full_size(
    nvrtc: Nvrtc, release: str, preset: str, number: int
) -> None:
    check(nvrtc, preset, release_source(release, preset, "w4a8"), number)
