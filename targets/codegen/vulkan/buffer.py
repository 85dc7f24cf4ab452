"""One buffer of a kernel, and the variables through which it is accessed."""

from __future__ import annotations

from dataclasses import dataclass, field

from .types import Type


@dataclass
class Memory:
    """One buffer. `views` are its variables by the unit of their array."""

    name: str
    element: Type  # what one index of TIR names
    storage: int
    binding: int = -1
    is_written: bool = False
    views: dict[Type, int] = field(default_factory=dict)

    @property
    def is_argument(self) -> bool:
        return self.binding >= 0
