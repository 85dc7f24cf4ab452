"""Warps of the PTX emulator: shuffles, votes, reductions, branches and barriers."""

from collections.abc import Callable

import numpy as np
import pytest

pytest.importorskip("ml_dtypes", reason="imported by the cases")
from emulator.launch import LaunchError
from ptx_kernels import entry, module, place

pytestmark = pytest.mark.cuda

LANES = 32
MODES = ("up", "down", "bfly", "idx")
SHUFFLE = (
    place("%d0", "%x", "%lane", 4)
    + place("%d1", "%y", "%lane", 4)
    + place("%d2", "%ok", "%lane", 4)
)
SHUFFLE += "ld.global.u32 %r0, [%d0]; shfl.sync.{mode}.b32 %r1|%p1, %r0, %distance, %limits, -1;"
SHUFFLE += "st.global.u32 [%d1], %r1; selp.u32 %r2, 1, 0, %p1; st.global.u32 [%d2], %r2;"


def shuffled(mode: str, lane: int, distance: int, limits: int) -> tuple[int, int]:
    """The pseudo code of the manual: the lane that is read, and whether it is in range."""
    segment_mask, clamp, b = limits >> 8 & 31, limits & 31, distance & 31
    most = (lane & segment_mask) | (clamp & ~segment_mask)
    least = lane & segment_mask
    if mode == "up":
        j = lane - b
        return (j, 1) if j >= most else (lane, 0)
    if mode == "down":
        j = lane + b
    elif mode == "bfly":
        j = lane ^ b
    else:
        j = least | (b & ~segment_mask)
    return (j, 1) if j <= most else (lane, 0)


def test_shuffles() -> None:
    params = "u64 x, u64 y, u64 ok, u32 distance, u32 limits"
    kernels = module("".join(entry(m, params, SHUFFLE.format(mode=m)) for m in MODES))
    x, y, ok = np.arange(100, 132, dtype="u4"), np.zeros(32, "u4"), np.zeros(32, "u4")
    for mode in MODES:
        clamp = 0 if mode == "up" else 31
        for width in (32, 16, 4):
            limits = (LANES - width) << 8 | clamp
            for distance in (0, 1, 3, 15, 31):
                kernels.launch(mode, [1], [32], x, y, ok, distance, limits)
                truth = [shuffled(mode, lane, distance, limits) for lane in range(LANES)]
                assert y.tolist() == [x[j] for j, _ in truth]
                assert ok.tolist() == [valid for _, valid in truth]


COLLECTIVES = {
    "ballot": "setp.gt.s32 %p0, %r0, 5; vote.sync.ballot.b32 %r1, %p0, -1;",
    "any": "setp.gt.s32 %p0, %r0, 5; vote.sync.any.pred %p1, %p0, -1; selp.u32 %r1, 1, 0, %p1;",
    "all": "setp.gt.s32 %p0, %r0, -9; vote.sync.all.pred %p1, %p0, -1; selp.u32 %r1, 1, 0, %p1;",
    "match_any": "match.any.sync.b32 %r1, %r0, -1;",
    "match_all": "mov.u32 %r2, 4; match.all.sync.b32 %r1|%p1, %r2, -1;",
    "redux_add": "redux.sync.add.s32 %r1, %r0, -1;",
    "redux_max": "redux.sync.max.s32 %r1, %r0, -1;",
    "redux_umin": "redux.sync.min.u32 %r1, %r0, -1;",
    "redux_xor": "redux.sync.xor.b32 %r1, %r0, -1;",
    "active": "activemask.b32 %r1;",
}


def bit_mask(flags: np.ndarray) -> int:
    return sum(1 << i for i, flag in enumerate(flags) if flag)


