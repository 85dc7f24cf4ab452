"""Tracks which capabilities of a device the generated code uses, by TVM target attribute.

A target claims what its code may use. A bundle requires only what its code does use, so it also
runs on devices that lack the rest, such as 16-bit floats in a model without them.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

Used = dict[str, int]
"""Attribute of a TVM target kind -> the bits of its value that are used."""

_USED: ContextVar[Used | None] = ContextVar("used", default=None)


@contextmanager
def what_is_used() -> Iterator[Used]:
    """Yield a mapping that collects the uses of all device code generated in the context.

    Builds that fail are included.
    """
    used: Used = {}
    token = _USED.set(used)
    try:
        yield used
    finally:
        _USED.reset(token)


def note_use(attribute: str, bits: int) -> None:
    """Record that the kernel being generated uses these bits of `attribute`."""
    used = _USED.get()
    if used is not None:
        used[attribute] = used.get(attribute, 0) | bits
