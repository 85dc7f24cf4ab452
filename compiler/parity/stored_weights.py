"""The weights of a checkpoint as a compiled model stores them: packed and unpacked again.

With these the reference computes with exactly the numbers of a lossy bundle, which separates the
error of storage from that of the arithmetic. Tensors are packed and unpacked in memory, one at a
time; no bundle is read.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from tvm.relax.frontend import nn

from handglass.runtime.bundle.bfloat16 import bfloat16_bits, bfloat16_values
from handglass.schedules.isa.integer_isa import GROUP, LIMIT
from handglass.schedules.select import INTEGERS, Kernel

from ..checkpoints.checkpoint import EMBEDDING, LM_HEAD, Checkpoint
from ..models.experts import Experts
from ..models.leaves import Rows, leaves
from ..models.weights import Panels
from ..schemes.scheme import Scheme, selection_of
from .ratios import Layer, Stage, energy, ratio_db

_LAYER = re.compile(r".*?\b(?:layers|blocks|layer|h)\.\d+(?=\.)")
"""The beginning of the name of a tensor that belongs to a layer, with its number."""
WEIGHTS = "weights"


@dataclass(frozen=True)
class Loss:
    """What storage has changed of a tensor, against the floor of its scheme."""

    tensor: str
    snr_db: float
    floor_db: float

    @property
    def margin(self) -> float:
        return self.snr_db - self.floor_db


class Losses:
    """Of all rows of each tensor that were read; parts of a tensor count together."""

    def __init__(self) -> None:
        self._energies: dict[str, np.ndarray] = {}
        self._floors: dict[str, float] = {}

    def note(self, tensor: str, scheme: Scheme, exact: np.ndarray, kept: np.ndarray) -> None:
        """Compare rows of the tensor before and after."""
        found = np.array([energy(exact), energy(exact - kept)])
        self._energies[tensor] = self._energies.get(tensor, 0.0) + found
        self._floors[tensor] = scheme.floor_db

    def worst(self) -> Loss:
        """The tensor that is nearest to its floor, or below. Some must have been read."""
        return min(self._all(), key=lambda loss: loss.margin)

    def by_layer(self) -> tuple[Layer, ...]:
        """The same of each layer, in the order in which they were read."""
        layers: dict[str, list[Loss]] = defaultdict(list)
        for loss in self._all():
            if found := _LAYER.match(loss.tensor):
                layers[found[0]].append(loss)
        worst = {name: min(losses, key=lambda loss: loss.margin) for name, losses in layers.items()}
        return tuple(
            Layer(name, loss.snr_db, loss.floor_db, loss.tensor) for name, loss in worst.items()
        )

    def stage(self) -> Stage:
        """The stage of the stored matrices alone, which no layer amplifies."""
        loss = self.worst()
        return Stage(
            WEIGHTS,
            loss.snr_db,
            loss.floor_db,
            loss.margin >= 0,
            tensor=loss.tensor,
            layers=self.by_layer(),
        )

    def _all(self) -> Iterator[Loss]:
        for name, (signal, noise) in self._energies.items():
            yield Loss(name, ratio_db(signal, noise), self._floors[name])


class StoredWeights:
    """Has the interface of `Checkpoint`; tensors that `network` packs are returned as stored.

    `losses` has what storage changes of those that were read.
    """

    def __init__(
        self, weights: Checkpoint, network: nn.Module, alone: int = 0, losses: Losses | None = None
    ) -> None:
        self._weights, self._network, self._alone = weights, network, alone
        self.losses = losses or Losses()
        self._packed: dict[str, list[tuple[Rows, Panels | Experts]]] = defaultdict(list)
        for _, leaf in leaves(network):
            if isinstance(leaf, (Panels, Experts)):
                for source in leaf.sources:
                    self._packed[source.name].append((source, leaf))

    def __contains__(self, name: str) -> bool:
        """Whether there is a tensor of this name."""
        return name in self._weights

    def with_rows_alone(self, alone: int) -> StoredWeights:
        """A copy for activations whose last `alone` rows are computed one at a time (decode)."""
        return StoredWeights(self._weights, self._network, alone, self.losses)

    def lm_head(self, tied: bool, head: str = LM_HEAD, embedding: str = EMBEDDING) -> str:
        """Name of the tensor to use as the language model head."""
        return self._weights.lm_head(tied, head, embedding)

    def expect(self, name: str, shape: tuple[int, ...]) -> None:
        """Raise InputError if the tensor has another shape."""
        self._weights.expect(name, shape)

    def read(self, name: str, shape: tuple[int, ...]) -> np.ndarray:
        """The whole tensor in float32. Raises InputError if its shape is not `shape`."""
        values = self._weights.read(name, shape)
        for source, leaf in self._packed[name]:
            rows = values[source.start : source.start + source.count]
            rows[...] = self._kept(name, leaf, _matrix(leaf, rows)).reshape(rows.shape)
        return values

    def read_rows(self, name: str, start: int, stop: int) -> np.ndarray:
        """Rows `start` to `stop` of a tensor that is packed whole, by experts or not packed."""
        values = self._weights.read_rows(name, start, stop)
        for source, leaf in self._packed[name]:
            if isinstance(leaf, Experts):  # whose panels hold rows of one expert
                return self._kept(name, leaf, _matrix(leaf, values)).reshape(values.shape)
            assert source.stop is None and not leaf.transpose, f"{name} is packed in parts"
            values = self._kept(name, leaf, values)
        return values

    def _kept(self, name: str, leaf: Panels | Experts, rows: np.ndarray) -> np.ndarray:
        kept = _round(leaf, rows)
        self.losses.note(name, leaf.scheme, rows, kept)
        return kept

    def rounded(self, name: str, x: np.ndarray, alone: bool = False) -> np.ndarray:
        """Activations x as multiplied by the weight `name`: quantized for an integer kernel,
        rounded for a bfloat16 or float16 kernel, which only takes many rows. `alone`: every row is
        multiplied in a call of its own, as the head does, however long the prompt is."""
        for _, leaf in self._packed[name]:
            one, many = (selection_of(leaf.scheme).kernel(one_row) for one_row in (True, False))
            if one.activations == many.activations:
                return _round_rows(leaf.scheme, one, x)
            together = 0 if alone else max(len(x) - self._alone, 0)
            halves = (many, x[:together]), (one, x[together:])
            parts = [_round_rows(leaf.scheme, *half) for half in halves if len(half[1])]
            return np.concatenate(parts)
        return x


def _round_rows(scheme: Scheme, kernel: Kernel, x: np.ndarray) -> np.ndarray:
    """float32 rows as the kernel multiplies them."""
    if kernel.activations != INTEGERS:
        return ROUNDED[kernel.activations](x)
    assert scheme.codes is not None, scheme.name
    return round_rows(x, GROUP if scheme.codes.bits == 4 else x.shape[1])


def round_bfloat16(x: np.ndarray) -> np.ndarray:
    """Round float32 to bfloat16 and back."""
    return bfloat16_values(bfloat16_bits(x))


def round_float16(x: np.ndarray) -> np.ndarray:
    """Round float32 to float16 and back; values out of range are clamped to the largest one."""
    largest = np.finfo(np.float16).max
    return np.clip(x, -largest, largest).astype(np.float16).astype(np.float32)


ROUNDED = {"float32": lambda x: x, "bfloat16": round_bfloat16, "float16": round_float16}
"""Rounding of activations in float kernels, by dtype."""


def round_rows(x: np.ndarray, size: int) -> np.ndarray:
    """Quantize float32 (m, k) to 8 bits and back, with a scale per `size` consecutive values."""
    m, k = x.shape
    groups = np.pad(x, ((0, 0), (0, -k % size))).reshape(m, -1, size)
    peak = np.abs(groups).max(-1, keepdims=True)
    inverse = np.divide(np.float32(LIMIT), peak, out=np.zeros_like(peak), where=peak > 0)
    codes = np.rint(groups * inverse)
    return (codes * (peak / np.float32(LIMIT))).reshape(m, -1)[:, :k]


def _matrix(leaf: Panels | Experts, rows: np.ndarray) -> np.ndarray:
    """Rows of a tensor as rows of the matrix that is packed."""
    shape = (-1, rows.shape[-1]) if isinstance(leaf, Experts) else (len(rows), -1)
    return rows.reshape(shape)


def _round(leaf: Panels | Experts, rows: np.ndarray) -> np.ndarray:
    if isinstance(leaf, Panels) and leaf.transpose:
        return round_trip(leaf.scheme, np.ascontiguousarray(rows.T)).T
    return round_trip(leaf.scheme, rows)


def round_trip(scheme: Scheme, rows: np.ndarray) -> np.ndarray:
    """Pack and unpack float32 rows (n, k): the values that the scheme stores."""
    return scheme.unpack(scheme.pack(rows), *rows.shape)
