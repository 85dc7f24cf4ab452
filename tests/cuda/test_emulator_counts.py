"""Exact counts of the PTX emulator for access patterns whose cost is known."""

import numpy as np
import pytest

pytest.importorskip("ml_dtypes", reason="imported by the cases")
from emulator.launch import Counts
from ptx_kernels import entry, module

pytestmark = pytest.mark.cuda

WIDTHS = {4: "u32 %r2", 8: "v2.u32 {%r2, %r3}", 16: "v4.u32 {%r2, %r3, %r4, %r5}"}
# A lane touches the place stride * lane + start.
GLOBAL = """
mul.lo.u32 %r0, %t, %stride; add.u32 %r0, %r0, %start; cvt.u64.u32 %d0, %r0; add.s64 %d0, %d0, %x;
ld.global.{width}, [%d0];
"""
SHARED = """
.shared .align 16 .b8 box[8192];
mov.u32 %r1, box; mul.lo.u32 %r0, %t, %stride; add.u32 %r0, %r0, %start; add.u32 %r0, %r0, %r1;
st.shared.{store};
"""


def text_of(space: str, width: int) -> str:
    kind, _, register = WIDTHS[width].partition(" ")
    if space == "global":
        return GLOBAL.format(width=f"{kind} {register}")
    return SHARED.format(store=f"{kind} [%r0], {register}")


@pytest.fixture(scope="module")
def kernels() -> object:
    params = "u64 x, u32 stride, u32 start"
    names = [(space, width) for space in ("global", "shared") for width in WIDTHS]
    return module("".join(entry(f"{s}{w}", params, text_of(s, w)) for s, w in names))


def counted(kernels, name: str, stride: int, start: int = 0, block: int = 32) -> Counts:  # type: ignore[no-untyped-def]
    return kernels.launch(name, [1], [block], np.zeros(4096, "u4"), stride, start)


@pytest.mark.parametrize(
    "width, stride, start, sectors",
    [
        (4, 4, 0, 4),
        (4, 4, 16, 5),  # not aligned to a sector
        (4, 8, 0, 8),
        (4, 32, 0, 32),
        (4, 128, 0, 32),
        (4, 0, 0, 1),
        (8, 8, 0, 8),
        (16, 16, 0, 16),
        (16, 32, 16, 32),
    ],
)
def test_sectors(kernels, width: int, stride: int, start: int, sectors: int) -> None:  # type: ignore[no-untyped-def]
    counts = counted(kernels, f"global{width}", stride, start)
    assert (counts.global_requests, counts.global_sectors) == (1, sectors)
    assert counts.global_bytes == 32 * width


@pytest.mark.parametrize(
    "width, stride, ideal, wavefronts",
    [
        (4, 4, 1, 1),
        (4, 0, 1, 1),  # one word for all lanes
        (4, 8, 1, 2),
        (4, 16, 1, 4),
        (4, 128, 1, 32),
        (4, 132, 1, 1),  # padded by a word
        (4, 12, 1, 1),
        (8, 8, 2, 2),
        (8, 16, 2, 4),
        (16, 16, 4, 4),
        (16, 128, 4, 32),
        (16, 144, 4, 4),
    ],
)
def test_wavefronts(kernels, width: int, stride: int, ideal: int, wavefronts: int) -> None:  # type: ignore[no-untyped-def]
    counts = counted(kernels, f"shared{width}", stride)
    assert (counts.shared_ideal, counts.shared_wavefronts) == (ideal, wavefronts)
    assert counts.bank_conflicts == wavefronts - ideal


def test_instructions(kernels) -> None:  # type: ignore[no-untyped-def]
    """Of each warp; with 40 threads, all of the second warp's ran without all lanes."""
    whole = counted(kernels, "global4", 4)
    both = counted(kernels, "global4", 4, block=40)
    assert whole.instructions == 2 + 3 + 5 + 1 and whole.divergent == 0
    assert both.instructions == 2 * whole.instructions and both.divergent == whole.instructions
    assert both.global_sectors == 4 + 1
