"""Disassembles SPIR-V words to text that is easy to read and compare, without SPIR-V tools.

    %5 = IAdd int32 %3 7
    %6 = AccessChain float32* x 0 %5

Types and constants are printed inline: `7` is an int32, `0.5` a float32, other types follow a colon
(`7:uint32`). Values are numbered in order of appearance, blocks are L0, L1, ...; variables have
names and are listed with their decorations before the code.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from .decoding import (
    CAPABILITIES,
    FUNCTIONS,
    OPERANDS,
    OPS,
    STORAGES,
    WITHOUT_RESULT,
    decoration,
    instructions,
    number,
    string,
)
from .opcodes import Op


def listing(words: Sequence[int]) -> str:
    """The text of a whole module."""
    return Listing(words).text()


class Listing:
    """Disassembler state: the meaning of each id."""

    def __init__(self, words: Sequence[int]) -> None:
        self.version = f"{words[1] >> 16}.{words[1] >> 8 & 0xFF}"
        self.every = list(instructions(words))
        self.types: dict[int, str] = {}
        self.literals: dict[int, tuple[str, int]] = {}  # number type -> (kind, bits)
        self.pointees: dict[int, tuple[str, str]] = {}  # pointer type -> (storage, pointee)
        self.known: dict[int, str] = {}  # constants, variables, values and blocks
        self.named: dict[int, str] = {}
        self.marks: dict[int, list[str]] = {}
        self.members: dict[int, list[str]] = {}
        self.variables: dict[str, int] = {}  # name -> number of variables
        self.blocks = self.values = 0

    def text(self) -> str:
        start = next(i for i, (op, _) in enumerate(self.every) if op == Op.Function)
        head = [line for op, operands in self.every[:start] if (line := self._head(op, operands))]
        code = self.every[start + 1 : -1]
        for op, operands in code:
            if op == Op.Label:
                self._block(operands[0])
        lines = [self._line(op, operands) for op, operands in code]
        return "\n".join([f"SPIR-V {self.version}", *head, "", *lines]) + "\n"

    # before the function

    def _head(self, op: int, operands: Sequence[int]) -> str:
        """A line, or "" for a declaration that is printed inline."""
        name = OPS[op]
        if name.startswith("Type"):
            self.types[operands[0]] = self._type(op, operands[0], operands[1:])
        elif name.startswith("Constant"):
            self.known[operands[1]] = self._constant(op, operands[0], operands[2:])
        elif op == Op.Variable:
            return self._variable(*operands)
        elif op == Op.Name:
            self.named[operands[0]] = string(operands[1:])[0]
        elif op == Op.Decorate:
            self.marks.setdefault(operands[0], []).append(decoration(operands[1:]))
        elif op == Op.MemberDecorate:
            self.members.setdefault(operands[0], []).append(decoration(operands[2:]))
        elif op != Op.ExtInstImport:
            return self._global(op, operands)
        return ""

    def _global(self, op: int, operands: Sequence[int]) -> str:
        if op == Op.Capability:
            return f"Capability {CAPABILITIES[operands[0]]}"
        if op == Op.EntryPoint:
            name, rest = string(operands[2:])
            return f"EntryPoint {name}, {len(rest)} variables"
        if op in (Op.Extension, Op.ModuleProcessed):
            return f"{OPS[op]} {string(operands)[0]}"
        numbers = operands[2:] if op == Op.ExecutionMode else operands
        word = "LocalSize" if op == Op.ExecutionMode else OPS[op]
        return " ".join([word, *map(str, numbers)])

    def _type(self, op: int, id: int, rest: Sequence[int]) -> str:
        marks = " ".join(self.marks.get(id, []))
        if op in (Op.TypeInt, Op.TypeFloat):
            kind = "float" if op == Op.TypeFloat else "int" if rest[1] else "uint"
            self.literals[id] = kind, rest[0]
            return f"{kind}{rest[0]}"
        if op == Op.TypeVector:
            return f"{self.types[rest[0]]}x{rest[1]}"
        if op == Op.TypeArray:
            return f"{self.types[rest[0]]}[{self.known[rest[1]].partition(':')[0]}]"
        if op == Op.TypeRuntimeArray:
            return f"{self.types[rest[0]]}[] {marks}"
        if op == Op.TypePointer:
            self.pointees[id] = STORAGES[rest[0]], self.types[rest[1]]
            return f"{self.types[rest[1]]}*"
        if op == Op.TypeStruct:
            each = zip(rest, self.members.get(id, []), strict=True)
            return f"{marks} {{{', '.join(f'{self.types[t]} {mark}' for t, mark in each)}}}"
        if op == Op.TypeCooperativeMatrixKHR:
            return f"matrix({self.types[rest[0]]} {' '.join(self.known[i] for i in rest[1:])})"
        return OPS[op].removeprefix("Type").lower()

    def _constant(self, op: int, type: int, rest: Sequence[int]) -> str:
        if op == Op.Constant:
            return number(*self.literals[type], rest)
        if op == Op.ConstantComposite:
            parts = [self.known[i] for i in rest]
            return f"{self.types[type]}({', '.join(parts if len({*parts}) > 1 else parts[:1])})"
        return OPS[op].removeprefix("Constant").lower()

    def _variable(self, type: int, id: int, *_: int) -> str:
        storage, pointee = self.pointees[type]
        marks = self.marks.get(id, [])
        builtin = next((m for m in marks if m.startswith("BuiltIn")), "")
        name = builtin.removeprefix("BuiltIn ") or self.named.get(id) or storage.lower()
        self.variables[name] = number = self.variables.get(name, 0) + 1
        name += f".{number}" if number > 1 else ""
        self.known[id] = name
        return " ".join([f"{name}: {storage} {pointee}", *marks])

    # inside

    def _line(self, op: int, operands: Sequence[int]) -> str:
        if op == Op.Label:
            return f"{self.known[operands[0]]}:"
        if op == Op.Variable:
            return "  " + self._variable(*operands)
        if op in WITHOUT_RESULT:
            return "  " + " ".join([OPS[op], *self._operands(op, operands)])
        type, result, *rest = operands
        name = OPS[op]
        if op == Op.ExtInst:
            _, function, *rest = rest
            name = f"GLSL.{FUNCTIONS[function]}"
        words = [name, self.types[type], *self._operands(op, rest)]
        return f"  {self._value(result)} = {' '.join(words)}"

    def _operands(self, op: int, operands: Sequence[int]) -> Iterator[str]:
        forms = OPERANDS.get(op, "i")
        for i, operand in enumerate(operands):
            is_id = forms[min(i, len(forms) - 1)] == "i"
            yield self._value(operand) if is_id else str(operand)

    def _block(self, id: int) -> None:
        self.known[id] = f"L{self.blocks}"
        self.blocks += 1

    def _value(self, id: int) -> str:
        """Number a value at its first use: a phi refers to later values."""
        if id not in self.known:
            self.values += 1
            self.known[id] = f"%{self.values}"
        return self.known[id]
