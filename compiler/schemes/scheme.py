"""What a storage of weights must be able to do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np
from tvm import te

from handglass.schedules.isa.integer_isa import Codes
from handglass.schedules.select import Selection, Units, select

from ..ops.matmul import Dequantize

Arrays = Mapping[str, np.ndarray]

# With the weights as stored only the order of additions differs, and in the language model keys
# and values that are kept in float16: measured 107 to 130 dB, and 78 to 91 with those. Faults put
# in on purpose (positions missing or swapped, heads interleaved, no causal mask, a wrong scale, a
# branch left out) left -2 to 37 dB: more than 4-bit storage does, which therefore hides them.
FLOAT_ARITHMETIC_DB = 55.0
# Activations that are rounded to integers on both sides differ by a whole step wherever one lies
# near the middle of two, and layers add that up: measured 46 to 52 dB on the demo model, 37 on
# random weights of full size. Below 37 dB only the grossest faults are told from rounding.
INTEGER_ARITHMETIC_DB = 30.0
# Activations that are rounded to bfloat16 on both sides differ by a step now and then, as above,
# but the steps are finer.
BFLOAT16_ARITHMETIC_DB = 45.0


class Scheme(Protocol):
    """Storage of one weight matrix (out_features n, in_features k)."""

    @property
    def name(self) -> str: ...

    @property
    def weights(self) -> str:
        """What the table of kernels (schedules/select.py) calls weights of this kind."""

    @property
    def units(self) -> Units:
        """What multiplies them, and so decides how they lie."""

    @property
    def codes(self) -> Codes | None:
        """What integers the weights are and the activations become; None where both are floats."""

    def on(self, units: Units) -> Scheme:
        """The same storage, laid out for a machine with these."""

    @property
    def cache_dtype(self) -> str:
        """What keys and values are stored in beside weights of this scheme."""

    @property
    def floor_db(self) -> float:
        """Least signal to noise that a stage must keep against float32, for `verify`."""

    @property
    def arithmetic_db(self) -> float:
        """Least signal to noise against the same weights as stored, for `verify`."""

    def depth(self, k: int) -> int:
        """k rounded up to what the packing holds; the rest is zero."""

    def shapes(self, n: int, k: int) -> dict[str, tuple[tuple[int, ...], str]]:
        """name of a part -> (shape, dtype) of its array."""

    def pack(self, rows: np.ndarray) -> Arrays:
        """float32 (n, k) -> the arrays that `shapes` announces."""

    def unpack(self, parts: Arrays, n: int, k: int) -> np.ndarray:
        """What `pack` kept of the float32 rows (n, k), for `verify`."""

    def read(self, parts: Sequence[te.Tensor]) -> Dequantize | te.Tensor:
        """The parts, in the order of `shapes` -> float32 value at (panel, k, lane)."""


def selection_of(scheme: Scheme) -> Selection:
    """The layout of its weights, and the kernels that multiply them."""
    return select(scheme.units, scheme.weights)
