"""Bit operations, moves, conversions and the dot products of bytes."""

from __future__ import annotations

from .instructions import emits
from .ptx_types import C_TYPES, REALS, size_of, word
from .site import Site

_SYMBOLS = {"and": "&", "or": "|", "xor": "^"}
_ROUNDINGS = {
    "rn": "nearest",
    "rz": "zero",
    "rm": "down",
    "rp": "up",
    "rna": "away",
    "rni": "nearest",
    "rzi": "zero",
    "rmi": "down",
    "rpi": "up",
}
_TO_INTEGRAL = ("rni", "rzi", "rmi", "rpi")


@emits("and or xor")
def logic(site: Site) -> str:
    return site.result(f"{site.value(1)} {_SYMBOLS[site.instruction.name]} {site.value(2)}")


@emits("not cnot")
def inverted(site: Site) -> str:
    if site.instruction.name == "cnot":
        return site.result(f"{site.value(1)} == 0")
    return site.result(f"{site.value(1)} ^ 1" if site.type == "pred" else f"~{site.value(1)}")


@emits("shl shr")
def shifts(site: Site) -> str:
    name = {"shl": "shift_left", "shr": "shift_right"}[site.instruction.name]
    return site.result(f"{name}<{C_TYPES[site.type]}>({site.value(1)}, {site.value(2, 'u32')})")


@emits("shf", "l r wrap clamp")
def funnel(site: Site) -> str:
    name = "funnel_left" if site.has("l") else "funnel_right"
    count = site.value(3, "u32")
    count = f"({count} & 31)" if site.has("wrap") else f"({count} > 32 ? 32u : {count})"
    return site.result(f"{name}({site.value(1, 'u32')}, {site.value(2, 'u32')}, {count})", "u32")


@emits("lop3")
def three_inputs(site: Site) -> str:
    table = int(site.operand(4), 0)
    if not 0 <= table < 256:
        raise site.unknown("no table of lop3")
    return site.result(f"lop3<{table}>({site.value(1)}, {site.value(2)}, {site.value(3)})")


@emits("prmt")
def permuted(site: Site) -> str:
    return site.result(f"permute({site.value(1)}, {site.value(2)}, {site.value(3)})")


@emits("bfe")
def extracted(site: Site) -> str:
    return site.result(f"extract({site.value(1)}, {site.value(2, 'u32')}, {site.value(3, 'u32')})")


@emits("bfi")
def inserted(site: Site) -> str:
    start, length = site.value(3, "u32"), site.value(4, "u32")
    return site.result(f"insert({site.value(1)}, {site.value(2)}, {start}, {length})")


@emits("popc clz bfind")
def counted(site: Site) -> str:
    name = {"popc": "ones", "clz": "leading_zeros", "bfind": "find_bit"}[site.instruction.name]
    return site.result(f"{name}({site.value(1)})", "u32")


@emits("brev")
def reversed_bits(site: Site) -> str:
    return site.result(f"reverse({site.value(1)})")


@emits("dp4a dp2a", "lo hi")
def dot_product(site: Site) -> str:
    a, b = site.types
    values = ", ".join(site.value(i, "u32") for i in (1, 2, 3))
    if site.instruction.name == "dp4a":
        return site.result(f"dot4<{a[0]}8, {b[0]}8>({values})", "u32")
    first = 2 if site.has("hi") else 0
    return site.result(f"dot2<{a[0]}16, {b[0]}8>({values}, {first})", "u32")


@emits("mov")
def move(site: Site) -> str:
    to, source = site.vector(0), site.vector(1)
    if len(source) > 1:
        return _packed(site, source)
    if len(to) > 1:
        return _unpacked(site, to)
    return site.result(site.value(1))


def _packed(site: Site, parts: list[str]) -> str:
    size = size_of(site.type)
    part = size // len(parts)
    terms = (
        f"{word(size)}({site.read(p, f'b{8 * part}')}) << {8 * part * i}"
        for i, p in enumerate(parts)
    )
    return site.result(" | ".join(terms))


def _unpacked(site: Site, parts: list[str]) -> str:
    size = size_of(site.type)
    part = size // len(parts)
    stores = (
        site.assign(p, f"b{8 * part}", f"{word(part)}(whole >> {8 * part * i})")
        for i, p in enumerate(parts)
    )
    return site.lanes(f"const {word(size)} whole = {site.value(1)}; {' '.join(stores)}")


@emits("cvta", "to global shared local const param")
def generic_address(site: Site) -> str:
    window = {"shared": "SHARED_WINDOW", "local": "LOCAL_WINDOW"}.get(
        site.one_of("shared", "local"), "0"
    )
    sign = "-" if site.has("to") else "+"
    return site.result(f"{site.value(1)} {sign} {window}")


@emits("cvt", "ftz sat relu tf32 " + " ".join(_ROUNDINGS))
def convert(site: Site) -> str:
    if site.has("tf32"):
        mode = _rounding(site)
        return site.result(f"bits(to_tf32<{mode}>({site.value(1, 'f32')}))", "b32")
    result, source = site.types
    if result.endswith("x2"):
        return _two_halves(site, result)
    return site.result(_finished(site, result, _converted(site, result, source)), result)


def _rounding(site: Site) -> str:
    return f"Round::{_ROUNDINGS.get(site.one_of(*_ROUNDINGS), 'nearest')}"


def _two_halves(site: Site, result: str) -> str:
    """The first operand is the higher half."""
    half = result.removesuffix("x2")
    high, low = (
        _finished(site, half, f"to_real<{half}, {_rounding(site)}>({site.value(i, 'f32')})")
        for i in (1, 2)
    )
    return site.result(f"{result}{{{low}, {high}}}", result)


def _finished(site: Site, result: str, expression: str) -> str:
    if result in REALS and site.has("sat"):
        expression = f"saturate({expression})"
    if result in REALS and site.has("relu"):
        expression = f"relu({expression})"
    return f"flush({expression})" if result == "f32" and site.has("ftz") else expression


def _converted(site: Site, result: str, source: str) -> str:
    value, c_type = site.value(1, source), C_TYPES[result]
    if source == "f32" and site.has("ftz"):
        value = f"flush({value})"
    if result in REALS:
        if source in REALS and site.one_of(*_TO_INTEGRAL):
            return f"{c_type}(integral<{_rounding(site)}>({value}))"
        return f"to_real<{c_type}, {_rounding(site)}>({value})"
    if source in REALS:
        return f"to_integer<{c_type}, {_rounding(site)}>({value})"
    if site.has("sat"):
        return f"integer_saturated<{c_type}>({value})"
    return f"{c_type}({value})"
