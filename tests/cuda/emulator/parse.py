"""PTX text to kernels: their parameters, registers, memory and basic blocks of instructions."""

from __future__ import annotations

import re
from bisect import bisect
from collections.abc import Iterator
from dataclasses import dataclass, field

from .declarations import Scopes, Variable, initial_bytes, parameters, variable
from .ptx_types import PtxError

_HEADER = re.compile(r"\s*\.(version|target|address_size)[^\n]*\n")
_ENTRY = re.compile(r"\s*(?:\.visible\s+|\.weak\s+)?\.entry\s+([\w$]+)\s*\(([^)]*)\)([^{;]*)\{")
_LABEL = re.compile(r"\s*([%$\w]+):(?!:)")
_LETTER = re.compile(r"\S")
_BRACE = re.compile(r"[{}]")
_GUARD = re.compile(r"@(!?%?[\w$]+)\s+(.*)", re.S)
_IGNORED = (".pragma", ".loc", ".file", ".section")
_USED = re.compile(r'\.pragma "used_bytes_mask (\w+)"')
_COLLECTIVES = ("shfl", "vote", "match", "redux", "mma", "ldmatrix", "bar", "barrier")
_ENDS = ("bra", "brx", "ret", "exit", "bar", "barrier", "trap")


@dataclass(frozen=True)
class Instruction:
    """`@guard name.modifiers operands;` with the line of the PTX text it starts on."""

    line: int
    text: str
    guard: str
    name: str
    modifiers: tuple[str, ...]
    operands: tuple[str, ...]
    used: int = 0
    """Bit i: the kernel uses byte i of what is loaded; 0: all.

    NVRTC of CUDA 13 widens loads to 16 bytes where no allocation ends in between.
    """


@dataclass
class Kernel:
    """An entry: blocks of instructions, and the block that each label begins."""

    name: str
    params: list[Variable]
    scopes: Scopes = field(default_factory=Scopes)
    memory: dict[str, list[Variable]] = field(default_factory=lambda: {"shared": [], "local": []})
    blocks: list[list[Instruction]] = field(default_factory=lambda: [[]])
    labels: dict[str, int] = field(default_factory=dict)
    targets: dict[str, list[str]] = field(default_factory=dict)
    used: int = 0
    """What a pragma says of the next instruction."""


@dataclass
class Program:
    """A PTX file. `dynamic` names shared memory whose size the launch says, `data` constants."""

    kernels: list[Kernel] = field(default_factory=list)
    dynamic: set[str] = field(default_factory=set)
    shared: list[Variable] = field(default_factory=list)
    data: dict[str, bytes] = field(default_factory=dict)


class Lines:
    """The number of the line that holds a position of the text."""

    def __init__(self, text: str) -> None:
        self.starts = [0, *(m.end() for m in re.finditer("\n", text))]

    def at(self, position: int) -> int:
        return bisect(self.starts, position)


def without_comments(text: str) -> str:
    """The text with as many lines as before."""
    text = re.sub(r"/\*.*?\*/", lambda m: "\n" * m[0].count("\n"), text, flags=re.S)
    return re.sub(r"//[^\n]*", "", text)


def parse(text: str, only: str = "") -> Program:
    """Read a PTX file, `only` this kernel if one is named.

    Raises PtxError, with the line, for what it cannot read.
    """
    text = without_comments(text.rstrip("\0"))
    program, lines, at = Program(), Lines(text), 0
    while _start(text, at) < len(text):
        if match := _HEADER.match(text, at):
            at = match.end()
        elif match := _ENTRY.match(text, at):
            if only not in ("", match[1]):
                at = _skip_body(text, match.end())
                continue
            kernel = Kernel(match[1], parameters(match[2]))
            at = _read_body(kernel, text, match.end(), lines)
            program.kernels.append(kernel)
        else:
            end = text.find(";", at)
            _declare(program, " ".join(text[at:end].split()), lines.at(_start(text, at)))
            at = end + 1
    return program


