"""Arithmetic of every type, comparison and selection."""

from __future__ import annotations

from .instructions import emits
from .ptx_types import C_TYPES, HALVES, REALS, size_of, word
from .site import Site

_FUNCTIONS = {
    "add": "add",
    "sub": "sub",
    "mul": "mul",
    "div": "quotient",
    "rem": "remainder_of",
    "min": "least",
    "max": "largest",
    "neg": "neg",
    "abs": "absolute",
    "fma": "fma_of",
    "ex2": "exp2_of",
    "lg2": "log2_of",
    "rcp": "reciprocal",
    "sqrt": "root",
    "rsqrt": "reciprocal_root",
    "sin": "sine",
    "cos": "cosine",
    "tanh": "hyperbolic_tangent",
}
_ORDERED = {"eq": "==", "lt": "<", "le": "<=", "gt": ">", "ge": ">="}
_UNSIGNED = {"lo": "<", "ls": "<=", "hi": ">", "hs": ">="}
_OPPOSITES = {"ltu": ">=", "leu": ">", "gtu": "<=", "geu": "<"}
_COMBINED = {"and": "&", "or": "|", "xor": "^"}


def _is_real(ptx_type: str) -> bool:
    return ptx_type.removesuffix("x2") in REALS


def _finished(site: Site, expression: str) -> str:
    """The modifiers that change a real result: .sat, .relu and .ftz."""
    if site.has("sat"):
        expression = f"saturate({expression})"
    if site.has("relu"):
        expression = f"relu({expression})"
    return f"flush({expression})" if site.has("ftz") and site.type == "f32" else expression


_DIRECTED = {"rz": "zero", "rm": "down", "rp": "up"}


def _rounded(site: Site, name: str) -> str:
    """The function of a real operation with another rounding than to the nearest."""
    mode = _DIRECTED.get(site.one_of(*_DIRECTED))
    if mode and site.type != "f32":
        raise site.unknown("unknown rounding of this type")
    return f"{name}_directed<Round::{mode}>" if mode else name


def _values(site: Site, count: int) -> list[str]:
    """The inputs, subnormal ones as zeros with .ftz."""
    values = [site.value(1 + i) for i in range(count)]
    flushed = site.has("ftz") and site.type == "f32"
    return [f"flush({v})" for v in values] if flushed else values


def _call(site: Site, name: str, count: int) -> str:
    return f"{name}({', '.join(_values(site, count))})"


@emits("add sub", "rn rz rm rp ftz sat")
def sums(site: Site) -> str:
    name = _FUNCTIONS[site.instruction.name]
    if _is_real(site.type):
        return site.result(_finished(site, _call(site, _rounded(site, name), 2)))
    if site.has("sat") and site.type != "s32":
        raise site.unknown("saturation of this type")
    return site.result(_call(site, name + "_saturated" * site.has("sat"), 2))


@emits("mul mad", "rn rz rm rp ftz sat lo hi wide")
def products(site: Site) -> str:
    name, count = site.instruction.name, 2 + (site.instruction.name == "mad")
    if _is_real(site.type):
        real = _FUNCTIONS["mul"] if name == "mul" else _FUNCTIONS["fma"]
        return site.result(_finished(site, _call(site, _rounded(site, real), count)))
    if site.has("sat"):
        raise site.unknown("saturation of this type")
    if site.has("wide"):
        return _wide(site, name, count)
    return site.result(_call(site, f"{name}_high" if site.has("hi") else name, count))


def _wide(site: Site, name: str, count: int) -> str:
    """Twice the size: u16 * u16 is u32."""
    result = site.type[0] + word(2 * size_of(site.type))[1:]
    values = [site.value(1), site.value(2)]
    if count == 3:
        values.append(site.value(3, result))
    return site.result(f"{name}_wide<{C_TYPES[result]}>({', '.join(values)})", result)


@emits("fma", "rn rz rm rp ftz sat relu")
def fused(site: Site) -> str:
    return site.result(_finished(site, _call(site, _rounded(site, _FUNCTIONS["fma"]), 3)))


@emits("div rem", "rn full approx ftz")
def division(site: Site) -> str:
    return site.result(_finished(site, _call(site, _FUNCTIONS[site.instruction.name], 2)))


