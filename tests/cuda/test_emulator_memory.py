"""Memory of the PTX emulator: spaces, vectors, atomics, constants and asynchronous copies."""

import numpy as np
import pytest

pytest.importorskip("ml_dtypes", reason="imported by the cases")
from emulator.launch import LATE, LaunchError
from emulator.ptx_types import PtxError
from emulator.translate import translate
from ptx_kernels import HEADER, entry, module, place

pytestmark = pytest.mark.cuda

VECTORS = place("%d0", "%x", "%t", 16) + place("%d1", "%y", "%t", 16)
VECTORS += """
ld.global.v4.b32 {%r0, %r1, %r2, %r3}, [%d0]; st.global.v2.b32 [%d1+8], {%r0, %r1};
ld.global.nc.v2.u64 {%d2, %d3}, [%d0]; st.global.u64 [%d1], %d3;
"""
NARROW = place("%d0", "%x", "%t", 4) + place("%d1", "%y", "%t", 16)
NARROW += """
ld.global.s8 %r0, [%d0]; st.global.u32 [%d1], %r0; ld.global.u8 %r1, [%d0+1];
st.global.u32 [%d1+4], %r1; ld.global.s16 %r2, [%d0+2]; st.global.b32 [%d1+8], %r2;
mov.u32 %r3, 0; st.global.u32 [%d1+12], %r3; st.global.u8 [%d1+13], %r1;
"""
LOCAL = """
.local .align 8 .b8 own[24];
mov.u64 %d0, own; cvta.local.u64 %d1, %d0; and.b32 %r0, %t, 1; mul.wide.u32 %d2, %r0, 8;
add.s64 %d3, %d1, %d2; st.local.u32 [own+0], %t; st.local.u32 [own+8], 99; ld.u32 %r1, [%d3];
"""
LOCAL += place("%d4", "%y", "%t", 4) + "st.global.u32 [%d4], %r1;"
GENERIC = """
.shared .align 4 .b8 box[128];
mov.u64 %d0, box; cvta.shared.u64 %d1, %d0; mul.wide.u32 %d2, %t, 4; add.s64 %d3, %d1, %d2;
st.u32 [%d3], %t; xor.b32 %r1, %t, 5; mul.wide.u32 %d2, %r1, 4; add.s64 %d3, %d1, %d2;
ld.u32 %r2, [%d3]; cvta.to.shared.u64 %d5, %d1; add.s64 %d5, %d5, 12; ld.shared.u32 %r3, [%d5];
add.u32 %r2, %r2, %r3; add.s64 %d4, %y, 0;
"""
GENERIC += place("%d4", "%y", "%t", 4) + "st.u32 [%d4], %r2;"
CONSTANTS = (
    place("%d1", "%y", "%t", 4)
    + """
and.b32 %r0, %t, 3; mul.wide.u32 %d0, %r0, 4; mov.u64 %d2, table; add.s64 %d2, %d2, %d0;
ld.global.nc.s32 %r1, [%d2]; st.global.u32 [%d1], %r1;
"""
)
WIDENED = """
.shared .align 16 .b8 box[12];
mov.u64 %d0, box; mul.wide.u32 %d2, %t, 4; add.s64 %d3, %d0, %d2; setp.lt.u32 %p0, %t, 3;
@%p0 st.shared.u32 [%d3], %t; bar.sync 0; .pragma "used_bytes_mask MASK";
ld.shared.v4.u32 {%r0, %r1, %r2, %r3}, [box]; add.u32 %r0, %r0, %r1; add.u32 %r0, %r0, %r2;
"""
WIDENED += place("%d4", "%y", "%t", 4) + "st.global.u32 [%d4], %r0;"
TABLE = ".global .align 4 .s32 table[4] = {7, -8, 0x11};\n"


def numbers(dtype: str, *shape: int) -> np.ndarray:
    info = np.iinfo(dtype)
    return np.random.default_rng(11).integers(info.min, info.max, shape, dtype)


def test_a_widened_load_touches_what_is_used() -> None:
    y = np.zeros(32, "u4")
    right, wrong = (entry("k", "u64 y", WIDENED.replace("MASK", m)) for m in ("4095", "0xffff"))
    counts = module(right).launch("k", [1], [32], y)
    assert (y == 3).all() and counts.shared_wavefronts == counts.shared_ideal
    with pytest.raises(LaunchError, match="out of bounds"):
        module(wrong).launch("k", [1], [32], y)


def test_spaces_and_widths() -> None:
    bodies = {"vectors": VECTORS, "narrow": NARROW}
    text = "".join(entry(n, "u64 x, u64 y", b) for n, b in bodies.items())
    own = {"local": LOCAL, "generic": GENERIC, "constants": CONSTANTS}
    kernels = module(TABLE + text + "".join(entry(n, "u64 y", b) for n, b in own.items()))
    x, y = numbers("u1", 64, 4, 4), np.zeros((64, 4), "u4")
    kernels.launch("vectors", [1], [64], x, y)
    assert (y.view("u1").reshape(64, 2, 8)[:, 0] == x.reshape(64, 2, 8)[:, 1]).all()
    assert (y.view("u1").reshape(64, 2, 8)[:, 1] == x.reshape(64, 2, 8)[:, 0]).all()
    kernels.launch("narrow", [1], [64], x, y)
    rows = x.reshape(256, 4)[:64]
    assert (y.view("i4")[:, 0] == rows[:, 0].astype("i1")).all() and (y[:, 1] == rows[:, 1]).all()
    assert (y.view("i4")[:, 2] == np.ascontiguousarray(rows[:, 2:]).view("i2")[:, 0]).all()
    assert (y[:, 3] == rows[:, 1].astype("u4") << 8).all()
    z, t = np.zeros(32, "i4"), np.arange(32)
    kernels.launch("local", [1], [32], z)
    assert (z == np.where(t & 1, 99, t)).all()
    kernels.launch("generic", [1], [32], z)
    assert (z == (t ^ 5) + 3).all()
    kernels.launch("constants", [1], [32], z)
    assert (z == np.array([7, -8, 17, 0])[t & 3]).all()


