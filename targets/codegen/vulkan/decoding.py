"""Decodes SPIR-V words to instructions, names and numbers, for `listing.py`."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence

import numpy as np

from .opcodes import MAGIC, BuiltIn, Capability, Decoration, Glsl, Op, StorageClass


def names(enumeration: type) -> dict[int, str]:
    return {v: k for k, v in vars(enumeration).items() if isinstance(v, int)}


OPS, DECORATIONS, STORAGES = names(Op), names(Decoration), names(StorageClass)
CAPABILITIES, BUILTINS, FUNCTIONS = names(Capability), names(BuiltIn), names(Glsl)
FLOATS = {16: ("<H", np.float16), 32: ("<I", np.float32), 64: ("<Q", np.float64)}
# Forms of the operands after type and result: i an id, n a number; the last one repeats.
# Instructions that are not listed have ids only.
OPERANDS = {
    **dict.fromkeys((Op.Load, Op.Store, Op.LoopMerge), "iin"),
    **dict.fromkeys((Op.CompositeExtract, Op.SelectionMerge), "in"),
    **dict.fromkeys((Op.VectorShuffle, Op.SDot, Op.UDot, Op.SUDot), "iin"),
    **{op: "ini" for op, name in OPS.items() if name.startswith("GroupNonUniform")},
    **{op: "i" for op, name in OPS.items() if name.startswith("GroupNonUniformShuffle")},
    Op.Load: "in",
    Op.CooperativeMatrixLoadKHR: "iiin",
    Op.CooperativeMatrixStoreKHR: "iiiin",
    Op.CooperativeMatrixMulAddKHR: "iiin",
}
WITHOUT_RESULT = {
    Op.Store,
    Op.LoopMerge,
    Op.SelectionMerge,
    Op.Branch,
    Op.BranchConditional,
    Op.Return,
    Op.ControlBarrier,
    Op.CooperativeMatrixStoreKHR,
}

Instruction = tuple[int, Sequence[int]]
"""Opcode and operands."""


def instructions(words: Sequence[int]) -> Iterator[Instruction]:
    """Every instruction after the header of five words. Raises ValueError for malformed words."""
    if words[0] != MAGIC:
        raise ValueError(f"{words[0]:#x} is not SPIR-V's magic number")
    at = 5
    while at < len(words):
        count, op = words[at] >> 16, words[at] & 0xFFFF
        if count == 0 or at + count > len(words):
            raise ValueError(f"instruction {op} at word {at} has {count} words")
        yield op, words[at + 1 : at + count]
        at += count


def number(kind: str, bits: int, words: Sequence[int]) -> str:
    whole = sum(word << 32 * i for i, word in enumerate(words)) & ((1 << bits) - 1)
    if kind == "float":
        layout, dtype = FLOATS[bits]
        number = np.frombuffer(struct.pack(layout, whole), dtype)[0]
        text = str(number) if not np.isnan(number) else f"nan({whole:#x})"
        return text if bits == 32 else f"{text}:float{bits}"
    if kind == "int" and whole >> (bits - 1):
        whole -= 1 << bits
    return str(whole) if (kind, bits) == ("int", 32) else f"{whole}:{kind}{bits}"


def string(words: Sequence[int]) -> tuple[str, Sequence[int]]:
    """A literal string and the words after it."""
    data = struct.pack(f"<{len(words)}I", *words)
    text = data[: data.index(0)]
    return text.decode(), words[len(text) // 4 + 1 :]


def decoration(operands: Sequence[int]) -> str:
    kind, *rest = operands
    values = [BUILTINS[n] if kind == Decoration.BuiltIn else str(n) for n in rest]
    return " ".join([DECORATIONS[kind], *values])