def test_collectives() -> None:
    load = place("%d0", "%x", "%lane", 4) + place("%d1", "%y", "%lane", 4)
    texts = {
        n: f"{load} ld.global.u32 %r0, [%d0]; {b} st.global.u32 [%d1], %r1;"
        for n, b in COLLECTIVES.items()
    }
    kernels = module("".join(entry(n, "u64 x, u64 y", b) for n, b in texts.items()))
    x = np.random.default_rng(3).integers(-8, 20, LANES).astype("i4")
    truths: dict[str, Callable] = {
        "ballot": lambda lane: bit_mask(x > 5),
        "any": lambda lane: (x > 5).any(),
        "all": lambda lane: (x > -9).all(),
        "match_any": lambda lane: bit_mask(x == x[lane]),
        "match_all": lambda lane: 0xFFFFFFFF,
        "redux_add": lambda lane: int(x.sum()) & 0xFFFFFFFF,
        "redux_max": lambda lane: int(x.max()),
        "redux_umin": lambda lane: int(x.view("u4").min()),
        "redux_xor": lambda lane: int(np.bitwise_xor.reduce(x.view("u4"))),
        "active": lambda lane: 0xFFFFFFFF,
    }
    for name, truth in truths.items():
        y = np.zeros(LANES, "u4")
        kernels.launch(name, [1], [LANES], x, y)
        assert y.tolist() == [truth(lane) for lane in range(LANES)], name


LOOP = """
mov.u32 %r0, 0; mov.u32 %r1, %t;
$AGAIN: setp.eq.u32 %p0, %r1, 0; @%p0 bra $DONE;
and.b32 %r2, %r1, 1; setp.eq.u32 %p1, %r2, 0; @%p1 bra $EVEN;
mad.lo.u32 %r1, %r1, 3, 1; add.u32 %r0, %r0, 1; bra $AGAIN;
$EVEN: shr.u32 %r1, %r1, 1; add.u32 %r0, %r0, 1;
setp.eq.u32 %p3, %r1, 1; @%p3 bra $DONE; bra.uni $AGAIN;
$DONE: activemask.b32 %r5;
"""


def collatz(n: int) -> int:
    steps = 0
    while n not in (0, 1) or (n == 1 and steps == 0):
        n = n // 2 if n % 2 == 0 else 3 * n + 1
        steps += 1
    return steps


def test_lanes_take_their_own_ways_and_join() -> None:
    """Every lane loops as often as its number asks; all lanes are together at the end."""
    body = LOOP + place("%d0", "%y", "%t", 4) + "st.global.u32 [%d0], %r0;"
    body += place("%d1", "%z", "%t", 4) + "st.global.u32 [%d1], %r5;"
    kernels = module(entry("ways", "u64 y, u64 z", body))
    y, z = np.zeros(96, "u4"), np.zeros(96, "u4")
    counts = kernels.launch("ways", [1], [96], y, z)
    assert y.tolist() == [collatz(n) for n in range(96)]
    assert (z == 0xFFFFFFFF).all() and counts.divergent > 0


SWITCH = """
and.b32 %r0, %t, 3; setp.gt.u32 %p0, %r0, 2; @%p0 bra $OTHER;
$LIST: .branchtargets $ZERO, $ONE, $TWO;
brx.idx %r0, $LIST;
$ZERO: mov.u32 %r1, 10; bra.uni $END;
$ONE: mov.u32 %r1, 20; bra.uni $END;
$TWO: mov.u32 %r1, 30; bra.uni $END;
$OTHER: mov.u32 %r1, 40;
$END:
"""


def test_indexed_branch_and_early_exit() -> None:
    body = SWITCH + "setp.ge.u32 %p1, %t, %n; @%p1 exit;" + place("%d0", "%y", "%t", 4)
    kernels = module(
        entry("choose", "u64 y, u32 n", body + "bar.sync 0; st.global.u32 [%d0], %r1;")
    )
    y = np.zeros(40, "u4")
    kernels.launch("choose", [1], [64], y, 40)
    assert y.tolist() == [(10, 20, 30, 40)[i & 3] for i in range(40)]


