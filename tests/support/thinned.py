"""Parameters of which `make test` runs a part and `make test-large` all."""

from collections.abc import Callable, Iterable
from itertools import product
from typing import Any

import pytest

LARGE = pytest.mark.large


def thinned(every: int, *axes: Iterable[Any]) -> list[Any]:
    """The product of `axes`; `make test` runs cases whose indices add up to a multiple of `every`.

    So each value of an axis stays, with `every` times fewer values of the others. A single axis may
    have tuples of values.
    """
    cases = list(product(*(enumerate(axis) for axis in axes)))
    here = [sum(i for i, _ in case) % every == 0 for case in cases]
    values = [tuple(value for _, value in case) for case in cases]
    if len(axes) == 1:
        values = [value if isinstance(value, tuple) else (value,) for (value,) in values]
    return [_param(*each) for each in zip(values, here, strict=True)]


def only(here: Iterable[Any], cases: Iterable[Any]) -> list[Any]:
    """`cases`, of which `make test` runs those in `here`."""
    chosen = list(here)
    return only_if(lambda case: case in chosen, cases)


def only_if(here: Callable[[Any], bool], cases: Iterable[Any]) -> list[Any]:
    """`cases`, of which `make test` runs those that `here` is true for."""
    return [_param(case if isinstance(case, tuple) else (case,), here(case)) for case in cases]


def _param(values: Iterable[Any], here: bool) -> Any:
    return pytest.param(*values, marks=() if here else LARGE)
