"""Bit operations and conversions of the PTX emulator against the PTX manual, written in numpy."""

from collections.abc import Callable
from itertools import product

import numpy as np
import pytest

pytest.importorskip("ml_dtypes", reason="the reference of bf16")
from ptx_kernels import DTYPES, Case, check_cases, one_nan, rounded, to_half

pytestmark = pytest.mark.cuda

ROUNDINGS: dict[str, Callable] = {
    "n": np.rint,
    "z": np.trunc,
    "m": np.floor,
    "p": np.ceil,
}


def row_by_row(function: Callable, dtype: str = "u4") -> Callable:
    return lambda *arrays: np.array(
        [function(*map(int, row)) for row in zip(*arrays, strict=True)], dtype
    )


def bit_list(x: int, size: int) -> list[int]:
    return [x >> i & 1 for i in range(size)]


def number(bits: list[int]) -> int:
    return sum(b << i for i, b in enumerate(bits))


def lop3(table: int) -> Callable:
    rows = lambda a, b, c: number(  # noqa: E731
        [table >> (4 * (a >> i & 1) + 2 * (b >> i & 1) + (c >> i & 1)) & 1 for i in range(32)]
    )
    return row_by_row(rows)


def prmt(a: int, b: int, selector: int) -> int:
    pool = list((a | b << 32).to_bytes(8, "little"))
    found = []
    for i in range(4):
        nibble = selector >> 4 * i & 15
        byte = pool[nibble & 7]
        found.append((255 if byte > 127 else 0) if nibble & 8 else byte)
    return int.from_bytes(bytes(found), "little")


def bfe(size: int, signed: bool) -> Callable:
    """The manual's pseudo code."""

    def reference(a: int, start: int, length: int) -> int:
        start, length, most = start & 255, length & 255, size - 1
        bits = bit_list(a, size)
        sign = bits[min(start + length - 1, most)] if signed and length else 0
        inside = lambda i: i < length and start + i <= most  # noqa: E731
        found = [bits[start + i] if inside(i) else sign for i in range(size)]
        return number(found)

    return row_by_row(reference, f"u{size // 8}")


def bfi(size: int) -> Callable:
    def reference(a: int, b: int, place: int) -> int:
        start, length = place & 63, place >> 6 & 63
        bits, field = bit_list(b, size), bit_list(a, size)
        for i in range(length):
            if start + i < size:
                bits[start + i] = field[i]
        return number(bits)

    return row_by_row(reference, f"u{size // 8}")


BFI = "{ .reg .b32 s, n; and.b32 s, C, 63; bfe.u32 n, C, 6, 6; bfi.T D, A, B, s, n; }"


def shifted(size: int, sign: str, right: bool) -> Callable:
    def reference(a: int, n: int) -> int:
        moved = a >> min(n, 200) if right else (a << n if n < size else 0)
        return moved & ((1 << size) - 1)

    return row_by_row(reference, f"u{size // 8}")


def funnel(right: bool, clamp: bool) -> Callable:
    def reference(low: int, high: int, n: int) -> int:
        n = min(n, 32) if clamp else n & 31
        both = high << 32 | low
        return (both >> n if right else both << n >> 32) & 0xFFFFFFFF

    return row_by_row(reference)


