"""What the PTX emulator finds: a correct kernel runs, and each defect put into it is reported."""

import re

import numpy as np
import pytest

pytest.importorskip("ml_dtypes", reason="imported by the cases")
from emulator.launch import LATE, UNINITIALISED_ALLOWED, LaunchError
from ptx_kernels import HEADER, entry, module, place

THREADS = 128
# Two tiles come by cp.async; a thread adds the words of another warp's threads in both.
PIPELINE = (
    """
.shared .align 16 .b8 tiles[1024];
mov.u32 %r0, tiles; shl.b32 %r1, %t, 2; add.u32 %r2, %r0, %r1; mov.u32 %r9, 0; mov.u32 %r8, 0;
"""
    + place("%d0", "%x", "%t", 4)
    + place("%d1", "%y", "%t", 4)
    + """
cp.async.ca.shared.global [%r2], [%d0], 4;
cp.async.commit_group;
$NEXT: cp.async.wait_group 0;
bar.sync 0;
xor.b32 %r4, %r1, 256; add.u32 %r5, %r0, %r4; ld.shared.u32 %r6, [%r5];
add.u32 %r9, %r9, %r6;
shfl.sync.bfly.b32 %r7|%p1, %r6, 1, 31, -1;
add.u32 %r9, %r9, %r7;
barrier.sync 0;
add.u32 %r8, %r8, 1; setp.eq.u32 %p0, %r8, 2;
@%p0 bra $DONE;
cp.async.ca.shared.global [%r2], [%d0+512], 4;
cp.async.commit_group;
bra.uni $NEXT;
$DONE: st.global.u32 [%d1], %r9;
"""
)


def run(body: str, inputs: int = 2 * THREADS, mode: int = LATE) -> np.ndarray:
    x, y = np.arange(inputs, dtype="u4") + 3, np.zeros(THREADS, "u4")
    module(entry("pipeline", "u64 x, u64 y", body)).launch(
        "pipeline", [1], [THREADS], x, y, mode=mode
    )
    return y


def test_a_correct_kernel_passes() -> None:
    tiles = np.arange(2 * THREADS, dtype="u4").reshape(2, THREADS) + 3
    other = tiles[:, np.arange(THREADS) ^ 64]
    assert (run(PIPELINE) == (other + other[:, np.arange(THREADS) ^ 1]).sum(0)).all()


ELSEWHERE = "setp.lt.u32 %p2, %t, 96; @%p2 bra $A; bar.sync 0; bra $B;\n$A: bar.sync 0; $B:"
DEFECTS = {
    "barrier before reading": ("bar.sync 0;", "", "race: read|uninitialised"),
    "barrier after reading": ("barrier.sync 0;", "", "race: read of shared memory that another"),
    "wait": ("cp.async.wait_group 0;", "", "used before the wait for its cp.async"),
    "wait for one too few": ("wait_group 0", "wait_group 1", "before the wait for its cp.async"),
    "shuffle in a branch": (
        "shfl.sync",
        "setp.lt.u32 %p2, %lane, 9; @%p2 shfl.sync",
        "divergent collective",
    ),
    "mask of a shuffle": ("1, 31, -1;", "1, 31, 65535;", "whose mask does not name them"),
    "barrier of some lanes": (
        "bar.sync 0;",
        "setp.ne.u32 %p2, %t, 7; @%p2 bar.sync 0;",
        "barrier in a divergent warp",
    ),
    "barrier of some warps": ("bar.sync 0;", ELSEWHERE, "divergent barrier"),
    "read beyond shared memory": ("%r4, %r1, 256", "%r4, %r1, 2048", "shared access out of bounds"),
    "uninitialised": ("%r4, %r1, 256", "%r4, %r1, 512", "uninitialised"),
    "misaligned": ("st.global.u32 [%d1]", "st.global.u32 [%d1+2]", "misaligned"),
    "store beyond the buffer": ("st.global.u32 [%d1]", "st.global.u32 [%d1+4]", "outside every"),
}
"""What is replaced, by what, and a pattern of the message."""


def found(body: str, **options: int) -> str:
    with pytest.raises(LaunchError) as error:
        run(body, **options)
    return str(error.value)


@pytest.mark.cuda
@pytest.mark.parametrize("defect", DEFECTS)
def test_a_defect_is_found(defect: str) -> None:
    old, new, words = DEFECTS[defect]
    body = re.sub(rf"(?<!\w){re.escape(old)}", lambda _: new, PIPELINE)
    assert body != PIPELINE
    assert re.search(words, found(body))


def test_a_short_buffer_is_found_with_the_line() -> None:
    copy = "cp.async.ca.shared.global [%r2], [%d0+512], 4"
    text = HEADER + entry("pipeline", "u64 x, u64 y", PIPELINE)
    line = text[: text.index(copy)].count("\n") + 1
    message = found(PIPELINE, inputs=2 * THREADS - 1)
    assert message.startswith(f"pipeline, block (0, 0, 0), line {line}: global access outside")
    assert message.endswith(copy)


@pytest.mark.cuda
def test_a_missing_wait_hides_if_copies_land_at_once() -> None:
    body = PIPELINE.replace("cp.async.wait_group 0;", "")
    assert (run(body, mode=0) == run(PIPELINE)).all()


@pytest.mark.cuda
def test_uninitialised_memory_is_nan() -> None:
    body = ".shared .align 4 .b8 box[4]; ld.shared.f32 %f0, [box]; setp.nan.f32 %p0, %f0, %f0;"
    body += "selp.u32 %r0, 1, 0, %p0; st.global.u32 [%y], %r0;"
    kernels, y = module(entry("odd", "u64 y", body)), np.zeros(1, "u4")
    kernels.launch("odd", [1], [1], y, mode=UNINITIALISED_ALLOWED)
    assert y[0] == 1
    with pytest.raises(LaunchError, match="uninitialised"):
        kernels.launch("odd", [1], [1], y)


BYTES = """
.shared .align 4 .b8 box[64];
shr.u32 %r0, %t, 5; mov.u32 %r1, box; add.u32 %r1, %r1, %r0; cvt.u16.u32 %h0, %t;
setp.eq.u32 %p0, %lane, 0; @%p0 st.shared.u8 [%r1], %h0;
"""


@pytest.mark.cuda
def test_neighbouring_bytes_are_no_race() -> None:
    """Two warps write two bytes of one word."""
    module(entry("bytes", "u64 y", BYTES)).launch("bytes", [1], [64], np.zeros(1, "u4"))
    same = BYTES.replace("add.u32 %r1, %r1, %r0;", "")
    with pytest.raises(LaunchError, match="race: write"):
        module(entry("bytes", "u64 y", same)).launch("bytes", [1], [64], np.zeros(1, "u4"))


def test_a_loop_without_an_end() -> None:
    body = "$AGAIN: add.u32 %r0, %r0, 1; bra.uni $AGAIN;"
    with pytest.raises(LaunchError, match=r"line \d+: a loop without an end .*add\.u32"):
        module(entry("endless", "u64 y", body)).launch("endless", [1], [32], np.zeros(1, "u4"))
