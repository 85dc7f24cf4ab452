"""Machine code of NVIDIA GPUs as nvdisasm prints it: instructions, loops, resources."""

from __future__ import annotations

import re
import subprocess
from collections import Counter
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

TENSOR = ("HMMA", "IMMA")
LOCAL_MEMORY = ("LDL", "STL")
LINE = re.compile(r"^\s+/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P\w+\s+)?([A-Z][A-Z0-9_.]*)\s*([^;]*);")
LABEL = re.compile(r"^(\.L\w+):")
REGISTERS = re.compile(r"Used (\d+) registers")


@dataclass(frozen=True)
class Code:
    """The instructions of one kernel, in order, and the spans of its loops, the shortest first."""

    instructions: tuple[str, ...]
    loops: tuple[tuple[int, int], ...]
    registers: int

    @property
    def hot_loop(self) -> Counter[str]:
        """The instructions of the loop with the most products, of an iteration."""
        return self.loop_of(*TENSOR)

    def loop_of(self, *names: str) -> Counter[str]:
        """Those of the smallest loop with the most instructions of these names."""
        inside = [Counter(self.instructions[first : last + 1]) for first, last in self.loops]
        return max(inside, key=lambda loop: count(loop, *names), default=Counter())

    @property
    def mix(self) -> Counter[str]:
        return Counter(self.instructions)


def count(mix: Counter[str], *names: str) -> int:
    """Number of instructions whose name starts with one of `names`."""
    return sum(number for name, number in mix.items() if name.startswith(names))


def disassembled(cubin: bytes, log: str) -> Code:
    """The code of a cubin with one kernel; `log` is what the compiler says about it."""
    with TemporaryDirectory() as folder:
        path = Path(folder, "kernel.cubin")
        path.write_bytes(cubin)
        command = [str(nvdisasm()), "-c", str(path)]
        text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found = REGISTERS.search(log)
    return _parsed(text, int(found[1]) if found else 0)


def _parsed(text: str, registers: int) -> Code:
    instructions: list[tuple[str, str]] = []
    labels: dict[str, int] = {}
    for line in text.splitlines():
        if label := LABEL.match(line):
            labels[label[1]] = len(instructions)
        elif instruction := LINE.match(line):
            instructions.append((instruction[1], instruction[2]))
    names = tuple(name for name, _ in instructions)
    return Code(names, tuple(_loops(instructions, labels)), registers)


def _loops(instructions: list[tuple[str, str]], labels: dict[str, int]) -> list[tuple[int, int]]:
    """(first, last) of every backward branch, the shortest first."""
    found = []
    for number, (name, operands) in enumerate(instructions):
        target = re.search(r"\((\.L\w+)\)", operands) if name.startswith("BRA") else None
        if target and labels.get(target[1], number) < number:
            found.append((labels[target[1]], number))
    return sorted(found, key=lambda loop: loop[1] - loop[0])


@cache
def nvdisasm() -> Path | None:
    """NVIDIA's disassembler, of any installed major: it reads the code of all."""
    spec = find_spec("nvidia")
    folders = (spec.submodule_search_locations or ()) if spec else ()
    found = (path for folder in folders for path in Path(folder).glob("*/bin/nvdisasm"))
    return next(found, None)
