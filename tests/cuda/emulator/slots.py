"""The form of an instruction: its C++, with a slot for everything that differs between its uses.

The thousands of instructions of a kernel have a few dozen forms, and those of all kernels a few
hundred. A form is compiled once; a kernel is a list of forms and of the numbers in their slots.
"""

from __future__ import annotations

from dataclasses import dataclass


class Slots:
    """The numbers of one instruction, and the C++ that names them."""

    def __init__(self) -> None:
        self.numbers: list[int] = []
        self.declarations: list[str] = []

    def register(self, offset: int, held: str) -> str:
        """A register's lanes of the C++ type `held`, at so many bytes of the warp's registers."""
        name = f"R{len(self.numbers)}"
        return self._add(name, offset, f"{held}* const {name} = lanes_at<{held}>(w, ")

    def number(self, value: int) -> str:
        """A number, u64."""
        name = f"I{len(self.numbers)}"
        return self._add(name, value & ((1 << 64) - 1), f"const u64 {name} = (")

    def _add(self, name: str, value: int, declaration: str) -> str:
        self.declarations.append(f"{declaration}o[{len(self.numbers)}]);")
        self.numbers.append(value)
        return name

    def form(self, code: str) -> str:
        """The body of the form's function, which returns whether the step goes on."""
        return f"{{ {' '.join(self.declarations)} {code} return true; }}"


@dataclass(frozen=True)
class Use:
    """An instruction of a kernel: its form, and the numbers in its slots."""

    form: str
    numbers: tuple[int, ...]
