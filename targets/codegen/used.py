"""What the device code that was generated uses of a device, by the attributes that claim it.

A target claims what its code may use. What a bundle asks for is less: the same code runs on devices
that lack the rest, as 16-bit floats for a model that has none.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

Used = dict[str, int]
"""Attributes of TVM's target kinds, and the bits of their values that are used."""

_USED: ContextVar[Used | None] = ContextVar("used", default=None)


@contextmanager
def what_is_used() -> Iterator[Used]:
    """Filled with what all device code uses that is generated inside, also by builds that fail."""
    used: Used = {}
    token = _USED.set(used)
    try:
        yield used
    finally:
        _USED.reset(token)


def note_use(attribute: str, bits: int) -> None:
    """Of a kernel that is being generated, for whoever asked."""
    used = _USED.get()
    if used is not None:
        used[attribute] = used.get(attribute, 0) | bits