ATOMICS = {
    "add": ("u32", lambda x: x.sum()),
    "max": ("s32", lambda x: x.max()),
    "min": ("u32", lambda x: x.min()),
    "xor": ("b32", lambda x: np.bitwise_xor.reduce(x)),
    "and": ("b32", lambda x: np.bitwise_and.reduce(x)),
}


def test_atomics_of_all_threads() -> None:
    load = place("%d0", "%x", "%t", 4) + "ld.global.u32 %r0, [%d0];"
    texts = [
        entry(how, "u64 x, u64 y", f"{load} atom.global.{how}.{t} %r1, [%y], %r0;")
        for how, (t, _) in ATOMICS.items()
    ]
    number = place("%d0", "%x", "%t", 4) + "ld.global.f32 %f0, [%d0];"
    swap = "atom.global.cas.b32 %r1, [%y], %t, 77; add.u32 %r2, %t, 1;"
    swap += "atom.global.exch.b32 %r3, [%x], %r2;"
    texts.append(entry("fadd", "u64 x, u64 y", number + "red.global.add.f32 [%y], %f0;"))
    kernels = module("".join([*texts, entry("swap", "u64 x, u64 y", swap)]))
    for how, (t, truth) in ATOMICS.items():
        x = numbers("i4" if t == "s32" else "u4", 96)
        y = np.zeros(1, "u4") if how in ("add", "xor") else x[:1].copy()
        counts = kernels.launch(how, [1], [96], x, y)
        assert y[0] == truth(x).astype(y.dtype) and counts.global_sectors == 3 * (4 + 1)
    x, y = np.arange(96, dtype="f4"), np.zeros(1, "f4")
    kernels.launch("fadd", [1], [96], x, y)
    assert y[0] == 95 * 48
    x, y = np.zeros(1, "u4"), np.full(1, 50, "u4")
    kernels.launch("swap", [1], [96], x, y)
    assert (x[0], y[0]) == (96, 77)


COPY = (
    """
.shared .align 16 .b8 box[4096];
mov.u32 %r0, box; mul.lo.u32 %r1, %t, 16; add.u32 %r2, %r0, %r1;
mov.u32 %r9, 12; add.u32 %r8, %r2, 1024; add.u32 %r7, %r2, 2048;
"""
    + place("%d0", "%x", "%t", 16)
    + place("%d1", "%y", "%t", 16)
    + """
cp.async.cg.shared.global [%r2], [%d0], 16;
cp.async.commit_group;
cp.async.ca.shared.global [%r8], [%d0+1024], 16, %r9;
cp.async.commit_group;
cp.async.wait_group 1;
ld.shared.v4.u32 {%r10, %r11, %r12, %r13}, [%r2];
st.global.v4.u32 [%d1], {%r10, %r11, %r12, %r13};
cp.async.wait_group 0;
ld.shared.v4.u32 {%r10, %r11, %r12, %r13}, [%r8];
st.global.v4.u32 [%d1+1024], {%r10, %r11, %r12, %r13};
cp.async.ca.shared.global [%r7], [%d0], 8;
cp.async.wait_all;
ld.shared.v2.u32 {%r10, %r11}, [%r7]; st.global.v2.u32 [%d1+2048], {%r10, %r11};
"""
)


@pytest.mark.parametrize("mode", [LATE, 0])
def test_asynchronous_copies(mode: int) -> None:
    kernels = module(entry("copy", "u64 x, u64 y", COPY))
    x, y = numbers("u4", 128, 4), np.zeros((192, 4), "u4")
    counts = kernels.launch("copy", [1], [64], x, y, mode=mode)
    assert counts.copies == 6
    assert (y[:64] == x[:64]).all()
    assert (y[64:128, :3] == x[64:, :3]).all() and (y[64:128, 3] == 0).all()
    assert (y[128:, :2] == x[:64, :2]).all()


@pytest.mark.parametrize(
    "statement, words",
    [
        ("wgmma.fence.sync.aligned;", "unknown instruction: wgmma"),
        ("div.rz.f32 %f0, %f1, %f2;", "unknown instruction: .rz: div.rz.f32"),
        ("add.s32 %r0, %r1;", "too few operands"),
        ("add.s32 %r0, %r1, %q7;", "unknown operand '%q7'"),
        ("add.s32 %r0, %r99, 1;", "unknown operand '%r99'"),
        ("add.u64 %d0, %r1, 1;", "a register is narrower"),
        ("bra $NOWHERE;", "no such label"),
        ("call foo, ();", "unknown instruction: call"),
        ("mma.sync.aligned.m8n8k4.row.col.f64 {%d0}, {%d1}, {%d2}, {%d3};", "unknown"),
    ],
)
def test_unknown_ptx_is_refused_with_its_line(statement: str, words: str) -> None:
    text = HEADER + entry("k", "u64 x", "\n" + statement)
    line = text[: text.index(statement)].count("\n") + 1
    with pytest.raises(PtxError, match=rf"^line {line}: {words}"):
        translate(text)


@pytest.mark.parametrize(
    "text, words",
    [
        (".func (.param .b32 a) f() { ret; }", "line 4: only kernels and variables"),
        (".global .align 4 .b8 counter[4];", "line 4: data of the module must be constant"),
        ("", "no kernel"),
    ],
)
def test_modules_that_are_refused(text: str, words: str) -> None:
    with pytest.raises(PtxError, match=words):
        translate(HEADER + text)
