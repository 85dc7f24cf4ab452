"""The table of instructions: each name has the modifiers it may have and what makes its C++."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from .ptx_types import C_TYPES
from .site import Site

Emitter = Callable[[Site], str]


@dataclass(frozen=True)
class Known:
    """Modifiers other than types; any other is an unknown instruction."""

    emit: Emitter
    modifiers: frozenset[str]


TABLE: dict[str, Known] = {}


def emits(names: str, modifiers: str = "") -> Callable[[Emitter], Emitter]:
    """Enter a function for these instructions into the table."""

    def enter(function: Emitter) -> Emitter:
        for name in names.split():
            TABLE[name] = Known(function, frozenset(modifiers.split()))
        return function

    return enter


def emit(site: Site) -> str:
    """The C++ of an instruction. Raises PtxError if it or one of its modifiers is not known."""
    known = TABLE.get(site.instruction.name)
    if known is None:
        raise site.unknown("unknown instruction")
    for modifier in site.modifiers:
        if modifier not in C_TYPES and modifier not in known.modifiers:
            raise site.unknown(f"unknown instruction: .{modifier}")
    return known.emit(site)