def _start(text: str, at: int) -> int:
    """The position of the next letter; the end of the text if there is none."""
    found = _LETTER.search(text, at)
    return found.start() if found else len(text)


def _skip_body(text: str, at: int) -> int:
    """The position behind the brace that ends the kernel."""
    depth = 1
    while depth:
        brace = _BRACE.search(text, at)
        if brace is None:
            raise PtxError("a kernel has no end")
        depth += 1 if brace[0] == "{" else -1
        at = brace.end()
    return at


def _declare(program: Program, statement: str, line: int) -> None:
    """Variables of the module. Functions are refused: kernels call nothing."""
    if statement.startswith(_IGNORED):
        return
    found = variable(statement)
    if found is None:
        raise PtxError(f"line {line}: only kernels and variables are known: {statement[:80]}")
    if found.space == "shared" and found.size == 0:
        program.dynamic.add(found.name)
    elif found.space == "shared":
        program.shared.append(found)
    elif content := initial_bytes(statement, found):
        program.data[found.name] = content
    else:
        raise PtxError(f"line {line}: data of the module must be constant: {statement[:80]}")


def _read_body(kernel: Kernel, text: str, at: int, lines: Lines) -> int:
    """Read statements up to the brace that ends the kernel. Returns the position behind it."""
    while True:
        at = _start(text, at)
        if text[at] == "{":
            kernel.scopes.enter()
            at += 1
        elif text[at] == "}":
            at += 1
            if not kernel.scopes.leave():
                return at
        elif label := _LABEL.match(text, at):
            _begin_block(kernel)
            kernel.labels[label[1]] = len(kernel.blocks) - 1
            at = label.end()
        else:
            end = text.index(";", at)
            _statement(kernel, " ".join(text[at:end].split()), lines.at(at))
            at = end + 1


def _begin_block(kernel: Kernel) -> None:
    if kernel.blocks[-1]:
        kernel.blocks.append([])


def _statement(kernel: Kernel, text: str, line: int) -> None:
    if text.startswith(".reg"):
        kernel.scopes.declare(text, line)
    elif text.startswith(".branchtargets"):
        name = next(n for n, block in kernel.labels.items() if block == len(kernel.blocks) - 1)
        kernel.targets[name] = [t.strip() for t in text.split(" ", 1)[1].split(",")]
    elif found := variable(text):
        kernel.memory[found.space].append(found)
    elif mask := _USED.match(text):
        kernel.used = int(mask[1], 0)
    elif text and not text.startswith(_IGNORED):
        _instruction(kernel, kernel.scopes.resolve(text), line)


def _instruction(kernel: Kernel, text: str, line: int) -> None:
    guard, rest = "", text
    if match := _GUARD.match(text):
        guard, rest = match[1], match[2]
    head, _, operands = rest.partition(" ")
    name, *modifiers = head.replace("::", "_").split(".")
    if "{" in head or not re.fullmatch(r"[a-z][\w]*", name):
        raise PtxError(f"line {line}: not an instruction: {text[:80]}")
    before = kernel.blocks[-1]
    if name in _COLLECTIVES and before and before[-1].name not in _COLLECTIVES:
        kernel.blocks.append([])  # lanes may have to wait for others before it
    used, kernel.used = kernel.used, 0
    found = Instruction(line, text, guard, name, tuple(modifiers), tuple(split(operands)), used)
    kernel.blocks[-1].append(found)
    if name in _ENDS and modifiers[:1] != ["warp"]:
        kernel.blocks.append([])


def split(operands: str) -> Iterator[str]:
    """Operands by commas that are in no brackets."""
    depth, start = 0, 0
    for at, letter in enumerate(operands):
        depth += (letter in "{[(") - (letter in "}])")
        if letter == "," and depth == 0:
            yield operands[start:at].strip()
            start = at + 1
    if operands[start:].strip():
        yield operands[start:].strip()
