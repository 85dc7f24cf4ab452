"""The order of inputs for products whose codes of 4 bits are unpacked in registers.

Four words of a column hold a group of 32 inputs: word w has inputs 4 w to 4 w + 3 in the lower
nibbles of its bytes, and those 16 further in the upper ones. One mask leaves two nibbles in the
halves of a register, those of bytes 0 and 2 or of 1 and 3; and the lane of a warp that has word w
holds places 2 w, 2 w + 1, 2 w + 8 and 2 w + 9 of each 16 inputs of a matrix. So within each 16,
rows are stored and words are read in the order in which the nibbles come. A sum of products does
not depend on it.
"""

from __future__ import annotations

from tvm.ir import Expr

ORDERED = 16
"""Inputs that change places with each other."""


def nibble(place: Expr) -> tuple[Expr, Expr]:
    """The word (0 to 3) and the byte in it of the input at this place of 16."""
    return place % 8 // 2, place % 2 * 2 + place // 8


def input_at(place: Expr) -> Expr:
    """The input at this place of a row."""
    word, byte = nibble(place % ORDERED)
    return place // ORDERED * ORDERED + word * 4 + byte
