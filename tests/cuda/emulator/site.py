"""One instruction at its place in a kernel: operands as C++ expressions, results as assignments.

What differs between uses of the same form (registers, numbers, lines) is in its slots.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from .declarations import Scopes, as_single, float_bits, offsets
from .parse import Instruction, Kernel, Program
from .ptx_types import C_TYPES, PtxError, is_signed, size_of, word
from .slots import Slots

_INTEGER = re.compile(r"(-?)(0[xX][0-9a-fA-F]+|0[bB][01]+|\d+)U?$")
_ADDRESS = re.compile(r"\[\s*([^\s+\]]+)\s*(?:\+\s*(-?\w+))?\s*\]$")
_KNOWN = ("bfe", "bfi", "prmt", "shf")
"""Instructions whose literals are part of their form."""
SPECIAL = {
    "%laneid": "u32(l)",
    "%warpid": "w.id",
    "%lanemask_eq": "(1u << l)",
    "%lanemask_lt": "((1u << l) - 1)",
    "%lanemask_le": "((2u << l) - 1)",
    "%lanemask_gt": "~((2u << l) - 1)",
    "%lanemask_ge": "~((1u << l) - 1)",
    "%dynamic_smem_size": "w.block->dynamic",
    **{f"%tid.{a}": f"w.tid[{i}][l]" for i, a in enumerate("xyz")},
    **{
        f"%{name}.{a}": f"w.block->{name}[{i}]"
        for name in ("ctaid", "nctaid", "ntid")
        for i, a in enumerate("xyz")
    },
}


HERE, PARAMS, DATA = "", "u64(w.block->params) + ", "u64(w.block->kernel->data) + "
"""What an address is counted from: its memory space, or an address of the host."""


@dataclass
class Frame:
    """What the instructions of one kernel share: names, addresses, and what they ask for."""

    scopes: Scopes
    labels: Mapping[str, int]
    targets: Mapping[str, list[str]]
    addresses: dict[str, tuple[str, int]]
    params: Mapping[str, int]
    shared_bytes: int
    local_bytes: int
    param_bytes: int
    granule: int = 4
    accesses: int = 0
    texts: dict[int, str] = field(default_factory=dict)


def frame_of(kernel: Kernel, program: Program) -> Frame:
    """Lay out shared and local memory, and give every name its address."""
    shared, shared_bytes = offsets([*program.shared, *kernel.memory["shared"]])
    local, local_bytes = offsets(kernel.memory["local"])
    params, param_bytes = offsets(kernel.params)
    start = -(-shared_bytes // 16) * 16 if program.dynamic else shared_bytes
    addresses = {name: (HERE, at) for name, at in {**shared, **local}.items()}
    addresses.update(dict.fromkeys(program.dynamic, (HERE, start)))
    addresses.update({name: (PARAMS, at) for name, at in params.items()})
    addresses.update({name: (DATA, at) for name, (at, _) in placed(program.data).items()})
    labels, targets = kernel.labels, kernel.targets
    sizes = (start, max(local_bytes, 1), param_bytes)
    return Frame(kernel.scopes, labels, targets, addresses, params, *sizes)


def placed(data: Mapping[str, bytes]) -> dict[str, tuple[int, int]]:
    """Where the constants of a module begin and end."""
    found, end = {}, 0
    for name, content in data.items():
        begin = -(-end // 16) * 16
        found[name], end = (begin, begin + len(content)), begin + len(content)
    return found


class Site:
    """An instruction of a block, its type (the last one named), and the block that follows."""

    def __init__(
        self, frame: Frame, block: Sequence[Instruction], index: int, following: int
    ) -> None:
        self.frame, self.following, self.begins = frame, following, index == 0
        self.instruction = instruction = block[index]
        self.types = [m for m in instruction.modifiers if m in C_TYPES]
        self.operands, self.modifiers = instruction.operands, instruction.modifiers
        self.line, self.slots = instruction.line, Slots()

    @property
    def type(self) -> str:
        if not self.types:
            raise self.unknown("no type")
        return self.types[-1]

    def has(self, modifier: str) -> bool:
        return modifier in self.modifiers

    def one_of(self, *names: str) -> str:
        """The modifier that is one of these, or an empty string."""
        return next((m for m in self.modifiers if m in names), "")

    def unknown(self, why: str) -> PtxError:
        return PtxError(f"line {self.line}: {why}: {self.instruction.text[:120]}")

    def number(self, value: int) -> str:
        """A u32 that is not the same wherever this form is used."""
        return f"u32({self.slots.number(value)})"

    def may_fail(self) -> str:
        """The line, for a check that fails while the kernel runs."""
        self.frame.texts[self.line] = self.instruction.text
        return self.number(self.line)

    def access(self) -> str:
        """The number of a new access to memory."""
        self.frame.accesses += 1
        return self.number(self.frame.accesses - 1)

    def lane(self, register: tuple[int, str]) -> str:
        """A register of this lane, in the C++ integer of its size."""
        offset, held = register
        return f"{self.slots.register(offset, word(size_of(held)))}[l]"

    def operand(self, index: int) -> str:
        if index >= len(self.operands):
            raise self.unknown("too few operands")
        return self.operands[index]

    def value(self, index: int, ptx_type: str | None = None) -> str:
        """The operand of a lane, in the C++ type of `ptx_type`."""
        return self.read(self.operand(index), ptx_type or self.type)

    def read(self, operand: str, ptx_type: str) -> str:
        wanted = C_TYPES[ptx_type]
        if operand.startswith("!"):
            return f"({self.read(operand[1:], 'pred')} ^ 1)"
        if found := self.frame.scopes.find(operand):
            return self._register(self.lane(found), found[1], ptx_type)
        if operand in SPECIAL:
            return f"{wanted}({SPECIAL[operand]})"
        if operand in self.frame.addresses:
            base, at = self.frame.addresses[operand]
            return f"{wanted}({base}{self.slots.number(at)})"
        return f"as<{wanted}>({word(size_of(ptx_type))}({self._given(operand, ptx_type)}))"

    def _given(self, operand: str, ptx_type: str) -> str:
        """A literal. Selectors and places of bits are part of the form: g++ knows what to do."""
        number = self._literal(operand, ptx_type)
        return f"{number:#x}" if self.instruction.name in _KNOWN else self.slots.number(number)

    def _register(self, lane: str, held: str, ptx_type: str) -> str:
        """A register's low bits as another type of at most its size."""
        if "pred" in (held, ptx_type):
            if held != ptx_type:
                raise self.unknown("a predicate is no number")
            return lane
        held_size, size = size_of(held), size_of(ptx_type)
        if held_size < size:
            raise self.unknown("a register is narrower than its type")
        low = lane if held_size == size else f"{word(size)}({lane})"
        return low if C_TYPES[ptx_type] == word(size) else f"as<{C_TYPES[ptx_type]}>({low})"

    def _literal(self, operand: str, ptx_type: str) -> int:
        """The bits of a number in the PTX text."""
        size = size_of(ptx_type)
        if re.match(r"0[fFdD][0-9a-fA-F]+$", operand):
            number = float_bits(operand)
            if operand[1] in "dD" and size == 4:
                number = as_single(number)
            return number & ((1 << 8 * size) - 1)
        match = _INTEGER.match(operand)
        if match is None:
            raise self.unknown(f"unknown operand {operand!r}")
        number = (-1 if match[1] else 1) * int(match[2], 0)
        if ptx_type == "pred":  # true is written as -1
            number = int(number != 0)
        return number & ((1 << 8 * size) - 1)

    def assign(self, operand: str, ptx_type: str, expression: str, masked: bool = True) -> str:
        """Store the result of a lane; `masked` if lanes that are not active come here too."""
        if operand == "_":
            return f"(void)({expression});"
        found = self.frame.scopes.find(operand)
        if found is None:
            raise self.unknown(f"no register {operand!r}")
        lane, value = self.lane(found), self._held(found[1], ptx_type, expression)
        return f"{lane} = go ? {value} : {lane};" if masked else f"{lane} = {value};"

    def _held(self, held: str, ptx_type: str, expression: str) -> str:
        """The content of a register that may be wider than the value, extended by its sign."""
        if "pred" in (held, ptx_type):
            if held != ptx_type:
                raise self.unknown("a predicate is no number")
            return f"u32({expression})"
        size, held_size = size_of(ptx_type), size_of(held)
        if held_size < size:
            raise self.unknown("a register is narrower than its type")
        if held_size == size:
            return f"bits({C_TYPES[ptx_type]}({expression}))"
        if is_signed(ptx_type):
            return f"{word(held_size)}({word(held_size, 's')}({C_TYPES[ptx_type]}({expression})))"
        return f"{word(held_size)}(bits({C_TYPES[ptx_type]}({expression})))"

    def lanes(self, code: str) -> str:
        """Run the code for all lanes; `go` says which of them keep their results."""
        guard = self.instruction.guard
        go = f"on[l] & (0 - {self.read(guard, 'pred')})" if guard else "on[l]"
        return f"EACH_LANE(l) {{ const u32 go = {go}; {code} }}"

    def result(self, expression: str, ptx_type: str | None = None) -> str:
        """An instruction of one result in operand 0, a function of the same lane."""
        return self.lanes(self.assign(self.operand(0), ptx_type or self.type, expression))

    def active(self) -> str:
        """A declaration of `active`, the lanes that execute this instruction."""
        guard = self.instruction.guard
        if not guard:
            return "const u32 active = m;"
        set_bits = f"active |= ({self.read(guard, 'pred')}) << l;"
        return f"u32 active = 0; LANES(l) {set_bits} active &= m;"

    def each_active(self, code: str) -> str:
        return f"LANES(l) if (active >> l & 1) {{ {code} }}"

    def meets(self, named: str, stray: str, what: str) -> str:
        """Code that leaves the step if lanes of this collective are still elsewhere."""
        lanes = f"{named}, {stray}, active, m, {self.number(self.following - 1)}, {self.may_fail()}"
        begins = f"bool({self.slots.number(int(self.begins))})"
        return f'if (!meet(w, {{{lanes}, {begins}, "{what}"}})) return false;'

    def goes(self, step: int, mask: str) -> str:
        """Code that sends lanes to another step."""
        return f"w.go({self.number(step)}, {mask});"

    def vector(self, index: int) -> list[str]:
        """The registers of a vector operand `{a, b}`, or the operand alone."""
        operand = self.operand(index)
        if not operand.startswith("{"):
            return [operand]
        return [part.strip() for part in operand[1:-1].split(",")]

    def address(self, index: int) -> str:
        """The address `[base + offset]` of a lane, u64."""
        match = _ADDRESS.match(self.operand(index))
        if match is None:
            raise self.unknown("unknown address")
        return f"{self._base(match[1])} + {self.slots.number(int(match[2] or '0', 0))}"

    def is_parameter(self, index: int, size: int) -> bool:
        """Whether an address is that of `size` bytes of a named parameter."""
        match = _ADDRESS.match(self.operand(index))
        if match is None or match[1] not in self.frame.params:
            return False
        return (
            self.frame.params[match[1]] + int(match[2] or "0", 0) + size <= self.frame.param_bytes
        )

    def _base(self, name: str) -> str:
        found = self.frame.scopes.find(name)
        if found and found[1] != "pred":
            return f"u64({self.lane(found)})"
        return self.read(name, "u64")
