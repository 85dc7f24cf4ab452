"""A checkpoint seen through the storage of a compiled model: its weights after packing.

Lets the reference compute with exactly the numbers that a lossy bundle holds, so that what storage
costs and what arithmetic gets wrong can be told apart. Packs and unpacks in memory, tensor by
tensor; reads no bundle.
"""

from __future__ import annotations

from collections import defaultdict

import numpy as np
from tvm.relax.frontend import nn

from handglass.runtime.bundle.bfloat16 import bfloat16_bits, bfloat16_values
from handglass.schedules.isa.integer_isa import GROUP, LIMIT
from handglass.schedules.select import INTEGERS, Kernel

from ..checkpoints.checkpoint import EMBEDDING, LM_HEAD, Checkpoint
from ..models.leaves import Rows, leaves
from ..models.weights import Panels
from ..schemes.scheme import Scheme, selection_of


class StoredWeights:
    """Reads as a `Checkpoint` does; what `network` packs comes back as the packing left it."""

    def __init__(self, weights: Checkpoint, network: nn.Module, alone: int = 0) -> None:
        self._weights, self._network, self._alone = weights, network, alone
        self._packed: dict[str, list[tuple[Rows, Panels]]] = defaultdict(list)
        for _, leaf in leaves(network):
            if isinstance(leaf, Panels):
                for source in leaf.sources:
                    self._packed[source.name].append((source, leaf))

    def with_rows_alone(self, alone: int) -> StoredWeights:
        """The same for rows of which the last `alone` were computed one at a time (decoding)."""
        return StoredWeights(self._weights, self._network, alone)

    def lm_head(self, tied: bool) -> str:
        """The tensor to use as language model head."""
        return self._weights.lm_head(tied)

    def expect(self, name: str, shape: tuple[int, ...]) -> None:
        """Refuse a tensor of any other shape."""
        self._weights.expect(name, shape)

    def read(self, name: str, shape: tuple[int, ...]) -> np.ndarray:
        """The whole tensor in float32, which must have this shape."""
        values = self._weights.read(name, shape)
        for source, leaf in self._packed[name]:
            rows = values[source.start : source.start + source.count]
            rows[...] = _round(leaf, rows.reshape(source.count, -1)).reshape(rows.shape)
        return values

    def read_rows(self, name: str, start: int, stop: int) -> np.ndarray:
        """Rows `start` to `stop` of a tensor that is packed as a whole, or not at all."""
        values = self._weights.read_rows(name, start, stop)
        for source, leaf in self._packed[name]:
            assert source.stop is None and not leaf.transpose, f"{name} is packed in parts"
            values = _round(leaf, values)
        return values

    def rounded(self, name: str, x: np.ndarray) -> np.ndarray:
        """Rows x as they meet the weight `name`: integers where it is multiplied as integers, and
        bfloat16 or float16 where rows that come together are multiplied as that."""
        for _, leaf in self._packed[name]:
            one, many = (selection_of(leaf.scheme).kernel(one_row) for one_row in (True, False))
            if one.activations == many.activations:
                return _round_rows(leaf.scheme, one, x)
            # the head reads one row, whatever comes before it
            together = 0 if name in (EMBEDDING, LM_HEAD) else max(len(x) - self._alone, 0)
            halves = (many, x[:together]), (one, x[together:])
            found = [_round_rows(leaf.scheme, *half) for half in halves if len(half[1])]
            return np.concatenate(found)
        return x


def _round_rows(scheme: Scheme, kernel: Kernel, x: np.ndarray) -> np.ndarray:
    """float32 rows as the kernel multiplies them."""
    if kernel.activations != INTEGERS:
        return ROUNDED[kernel.activations](x)
    assert scheme.codes is not None, scheme.name
    return round_rows(x, GROUP if scheme.codes.bits == 4 else x.shape[1])


def round_bfloat16(x: np.ndarray) -> np.ndarray:
    """float32 with what bfloat16 keeps."""
    return bfloat16_values(bfloat16_bits(x))


def round_float16(x: np.ndarray) -> np.ndarray:
    """float32 with what float16 keeps; what is too large becomes the largest one."""
    largest = np.finfo(np.float16).max
    return np.clip(x, -largest, largest).astype(np.float16).astype(np.float32)


ROUNDED = {"float32": lambda x: x, "bfloat16": round_bfloat16, "float16": round_float16}
"""What rows become that are not multiplied as integers."""


def round_rows(x: np.ndarray, size: int) -> np.ndarray:
    """float32 (m, k), every `size` neighbours to 8 bits of their own scale."""
    m, k = x.shape
    groups = np.pad(x, ((0, 0), (0, -k % size))).reshape(m, -1, size)
    peak = np.abs(groups).max(-1, keepdims=True)
    inverse = np.divide(np.float32(LIMIT), peak, out=np.zeros_like(peak), where=peak > 0)
    codes = np.rint(groups * inverse)
    return (codes * (peak / np.float32(LIMIT))).reshape(m, -1)[:, :k]


def _round(leaf: Panels, rows: np.ndarray) -> np.ndarray:
    if leaf.transpose:
        return round_trip(leaf.scheme, np.ascontiguousarray(rows.T)).T
    return round_trip(leaf.scheme, rows)


def round_trip(scheme: Scheme, rows: np.ndarray) -> np.ndarray:
    """What a scheme keeps of float32 rows (n, k)."""
    return scheme.unpack(scheme.pack(rows), *rows.shape)