@emits("min max", "ftz NaN relu")
def extremes(site: Site) -> str:
    name = _FUNCTIONS[site.instruction.name] + "_nan" * site.has("NaN")
    return site.result(_finished(site, _call(site, name, 2)))


@emits("neg abs", "ftz")
def signs(site: Site) -> str:
    return site.result(_finished(site, _call(site, _FUNCTIONS[site.instruction.name], 1)))


@emits("copysign")
def copied_sign(site: Site) -> str:
    return site.result(_call(site, "copysign_of", 2))


@emits("ex2 lg2 rcp sqrt rsqrt sin cos tanh", "approx rn ftz")
def functions(site: Site) -> str:
    return site.result(_finished(site, _call(site, _FUNCTIONS[site.instruction.name], 1)))


def _comparison(site: Site, a: str, b: str) -> str:
    """Two lanes compared, as 0 or 1; the variants with u are true for NaN."""
    comparison = site.one_of(*_COMPARISONS)
    if site.type.removesuffix("x2") in HALVES:
        a, b = f"wide({a})", f"wide({b})"
    if comparison in _ORDERED or comparison in _UNSIGNED:
        return f"u32({a} {(_ORDERED | _UNSIGNED)[comparison]} {b})"
    if comparison in _OPPOSITES:
        return f"u32(!({a} {_OPPOSITES[comparison]} {b}))"
    ordered = f"({a} == {a} && {b} == {b})"
    both = {"num": ordered, "nan": f"!{ordered}", "neu": f"{a} != {b}"}
    both["ne"] = f"{a} != {b} && {ordered}" if _is_real(site.type) else f"{a} != {b}"
    both["equ"] = f"!({a} < {b} || {a} > {b})"
    return f"u32({both[comparison]})"


def _compared(site: Site) -> tuple[str, str, str]:
    """Declarations of the inputs, and the comparison: of packed halves, of each half."""
    a, b = _values(site, 2)
    inputs = f"const auto x = {a}; const auto y = {b};"
    if not site.type.endswith("x2"):
        return inputs, _comparison(site, "x", "y"), ""
    low, high = (_comparison(site, f"x.{half}", f"y.{half}") for half in ("low", "high"))
    return inputs, low, high


_COMPARISONS = (*_ORDERED, *_UNSIGNED, *_OPPOSITES, "num", "nan", "ne", "neu", "equ")


@emits("setp", "ftz and or xor " + " ".join(_COMPARISONS))
def set_predicate(site: Site) -> str:
    """The second predicate is the opposite, and of packed halves that of the higher one."""
    inputs, low, high = _compared(site)
    also = _COMBINED.get(site.one_of(*_COMBINED))
    second = f" {also} {site.value(3, 'pred')}" if also else ""
    targets = [t.strip() for t in site.operand(0).split("|")]
    code = f"const u32 c = {low}; const u32 p = c{second}, q = ({high or 'c ^ 1'}){second};"
    stores = (site.assign(t, "pred", "pq"[i]) for i, t in enumerate(targets))
    return site.lanes(f"{inputs} {code} {' '.join(stores)}")


@emits("set", "ftz " + " ".join(_COMPARISONS))
def set_number(site: Site) -> str:
    """All ones or zero of an integer, 1.0 or 0.0 of a real number."""
    result = site.types[0]
    inputs, low, high = _compared(site)
    one = C_TYPES[result.removesuffix("x2")]
    found = f"{one}(f32({low}))" if _is_real(result) else f"{one}(0 - {low})"
    if high:
        if not result.endswith("x2"):
            raise site.unknown("unknown comparison of packed halves")
        found = f"{C_TYPES[result]}{{{found}, {one}(f32({high}))}}"
    return site.lanes(f"{inputs} {site.assign(site.operand(0), result, found)}")


@emits("selp")
def select(site: Site) -> str:
    return site.result(f"{site.value(3, 'pred')} ? {site.value(1)} : {site.value(2)}")


@emits("slct", "ftz")
def select_by_sign(site: Site) -> str:
    first, last = site.types
    control = f"{site.value(3, last)} >= 0"
    return site.result(f"{control} ? {site.value(1, first)} : {site.value(2, first)}", first)
