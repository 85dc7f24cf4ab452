"""PTX to what the machine runs: the basic blocks of each kernel, as forms and numbers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from . import arithmetic, bits, collectives, matrices, memory
from .declarations import offsets
from .instructions import emit
from .parse import Instruction, Kernel, Program, parse
from .ptx_types import PtxError
from .site import Frame, Site, frame_of, placed
from .slots import Use

FAMILIES = (arithmetic, bits, collectives, matrices, memory)
"""Imported for the rows that they enter into the table of instructions."""


@dataclass(frozen=True)
class Step:
    """A basic block: the line it begins with, how many instructions it has, and what they do."""

    line: int
    count: int
    uses: tuple[Use, ...]


@dataclass(frozen=True)
class Translated:
    """A kernel, whose forms are C++ that is not compiled yet."""

    name: str
    steps: tuple[Step, ...]
    heading: tuple[str, ...]
    """Lines of the kernel's file that say what a launch must know."""
    texts: Mapping[int, str]
    """Instructions that may fail, by line."""

    @property
    def forms(self) -> list[str]:
        """Each form once."""
        return list(dict.fromkeys(use.form for step in self.steps for use in step.uses))

    def lines(self, names: Mapping[str, str]) -> Iterator[str]:
        """The kernel's file, in which forms have these names (kernel_file.cc reads it)."""
        yield from self.heading
        yield from (f"text {line} {text}" for line, text in sorted(self.texts.items()))
        numbers = {form: str(i) for i, form in enumerate(self.forms)}
        yield from (f"form {names[form]}" for form in numbers)
        for step in self.steps:
            yield f"step {step.line} {step.count}"
            yield from (" ".join(("do", numbers[u.form], *map(str, u.numbers))) for u in step.uses)


def translate(ptx: str, only: str = "") -> dict[str, Translated]:
    """Each kernel by its name, or `only` one.

    Raises PtxError, with the line, for unknown PTX.
    """
    program = parse(ptx, only)
    if not program.kernels:
        raise PtxError(f"no kernel {only} in this PTX".replace("  ", " "))
    return {kernel.name: _kernel(kernel, program) for kernel in program.kernels}


def _kernel(kernel: Kernel, program: Program) -> Translated:
    frame = frame_of(kernel, program)
    steps = tuple(_step(frame, number, block) for number, block in enumerate(kernel.blocks))
    firsts = [block[0] for block in kernel.blocks if block]
    frame.texts.update({first.line: first.text for first in firsts})
    return Translated(kernel.name, steps, tuple(_heading(kernel, frame, program)), frame.texts)


def _step(frame: Frame, number: int, block: list[Instruction]) -> Step:
    used = []
    for index in range(len(block)):
        site = Site(frame, block, index, number + 1)
        if code := emit(site):
            used.append(Use(site.slots.form(code), tuple(site.slots.numbers)))
    return Step(block[0].line if block else 0, len(block), tuple(used))


def _heading(kernel: Kernel, frame: Frame, program: Program) -> Iterator[str]:
    """Sizes in bytes, the offset and size of each parameter, and the module's constants."""
    yield f"kernel {kernel.name}"
    sizes = (frame.scopes.bytes, frame.shared_bytes, frame.local_bytes, frame.param_bytes)
    yield f"sizes {' '.join(map(str, sizes))} {frame.granule} {frame.accesses}"
    at, _ = offsets(kernel.params)
    yield " ".join(["parameters", *(f"{at[p.name]} {p.size}" for p in kernel.params)])
    for name, (begin, end) in placed(program.data).items():
        yield f"data {begin} {end} {program.data[name].hex()}"