def test_threads_and_blocks_have_their_numbers() -> None:
    names = ("tid.x", "tid.y", "tid.z", "ntid.y", "ctaid.x", "ctaid.y", "ctaid.z", "nctaid.z")
    body = "mov.u32 %r0, 0;"
    for name in names:
        body += f"mov.u32 %r1, %{name}; mad.lo.u32 %r0, %r0, 10, %r1;"
    body += "mov.u32 %r2, %ctaid.x; mov.u32 %r3, %ctaid.y; mov.u32 %r4, %ctaid.z;"
    body += "mad.lo.u32 %r5, %r4, 3, %r3; mad.lo.u32 %r5, %r5, 2, %r2; mul.lo.u32 %r5, %r5, 30;"
    body += "mov.u32 %r6, %tid.y; mov.u32 %r7, %tid.z; mad.lo.u32 %r8, %r7, 3, %r6;"
    body += "mad.lo.u32 %r8, %r8, 5, %t; add.u32 %r5, %r5, %r8;"
    kernels = module(
        entry("where", "u64 y", body + place("%d0", "%y", "%r5", 4) + "st.global.u32 [%d0], %r0;")
    )
    y = np.zeros((2, 3, 2, 2, 3, 5), "u4")
    kernels.launch("where", [2, 3, 2], [5, 3, 2], y)
    for (cz, cy, cx, tz, ty, tx), found in np.ndenumerate(y):
        assert found == int("".join(map(str, (tx, ty, tz, 3, cx, cy, cz, 2))))


HALVES = """
.shared .align 4 .b8 box[256];
setp.lt.u32 %p0, %t, 64; shl.b32 %r0, %t, 2; mov.u32 %r1, box; @!%p0 bra $READS;
add.u32 %r2, %r1, %r0; st.shared.u32 [%r2], %t; bar.arrive 1, 128; bra.uni $END;
$READS: sub.u32 %r3, %t, 64; bar.sync 1, 128; xor.b32 %r4, %r3, 63; shl.b32 %r5, %r4, 2;
add.u32 %r6, %r1, %r5; ld.shared.u32 %r7, [%r6];
"""


def test_barrier_of_some_threads() -> None:
    """64 threads write and only arrive, 64 wait and read what they wrote, in reverse."""
    body = HALVES + place("%d0", "%y", "%r3", 4) + "st.global.u32 [%d0], %r7; $END:"
    kernels = module(entry("pair", "u64 y", body))
    y = np.zeros(64, "u4")
    assert kernels.launch("pair", [1], [128], y).barriers == 1
    assert y.tolist() == list(range(63, -1, -1))


@pytest.mark.parametrize("count, what", [(96, "more threads"), (160, "not all threads reach")])
def test_barrier_with_a_wrong_count(count: int, what: str) -> None:
    body = HALVES.replace("1, 128", f"1, {count}")
    body += place("%d0", "%y", "%r3", 4) + "st.global.u32 [%d0], %r7; $END:"
    with pytest.raises(LaunchError, match=what):
        module(entry("pair", "u64 y", body)).launch("pair", [1], [128], np.zeros(64, "u4"))


OUT_OF_LINE = """
.shared .align 4 .b8 box[256];
mov.u32 %r1, box; shl.b32 %r2, %t, 2; add.u32 %r1, %r1, %r2; mov.u32 %r3, %t;
setp.ge.u32 %p0, %lane, 16; @%p0 bra $FAR;
$MEET: shfl.sync.bfly.b32 %r4|%p1, %r3, 16, 31, -1; st.shared.u32 [%r1], %r4;
$TOGETHER: bar.sync 0;
bra.uni $END;
$FAR: mul.lo.u32 %r3, %r3, 3; bra.uni $MEET;
$END: xor.b32 %r5, %r2, 128; mov.u32 %r6, box; add.u32 %r6, %r6, %r5; ld.shared.u32 %r7, [%r6];
"""


def test_lanes_wait_for_others_whose_code_is_behind_a_collective() -> None:
    """As ptxas and NVVM lay out a branch that joins again at a lower address."""
    kernels = module(
        entry(
            "far", "u64 y", OUT_OF_LINE + place("%d0", "%y", "%t", 4) + "st.global.u32 [%d0], %r7;"
        )
    )
    y, t = np.zeros(64, "u4"), np.arange(64)
    counts = kernels.launch("far", [1], [64], y)
    own = np.where(t % 32 >= 16, 3 * t, t)
    assert (y == own[t ^ 16][t ^ 32]).all()
    assert counts.divergent == 2 * 2 and counts.barriers == 1
