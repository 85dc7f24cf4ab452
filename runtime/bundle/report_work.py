"""Checks the work of a kernel in `report.json`, so that it can be evaluated without checks.

    {"symbols": {"s": [0, 0], "pos": [3]},
     "multiply_adds": [[1572864, [{"s": 1}]]],
     "touched": {"1": [[[1, [{"s": 1}]], [64, []]]]}}

compiler/lowering/work.py defines the meaning.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

from handglass.errors import InputError

KEYS = ("symbols", "multiply_adds", "touched")
MAX_ARGUMENTS = 1 << 16


def check_work(work: Any, where: str, key: str) -> None:
    """Raise InputError, with the key and the value, for what is not a work."""
    if not isinstance(work, dict) or set(work) != set(KEYS):
        raise _wrong(where, key, f"an object with {', '.join(KEYS)}", work)
    parts: tuple[tuple[str, str, Callable[[Any], bool]], ...] = (
        ("symbols", "an object of [argument] and [argument, dimension]", _are_symbols),
        ("multiply_adds", "a list of products", lambda v: _are_products(v, work["symbols"])),
        ("touched", "an object of accesses", lambda v: _are_accesses(v, work["symbols"])),
    )
    for name, wanted, holds in parts:
        if not holds(work[name]):
            raise _wrong(where, f"{key}.{name}", wanted, work[name])


def _are_symbols(value: Any) -> bool:
    return isinstance(value, dict) and all(
        isinstance(place, list) and len(place) in (1, 2) and all(map(_is_number_of, place))
        for place in value.values()
    )


def _is_number_of(value: Any) -> bool:
    """Whether it is the number of an argument or of a dimension."""
    return type(value) is int and 0 <= value < MAX_ARGUMENTS


def _are_accesses(value: Any, symbols: Collection[str]) -> bool:
    return isinstance(value, dict) and all(
        name.isdecimal()
        and isinstance(accesses, list)
        and all(_are_products(access, symbols) for access in accesses)
        for name, accesses in value.items()
    )


def _are_products(value: Any, symbols: Collection[str]) -> bool:
    return isinstance(value, list) and all(_is_product(item, symbols) for item in value)


def _is_product(value: Any, symbols: Collection[str]) -> bool:
    """[factor, forms]; a form is a linear combination of symbols."""
    if not isinstance(value, list) or len(value) != 2 or type(value[0]) not in (int, float):
        return False
    return isinstance(value[1], list) and all(
        isinstance(form, dict)
        and all(name == "" or name in symbols for name in form)
        and all(type(number) in (int, float) for number in form.values())
        for form in value[1]
    )


def _wrong(where: str, key: str, wanted: str, value: Any) -> InputError:
    return InputError(f"{where}: {key} must be {wanted}, found {value!r:.100}")
