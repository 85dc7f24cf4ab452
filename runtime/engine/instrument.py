"""Callbacks around every call of TVM's virtual machine."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any


@contextmanager
def instrumented(
    machine: Any,
    convert: Callable[[Any], Any],
    before: Callable[[str, Sequence[Any]], None],
    after: Callable[[str], None],
) -> Iterator[None]:
    """before(name, arguments), then after(name) for every call; `convert` makes a function of TVM.

    Raises at the end what the first of them raised.
    """
    errors: list[BaseException] = []

    def hook(_: Any, name: str, is_before: bool, __: Any, *arguments: Any) -> int:
        try:
            if is_before:
                before(name, arguments)
            else:
                after(name)
        except BaseException as error:  # noqa: BLE001  C++ would turn it into a RuntimeError
            errors.append(error)
        return 0  # continue with the call

    machine["set_instrument"](convert(hook))
    try:
        yield
    finally:
        machine["set_instrument"](None)
    if errors:
        raise errors[0]
