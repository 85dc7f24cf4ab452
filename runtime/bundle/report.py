"""`report.json` of a bundle: which kernels its library has and what one call of each is worth.

The compiler writes it (compiler/lowering/work.py says how to read `work`), the benchmark adds it
up. It is data: sums of products of lengths, each of which is a size or a value among the arguments
of a call.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from handglass.errors import InputError, MismatchError

from .probes import DOT4, DOT8, FMA, TILE_BF16, TILE_INT8
from .reader import REPORT, Bundle

LIMIT_OF = {
    **dict.fromkeys(("dot4", "pair4"), DOT4),
    **dict.fromkeys(("dot7", "dot8", "pair8", "halves8"), DOT8),
    "tile-int8": TILE_INT8,
    "tile-bf16": TILE_BF16,
}
"""By the pattern of a matmul; any other is measured against multiply-adds in float32. Two rows at a
time (pair4, pair8) go through another instruction than the probe's, on some cores twice as fast."""

Sizes = tuple[tuple[int, ...] | int, ...]
"""Of each argument of a call: the shape of an array, or the number itself."""


@dataclass(frozen=True)
class Kernel:
    """One function of the library."""

    function: str
    rule: str
    calls: int
    patterns: tuple[str, ...]
    work: Mapping[str, Any] | None
    choices: Mapping[str, int] = field(default_factory=dict)
    record: str | None = None
    """The id of the tuning record that the choices are from."""

    @property
    def limit(self) -> str:
        """What its arithmetic is measured against: the unit that its matmul runs in."""
        return next((LIMIT_OF[pattern] for pattern in self.patterns if pattern in LIMIT_OF), FMA)

    def flops(self, sizes: Sizes) -> float | None:
        """Operations of one call, two per multiply-add; None where the compiler could not tell."""
        if self.work is None:
            return None
        symbols = self._symbols(sizes)
        return 2 * sum(_product(product, symbols) for product in self.work["multiply_adds"])

    def bytes(self, sizes: Sizes, itemsizes: Sequence[int]) -> float:
        """What one call reads and writes at least; every argument once."""
        parts = self.work["touched"] if self.work else {}
        symbols = self._symbols(sizes) if parts else {}
        total = 0.0
        for number, (shape, itemsize) in enumerate(zip(sizes, itemsizes, strict=True)):
            if isinstance(shape, int):
                continue
            accesses = parts.get(str(number))
            reach = [_elements(a, shape, symbols) for a in accesses] if accesses else []
            total += itemsize * max(reach, default=math.prod(shape))
        return total

    def _symbols(self, sizes: Sizes) -> dict[str, int]:
        """The lengths of this call, by name."""
        assert self.work is not None
        found = {}
        for name, (number, *dimension) in self.work["symbols"].items():
            size = sizes[number]
            if dimension and not isinstance(size, int):
                found[name] = size[dimension[0]]
            elif isinstance(size, int):
                found[name] = size
        return found


def read_report(bundle: Bundle) -> dict[str, Kernel]:
    """Kernel name -> kernel. MismatchError where the bundle has no report."""
    if REPORT not in bundle.manifest.files:
        raise MismatchError(f"{bundle.path}: has no {REPORT}; compile the model again")
    file = bundle.file(REPORT)
    try:
        rows = json.loads(file.read_bytes())["kernels"]
        kernels = [Kernel(**{**row, "patterns": tuple(row["patterns"])}) for row in rows]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{file}: not a report of handglass: {error!r:.200}") from error
    return {kernel.function: kernel for kernel in kernels}


def _elements(access: Sequence[Any], shape: Sequence[int], symbols: Mapping[str, int]) -> float:
    reach = (min(size, _product(p, symbols)) for p, size in zip(access, shape, strict=True))
    return math.prod(max(1.0, places) for places in reach)


def _product(product: Sequence[Any], symbols: Mapping[str, int]) -> float:
    factor, forms = product
    return factor * math.prod(_form(form, symbols) for form in forms)


def _form(form: Mapping[str, float], symbols: Mapping[str, int]) -> float:
    return sum(value * (symbols[name] if name else 1) for name, value in form.items())
