"""Declarations of PTX: parameters, variables in memory, and registers with their scopes."""

from __future__ import annotations

import re
import struct
from collections.abc import Sequence
from dataclasses import dataclass

from .ptx_types import C_TYPES, PtxError, size_of

_PARAMETER = re.compile(
    r"\.param\s+(?:\.align\s+(\d+)\s+)?\.(\w+)\s+"
    r"(?:\.ptr\s+(?:\.(?:global|shared|const|local)\s+)?(?:\.align\s+\d+\s+)?)?([\w$]+)(?:\[(\d+)\])?"
)
_VARIABLE = re.compile(
    r"(?:\.(?:extern|visible|weak|common)\s+)*\.(shared|local|global|const)\s+"
    r"(?:\.align\s+(\d+)\s+)?\.(\w+)\s+([\w$]+)(?:\[(\d*)\])?(?:\s*=.*)?$",
    re.S,
)
_RANGE = re.compile(r"(%?[\w$]+)<(\d+)>$")
_NUMBERED = re.compile(r"(%[a-zA-Z_]+)(\d+)$")
_NAME = re.compile(r"(?<![\w%$.])%?[A-Za-z_$][\w$]*")
_MOST_REGISTERS = 1 << 20


@dataclass(frozen=True)
class Variable:
    """A parameter or a variable in memory. An array without a size has size 0."""

    name: str
    space: str
    ptx_type: str
    align: int
    size: int


def parameters(text: str) -> list[Variable]:
    """The parameters between the parentheses of an entry."""
    return [
        Variable(m[3], "param", m[2], int(m[1] or size_of(m[2])), size_of(m[2]) * int(m[4] or 1))
        for m in _PARAMETER.finditer(text)
    ]


def variable(statement: str) -> Variable | None:
    """A declaration in shared, local, global or constant memory; None if it is something else."""
    match = _VARIABLE.match(statement)
    if match is None:
        return None
    unit = size_of(match[3])
    count = 1 if match[5] is None else int(match[5] or 0)
    return Variable(match[4], match[1], match[3], int(match[2] or unit), unit * count)


def initial_bytes(statement: str, found: Variable) -> bytes:
    """The content of initialised data, padded with zeros; empty without an initial value."""
    _, _, value = statement.partition("=")
    numbers = [int(n, 0) for n in re.findall(r"-?\b(?:0x[0-9a-fA-F]+|\d+)\b", value)]
    if not numbers:
        return b""
    unit = size_of(found.ptx_type)
    content = b"".join((n & ((1 << 8 * unit) - 1)).to_bytes(unit, "little") for n in numbers)
    return content.ljust(found.size, b"\0")


def offsets(variables: Sequence[Variable], start: int = 0) -> tuple[dict[str, int], int]:
    """Where each variable lies, and the bytes of all."""
    found, end = {}, start
    for v in variables:
        begin = -(-end // v.align) * v.align
        found[v.name], end = begin, begin + v.size
    return found, end


LANES, CACHE_LINE = 32, 64


@dataclass(frozen=True)
class Register:
    """Registers of one declaration: `count` of them, or None for a single one.

    `offset`: where the first one's lanes begin among the registers of a warp.
    """

    offset: int
    ptx_type: str
    count: int | None

    @property
    def stride(self) -> int:
        """Bytes from one register to the next."""
        return -(-LANES * size_of(self.ptx_type) // CACHE_LINE) * CACHE_LINE


class Scopes:
    """Registers by name. An inner scope's register gets a name that no other has."""

    def __init__(self) -> None:
        self.registers: dict[str, Register] = {}
        self.bytes = 0
        self.names: list[dict[str, str]] = [{}]

    def enter(self) -> None:
        self.names.append({})

    def leave(self) -> bool:
        """Whether a scope is left after this one ends."""
        self.names.pop()
        return bool(self.names)

    def declare(self, statement: str, line: int) -> None:
        match = re.match(r"\.reg\s*\.(\w+)\s+(.*)", statement)
        if match is None or match[1] not in C_TYPES:
            raise PtxError(f"line {line}: unknown registers: {statement[:80]}")
        for name in (n.strip() for n in match[2].split(",")):
            ranged = _RANGE.match(name)
            count = int(ranged[2]) if ranged else None
            if count is not None and count > _MOST_REGISTERS:
                raise PtxError(f"line {line}: too many registers: {name}")
            self._add(ranged[1] if ranged else name, match[1], count)

    def _add(self, name: str, ptx_type: str, count: int | None) -> None:
        unique = name if len(self.names) == 1 else f"{name}__{len(self.registers)}"
        self.names[-1][name] = unique
        self.registers[unique] = added = Register(self.bytes, ptx_type, count)
        self.bytes += added.stride * (1 if count is None else count)

    def resolve(self, text: str) -> str:
        """The instruction with the unique names of inner scopes' registers."""
        if len(self.names) == 1:
            return text
        return _NAME.sub(lambda m: self._unique(m[0]), text)

    def _unique(self, name: str) -> str:
        for scope in reversed(self.names[1:]):
            if name in scope:
                return scope[name]
        return name

    def find(self, name: str) -> tuple[int, str] | None:
        """Where a register's lanes begin, and its type."""
        found = self.registers.get(name)
        if found and found.count is None:
            return found.offset, found.ptx_type
        match = _NUMBERED.match(name)
        ranged = self.registers.get(match[1]) if match else None
        if match is None or ranged is None or int(match[2]) >= (ranged.count or 0):
            return None
        return ranged.offset + int(match[2]) * ranged.stride, ranged.ptx_type


def float_bits(literal: str) -> int:
    """The bits of `0f3F800000` or `0d...`."""
    return int(literal[2:], 16)


def as_single(bits_of_double: int) -> int:
    """A double's literal where a float is wanted."""
    value = struct.unpack("<d", struct.pack("<Q", bits_of_double))[0]
    return int(struct.unpack("<I", struct.pack("<f", value))[0])