def test_bit_operations() -> None:
    cases = [
        Case(f"lop3.b32 D, A, B, C, {t};", ("u32",) * 3, "u32", lop3(t))
        for t in (0, 255, 0xF8, 0x96, 0xE2, 0x1B, 0x6A)
    ]
    cases += [
        Case(
            f"shf.{side}.{mode}.b32 D, A, B, C;",
            ("u32",) * 3,
            "u32",
            funnel(side == "r", mode == "clamp"),
        )
        for side in "lr"
        for mode in ("wrap", "clamp")
    ]
    cases += [Case("prmt.b32 D, A, B, C;", ("u32",) * 3, "u32", row_by_row(prmt))]
    for size in (16, 32, 64):
        u, s = f"u{size}", f"s{size}"
        cases += [
            Case(f"shl.b{size} D, A, B;", (u, "u32"), u, shifted(size, "u", False)),
            Case(f"shr.u{size} D, A, B;", (u, "u32"), u, shifted(size, "u", True)),
            Case(f"shr.s{size} D, A, B;", (s, "u32"), u, shifted(size, "s", True)),
            Case(f"and.b{size} D, A, B;", (u, u), u, np.bitwise_and),
            Case(f"xor.b{size} D, A, B;", (u, u), u, np.bitwise_xor),
            Case(f"not.b{size} D, A;", (u,), u, np.bitwise_not),
            Case(f"cnot.b{size} D, A;", (u,), u, lambda a: a == 0),
        ]
    for size in (32, 64):
        u, s = f"u{size}", f"s{size}"
        zeros = lambda a, size=size: size - a.bit_length()  # noqa: E731
        reverse = lambda a, size=size: number(bit_list(a, size)[::-1])  # noqa: E731
        highest = lambda a: ((~a if a < 0 else a).bit_length() - 1) & 0xFFFFFFFF  # noqa: E731
        cases += [
            Case(f"bfe.{u} D, A, B, C;", (u, "u32", "u32"), u, bfe(size, False)),
            Case(f"bfe.{s} D, A, B, C;", (s, "u32", "u32"), u, bfe(size, True)),
            Case(BFI.replace("T", f"b{size}"), (u, u, "u32"), u, bfi(size)),
            Case(f"popc.b{size} D, A;", (u,), "u32", row_by_row(int.bit_count)),
            Case(f"clz.b{size} D, A;", (u,), "u32", row_by_row(zeros)),
            Case(f"brev.b{size} D, A;", (u,), u, row_by_row(reverse, f"u{size // 8}")),
            Case(f"bfind.{s} D, A;", (s,), "u32", row_by_row(highest)),
            Case(f"bfind.{u} D, A;", (u,), "u32", row_by_row(highest)),
        ]
    check_cases(cases)


def parts(x: np.ndarray, dtype: str) -> np.ndarray:
    return np.ascontiguousarray(x).view(dtype).reshape(len(x), -1).astype(np.int64)


def dot(a: str, b: str, unit: int, cut: slice) -> Callable:
    """Elements of `unit` bytes of the first, and bytes `cut` of the second."""

    def reference(x: np.ndarray, y: np.ndarray, z: np.ndarray) -> np.ndarray:
        left, right = parts(x, f"{CODES[a]}{unit}"), parts(y, f"{CODES[b]}1")[:, cut]
        return ((left * right).sum(1) + z) & 0xFFFFFFFF

    return reference


CODES = {"u": "u", "s": "i"}


def dots() -> list[Case]:
    words, found = ("u32",) * 3, []
    for types in product("us", "us"):
        name = "{}32.{}32 D, A, B, C;".format(*types)
        found += [
            Case(f"dp4a.{name}", words, "u32", dot(*types, 1, slice(0, 4))),
            Case(f"dp2a.lo.{name}", words, "u32", dot(*types, 2, slice(0, 2))),
            Case(f"dp2a.hi.{name}", words, "u32", dot(*types, 2, slice(2, 4))),
        ]
    return found


def fills(value: float) -> Callable:
    return lambda a: np.full(len(a), value)


def moves() -> list[Case]:
    swap = "{ .reg .b16 x, y; mov.b32 { x, y }, A; mov.b32 D, { y, x }; }"
    split = "{ .reg .b32 x, y; mov.b64 { x, y }, A; mov.b64 D, { y, x }; }"
    return [
        Case(swap, ("u32",), "u32", lambda a: a >> 16 | a << 16),
        Case(split, ("u64",), "u64", lambda a: a >> 32 | a << 32),
        Case("mov.f32 D, 0fC0490FDB;", ("f32",), "f32", fills(-np.pi)),
        Case("mov.b64 D, -2;", ("u64",), "u64", lambda a: np.full(len(a), 2**64 - 2, "u8")),
        Case("@A mov.u32 D, 7; @!A mov.u32 D, 9;", ("pred",), "u32", lambda a: np.where(a, 7, 9)),
        *(
            Case(f"mov.pred P, {n}; not.pred D, P;", ("pred",), "pred", fills(n == 0))
            for n in (0, -1)
        ),
    ]


def clipped(x: np.ndarray, result: str) -> np.ndarray:
    """Whole numbers clipped to a type; NaN is 0."""
    info = np.iinfo(DTYPES[result])
    whole = (0.0 if v != v else max(-1e30, min(1e30, v)) for v in x.tolist())
    return np.array([max(info.min, min(info.max, int(v))) for v in whole], DTYPES[result])


def to_integers() -> list[Case]:
    found = []
    for source in ("f16", "f32", "f64"):
        for result in ("s8", "u8", "s32", "u32", "s64", "u64", "s16"):
            for mode, function in ROUNDINGS.items():
                text = f"cvt.r{mode}i.{result}.{source} D, A;"
                reference = lambda a, f=function, r=result: clipped(f(a.astype(float)), r)  # noqa: E731
                found.append(Case(text, (source,), result, reference))
    return found


