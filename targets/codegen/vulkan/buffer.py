"""A buffer of a kernel and the variables through which it is accessed."""

from __future__ import annotations

from dataclasses import dataclass, field

from .types import Type


@dataclass
class Memory:
    """One buffer. `views` maps a unit to the variable that accesses the buffer in this unit."""

    name: str
    element: Type  # type at one TIR index
    storage: int
    binding: int = -1
    is_written: bool = False
    views: dict[Type, int] = field(default_factory=dict)

    @property
    def is_argument(self) -> bool:
        return self.binding >= 0
