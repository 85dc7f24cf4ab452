"""Consistency checks of a target, for presets and targets from files alike.

The costly mistake is code that uses instructions beyond the floor: it dies on the device with
SIGILL. So LLVM is queried for the instruction sets that it may use for a cpu with its attributes.
"""

from __future__ import annotations

from collections.abc import Iterator
from difflib import get_close_matches
from typing import Any

from .features import LLVM_NAMES, WIDTHS
from .target import Target

LARGEST = {"cores": 1 << 12, "l2": 1 << 40, "memory_limit": 1 << 50}


def contradictions(target: Target) -> Iterator[str]:
    """Yield one message per contradiction, with the value and the remedy. Needs the compiler."""
    names = LLVM_NAMES.get(target.architecture)
    if names is None:
        known = ", ".join(LLVM_NAMES)
        yield f"triple '{target.triple}': this architecture is not supported; known: {known}"
        return
    yield from _numbers(target)
    yield from _unknown(target.features, names, "features", target.architecture)
    yield from _forbidden(target, names)
    yield from _vectors(target)
    yield from _libraries(target)
    if target.vector_bits in WIDTHS[target.architecture]:  # LLVM ends with an error for another
        yield from _code_generator(target, names)


def _numbers(target: Target) -> Iterator[str]:
    for key, largest in LARGEST.items():
        value = getattr(target, key)
        if value is not None and not 1 <= value <= largest:
            yield f"{key} {value}: must be from 1 to {largest}"


def _unknown(given: tuple[str, ...], known: Any, key: str, architecture: str) -> Iterator[str]:
    for name in given:
        if name not in known:
            yield f"{key} '{name}': not known for {architecture}; {nearest(name, known)}"


def _forbidden(target: Target, names: dict[str, str]) -> Iterator[str]:
    for attribute in target.mattr:
        if attribute[:1] not in ("+", "-"):
            yield f"mattr '{attribute}': must begin with + or -"
    for flag in target.features:
        if flag in names and f"-{names[flag]}" in target.mattr:
            yield f"mattr disables '{names[flag]}', but features require '{flag}'; remove one"


def _vectors(target: Target) -> Iterator[str]:
    widths = WIDTHS[target.architecture]
    if target.vector_bits not in widths:
        known = ", ".join(map(str, widths))
        yield f"vector_bits {target.vector_bits}: must be one of {known} for {target.architecture}"
        return
    for flag in set(widths[target.vector_bits]) - set(target.features or widths[128]):
        yield f"vector_bits {target.vector_bits}: requires '{flag}' in features"


def _libraries(target: Target) -> Iterator[str]:
    gnu, android = "-gnu" in target.triple, "-android" in target.triple
    if gnu and target.stub_libraries:
        yield (
            f"stub_libraries with triple '{target.triple}': the GNU loader needs the real library "
            "names; remove stub_libraries"
        )
    if android and not target.stub_libraries:
        yield (
            f"triple '{target.triple}' without stub_libraries: Android's loader would resolve no "
            "symbols; add stub_libraries"
        )


def _code_generator(target: Target, names: dict[str, str]) -> Iterator[str]:
    """Check that LLVM knows the cpu and its attributes and uses nothing beyond the floor."""
    import tvm
    from tvm.target import codegen

    plain = tvm.target.Target({"kind": "llvm", "mtriple": target.triple})
    cpus = [*map(str, codegen.llvm_get_cpu_archlist(plain)), "generic"]
    if target.cpu not in cpus:
        near = nearest(target.cpu, cpus)
        yield f"cpu '{target.cpu}': unknown to LLVM for {target.architecture}; {near}"
        return
    device = tvm.target.Target(target.host_tvm)
    feature = tvm.get_global_func("target.target_has_feature")
    has = lambda attribute: bool(feature(attribute, device))  # noqa: E731
    for attribute in target.mattr:
        if attribute[:1] == "+" and not has(attribute[1:]):
            yield f"mattr '{attribute}': unknown to LLVM for {target.architecture}"
    yield from _beyond_the_floor(target, names, has)


def _beyond_the_floor(target: Target, names: dict[str, str], has: Any) -> Iterator[str]:
    for attribute in sorted(set(names.values())):
        flags = [flag for flag, name in names.items() if name == attribute]
        missing = [flag for flag in flags if flag not in target.features]
        if missing and has(attribute) and not _baseline(target, attribute):
            yield (
                f"cpu '{target.cpu}' with {list(target.mattr)} lets LLVM use '{attribute}', which "
                f"features do not require: add {' '.join(missing)} to features, or "
                f"'-{attribute}' to mattr"
            )


def _baseline(target: Target, attribute: str) -> bool:
    """Whether every Linux machine of the architecture has the attribute."""
    return target.architecture == "aarch64" and attribute in ("fp-armv8", "neon")


def nearest(name: str, known: Any) -> str:
    """A hint for the end of a message: the nearest known names, or all of them."""
    near = get_close_matches(name, list(known), n=2, cutoff=0.5)
    return f"did you mean {' or '.join(near)}?" if near else f"known: {', '.join(known)}"