def to_reals() -> list[Case]:
    found = []
    for mode, function in ROUNDINGS.items():
        to_f32 = lambda a, f=function: narrow32(a.astype(float), f)  # noqa: E731
        found += [
            Case(f"cvt.r{mode}.f32.f64 D, A;", ("f64",), "f32", to_f32),
            Case(f"cvt.r{mode}.f32.s32 D, A;", ("s32",), "f32", to_f32),
            Case(f"cvt.r{mode}i.f32.f32 D, A;", ("f32",), "f32", function),
        ]
    for t in ("f16", "bf16"):
        cut = lambda a, t=t: overflowed(to_half(a.astype(float), t, np.trunc), a, t)  # noqa: E731
        found += [
            Case(f"cvt.rn.{t}.f32 D, A;", ("f32",), t, lambda a, t=t: to_half(a.astype(float), t)),
            Case(f"cvt.rz.{t}.f32 D, A;", ("f32",), t, cut),
            Case(f"cvt.f32.{t} D, A;", (t,), "f32", lambda a: a.astype("f4")),
            Case(f"cvt.rn.{t}.s32 D, A;", ("s32",), t, lambda a, t=t: to_half(a.astype(float), t)),
        ]
    found += [
        Case("cvt.rn.f16.f64 D, A;", ("f64",), "f16", lambda a: to_half(a, "f16")),
        Case("cvt.rn.f32.u64 D, A;", ("u64",), "f32", lambda a: a.astype("f4")),
        Case("cvt.f64.f32 D, A;", ("f32",), "f64", lambda a: a.astype("f8")),
        Case(
            "cvt.sat.f32.f32 D, A;", ("f32",), "f32", lambda a: np.where(a > 0, np.minimum(a, 1), 0)
        ),
        Case(
            "cvt.rna.tf32.f32 D, A;",
            ("f32",),
            "f32",
            lambda a: rounded(a.astype(float), 11, -136, half_away),
        ),
    ]
    return found


def half_away(x: np.ndarray) -> np.ndarray:
    return np.copysign(np.floor(np.abs(x) + 0.5), x)


def narrow32(x: np.ndarray, mode: Callable) -> np.ndarray:
    """To f32; a mode towards zero stops at the largest number."""
    found = rounded(x, 24, -149, mode)
    most = float(np.finfo("f4").max)
    stops = np.isfinite(x) & (np.abs(found) > most)
    inwards = (mode is np.trunc) | ((mode is np.floor) & (x > 0)) | ((mode is np.ceil) & (x < 0))
    limit = np.copysign(np.where(inwards, most, np.inf), x)
    return np.where(stops, limit, found).astype("f4")


def overflowed(found: np.ndarray, x: np.ndarray, t: str) -> np.ndarray:
    """Rounding towards zero stops at the largest number."""
    most = 65504.0 if t == "f16" else float.fromhex("0x1.fep127")
    stops = np.isfinite(x) & (np.abs(x) > most)
    return np.where(stops, np.copysign(most, x.astype(float)), found.astype(float))


def between_integers() -> list[Case]:
    narrower = [("s8", "s32"), ("u8", "s32"), ("s16", "s64"), ("u16", "u32")]
    wider = [("s64", "s32"), ("u64", "u32"), ("s32", "s8"), ("u32", "u8"), ("s32", "u16")]
    found = []
    for result, source in [*narrower, *wider]:
        plain = lambda a, r=result: a.astype(DTYPES[r])  # noqa: E731
        found.append(Case(f"cvt.{result}.{source} D, A;", (source,), result, plain))
    for result, source in narrower:
        clip = lambda a, r=result: clipped(a, r)  # noqa: E731
        found.append(Case(f"cvt.sat.{result}.{source} D, A;", (source,), result, clip))
    return found


PACK = "cvt.rn.{t}x2.f32 D, A, B; "


def packs() -> list[Case]:
    """The first operand is the higher half; NaN is 0x7fff."""

    def reference(t: str) -> Callable:
        def both(a: np.ndarray, b: np.ndarray) -> np.ndarray:
            words = [to_half(x.astype(float), t) for x in (a, b)]
            high, low = (np.where(np.isnan(w), 0x7FFF, w.view("u2")).astype("u4") for w in words)
            return high << 16 | low

        return both

    return [
        Case(PACK.format(t=t) + one_nan(t), ("f32", "f32"), "u32", reference(t))
        for t in ("f16", "bf16")
    ]


def test_conversions_and_moves() -> None:
    check_cases([*dots(), *moves(), *to_reals(), *between_integers(), *packs()])


def test_to_integers() -> None:
    check_cases(to_integers())
