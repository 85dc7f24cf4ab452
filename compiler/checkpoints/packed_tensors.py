"""Weights packed by AWQ or GPTQ, as float32 matrices: scale * (integer - zero point).

A matrix (out, in) of the original is stored as three or four tensors, all of them transposed:

| tensor | AWQ | GPTQ |
|---|---|---|
| `qweight` | (in, out / 8): a word has 8 outputs | (in b / 32, out): a word has 32 / b inputs |
| `qzeros` | (groups, out / 8) | (groups, out b / 32) |
| `scales` | (groups, out) | (groups, out) |
| `g_idx` | none | (in): the group of each input; optional unless their order changed |

b is the number of bits. The outputs in a word of AWQ are in the order 0 2 4 6 1 3 5 7. GPTQ's
integers follow one another without gaps, from the lowest bit of the first word on, so that of 3
bits some reach from one word into the next.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import gcd
from pathlib import Path

import numpy as np

from handglass.errors import InputError

from .packing import Packing
from .shards import Shard
from .stored import CHUNK, FLOATS, Computed, drop_pages, widen

WORD = 32
PARTS = ("qweight", "qzeros", "scales", "g_idx")
AWQ_PLACES = (0, 4, 1, 5, 2, 6, 3, 7)
"""Output -> its place in a word of AWQ."""


@dataclass(frozen=True)
class Matrix:
    """One packed weight; its parts are in `shards`, under the name `stem`."""

    stem: str
    inputs: int
    outputs: int
    groups: int
    has_order: bool


def unpacked(
    folder: Path, shards: Mapping[str, Shard], packing: Packing
) -> dict[str, Shard | Computed]:
    """The tensors with one weight in place of the parts of each packed matrix.

    Modules that were not converted have plain weights and stay. Raises InputError if parts are
    missing or of another shape.
    """
    ends = tuple(f".{part}" for part in PARTS)
    stems = [name.removesuffix(ends[0]) for name in shards if name.endswith(ends[0])]
    packed = PackedTensors(folder, shards, packing, stems)
    parts = {stem + end for stem in stems for end in ends}
    kept = {name: shard for name, shard in shards.items() if name not in parts}
    for name in packed.names:
        if name in kept:
            raise InputError(f"{folder}: {name} is there twice, packed and plain")
    return {**kept, **dict.fromkeys(packed.names, packed)}


class PackedTensors(Computed):
    """The packed matrices of a checkpoint under the names of the original weights."""

    def __init__(
        self, folder: Path, shards: Mapping[str, Shard], packing: Packing, stems: list[str]
    ) -> None:
        self._folder, self._shards, self._packing = folder, shards, packing
        self._matrices = {f"{stem}.weight": self._matrix(stem) for stem in stems}

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self._matrices)

    def shape(self, name: str) -> tuple[int, ...]:
        matrix = self._matrices[name]
        return matrix.outputs, matrix.inputs

    def floats(self, name: str, rows: slice) -> np.ndarray:
        """Rows (outputs) in float32, computed in parts of bounded size."""
        matrix = self._matrices[name]
        start, stop, _ = rows.indices(matrix.outputs)
        groups = self._groups(matrix)
        values = np.empty((stop - start, matrix.inputs), np.float32)
        step = max(CHUNK // matrix.inputs, 1)
        for first in range(start, stop, step):
            last = min(first + step, stop)
            values[first - start : last - start] = self._part(matrix, first, last, groups).T
        return values

    def release(self, name: str) -> None:
        for part in self._parts(self._matrices[name]):
            drop_pages(self._array(self._matrices[name].stem, part))

    def _parts(self, matrix: Matrix) -> Iterator[str]:
        yield from PARTS if matrix.has_order else PARTS[:-1]

    def _part(self, matrix: Matrix, start: int, stop: int, groups: np.ndarray) -> np.ndarray:
        """The outputs `start` to `stop`: (in, outputs)."""
        bits, stem = self._packing.bits, matrix.stem
        stored = self._array(stem, "scales")[:, start:stop]
        scales = widen(stored, self._dtype(stem, "scales"))
        zeros = self._columns(stem, "qzeros", start, stop) + np.uint8(self._packing.zero_offset)
        zeros &= np.uint8((1 << bits) - 1)
        if self._packing.method == "awq":
            integers = self._columns(stem, "qweight", start, stop)
        else:
            integers = unpack(self._array(stem, "qweight")[:, start:stop].view(np.uint32), bits)
        values = integers.astype(np.float32)
        values -= zeros[groups]
        with np.errstate(all="ignore"):  # infinity is reported with the name of the tensor
            values *= scales[groups]
        return values

    def _columns(self, stem: str, part: str, start: int, stop: int) -> np.ndarray:
        """Integers (rows, start to stop) of a tensor whose rows are packed."""
        bits = self._packing.bits
        words, count = period(bits)
        first, last = start // count, -(-stop // count)
        stored = self._array(stem, part)[:, first * words : last * words]
        integers = unpack(np.ascontiguousarray(stored.T).view(np.uint32), bits).T
        if self._packing.method == "awq":
            integers = integers.reshape(len(integers), -1, count)[..., AWQ_PLACES]
            integers = integers.reshape(len(integers), -1)
        return integers[:, start - first * count : stop - first * count]

    def _groups(self, matrix: Matrix) -> np.ndarray:
        """The group of each input."""
        if not matrix.has_order:
            return np.arange(matrix.inputs) // (self._packing.group_size or matrix.inputs)
        groups = self._array(matrix.stem, "g_idx")
        if groups.min() < 0 or groups.max() >= matrix.groups:
            wrong = next(int(g) for g in groups if not 0 <= g < matrix.groups)
            raise InputError(
                f"{matrix.stem}.g_idx: names group {wrong}, but there are {matrix.groups} groups"
            )
        return groups

    def _array(self, stem: str, part: str) -> np.ndarray:
        name = f"{stem}.{part}"
        return self._shards[name].array(name)

    def _dtype(self, stem: str, part: str) -> str:
        name = f"{stem}.{part}"
        return self._shards[name].dtype(name)

    # --- what a file must have ---

    def _matrix(self, stem: str) -> Matrix:
        """Sizes from the shapes, which must agree."""
        words, columns = self._sizes(stem, "qweight", 2, ("int32",))
        bits, is_awq = self._packing.bits, self._packing.method == "awq"
        inputs = words if is_awq else words * WORD // bits
        outputs = columns * WORD // bits if is_awq else columns
        size = self._packing.group_size or inputs
        groups = -(-inputs // size)
        has_order = not is_awq and f"{stem}.g_idx" in self._shards
        expected = {
            "qweight": (inputs, outputs * bits / WORD) if is_awq
            else (inputs * bits / WORD, outputs),
            "qzeros": (groups, outputs * bits / WORD),
            "scales": (groups, outputs),
            **({"g_idx": (inputs,)} if has_order or self._packing.needs_order else {}),
        }  # fmt: skip
        for part, shape in expected.items():
            kinds = FLOATS if part == "scales" else ("int32",)
            if (stored := self._sizes(stem, part, len(shape), kinds)) != shape:
                raise InputError(
                    f"{self._folder}: {stem}.{part} is {stored}, but {inputs} inputs in groups of "
                    f"{size} and {outputs} outputs of {bits} bits require {_shown(shape)}"
                )
        return Matrix(stem, inputs, outputs, groups, has_order)

    def _sizes(
        self, stem: str, part: str, dimensions: int, kinds: tuple[str, ...]
    ) -> tuple[int, ...]:
        name = f"{stem}.{part}"
        if name not in self._shards:
            raise InputError(f"{self._folder}: the tensor {name} is missing beside {stem}.qweight")
        shape, dtype = tuple(self._shards[name].shape(name)), self._dtype(stem, part)
        if len(shape) != dimensions or 0 in shape or dtype not in kinds:
            raise InputError(
                f"{self._folder}: {name} is {dtype} {shape}, but {self._packing.method} stores "
                f"{' or '.join(kinds)} with {dimensions} dimensions"
            )
        return shape


def _shown(shape: tuple[float, ...]) -> str:
    return f"({', '.join(f'{size:g}' for size in shape)})"


def period(bits: int) -> tuple[int, int]:
    """The words after which integers begin with a word again, and the integers in them."""
    words = bits // gcd(bits, WORD)
    return words, words * WORD // bits


def unpack(stored: np.ndarray, bits: int) -> np.ndarray:
    """Words (n, ...) of uint32 as their integers (n 32 / bits, ...) of uint8."""
    words, count = period(bits)
    rest = stored.shape[1:]
    groups = stored.reshape(-1, words, *rest)
    integers = np.empty((len(groups), count, *rest), np.uint8)
    for i in range(count):
        word, shift = divmod(i * bits, WORD)
        value = groups[:, word] >> np.uint32(shift)
        if shift + bits > WORD:  # the rest is in the next word
            value |= groups[:, word + 1] << np.uint32(WORD - shift)
        integers[:, i] = value & np.uint32((1 << bits) - 1)
    return integers.reshape(-1, *rest)
