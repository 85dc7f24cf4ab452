"""PTX types: what they are in C++, and their sizes."""

from __future__ import annotations

C_TYPES = {
    "b8": "u8",
    "u8": "u8",
    "s8": "s8",
    "b16": "u16",
    "u16": "u16",
    "s16": "s16",
    "b32": "u32",
    "u32": "u32",
    "s32": "s32",
    "b64": "u64",
    "u64": "u64",
    "s64": "s64",
    "f16": "f16",
    "bf16": "bf16",
    "f16x2": "f16x2",
    "bf16x2": "bf16x2",
    "f32": "f32",
    "f64": "f64",
    "pred": "u32",
}
"""By the name without its dot. A predicate is a word that is 0 or 1."""
_WORDS = {1: "8", 2: "16", 4: "32", 8: "64"}
_BYTES = {"8": 1, "16": 2, "32": 4, "64": 8, "x2": 4, "ed": 4}
HALVES = ("f16", "bf16")
REALS = (*HALVES, "f32", "f64")


class PtxError(Exception):
    """PTX that the emulator does not know; the message names the line."""


def size_of(ptx_type: str) -> int:
    """Bytes of a value."""
    return _BYTES[ptx_type[-2:] if ptx_type[-2:] in _BYTES else ptx_type[-1:]]


def word(size: int, sign: str = "u") -> str:
    """The C++ integer of `size` bytes."""
    return sign + _WORDS[size]


def is_signed(ptx_type: str) -> bool:
    return ptx_type.startswith("s")
