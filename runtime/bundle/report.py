"""`report.json` of a bundle: the kernels of its library and the work of one call of each.

The compiler writes it (compiler/lowering/work.py defines `work`); the benchmark evaluates it. The
work is data: sums of products of symbolic lengths, each of which is a dimension or a value among
the arguments of a call.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from handglass.errors import InputError, MismatchError

from ..system.json_dataclass import optional, parse_dataclass
from ..system.json_text import parse_json
from .probes import DOT4, DOT8, FMA, TILE_BF16, TILE_INT8
from .reader import REPORT, Bundle
from .report_work import check_work

FORMAT = "handglass-report"
MAX_REPORT = 4 << 20
"""Largest report.json in bytes."""
LIMIT_OF = {
    "dot4": DOT4,
    **dict.fromkeys(("dot7", "dot8", "pair4", "pair8", "halves8"), DOT8),
    "tile-int8": TILE_INT8,
    "tile-bf16": TILE_BF16,
}
"""The probe for each matmul pattern; other patterns are compared with float32 multiply-adds. All
patterns of SMMLA (pair4, pair8, halves8) belong to DOT8, which measures it where they exist."""

Sizes = tuple[tuple[int, ...] | int, ...]
"""For each argument of a call: the shape of an array, or the value of an integer."""


@dataclass(frozen=True)
class Kernel:
    """One function of the library."""

    function: str
    rule: str
    calls: int
    patterns: tuple[str, ...]
    work: Mapping[str, Any] | None
    choices: Mapping[str, int] = optional(dict)
    record: str | None = optional(lambda: None)
    """The id of the tuning record that the choices come from."""

    @property
    def limit(self) -> str:
        """The probe that bounds its arithmetic: that of the unit its matmul runs on."""
        return next((LIMIT_OF[pattern] for pattern in self.patterns if pattern in LIMIT_OF), FMA)

    def flops(self, sizes: Sizes) -> float | None:
        """Operations of one call, two per multiply-add; None if the compiler found no count.

        Raises InputError if the work does not fit the arguments.
        """
        if self.work is None:
            return None
        with self._fitting():
            return self._flops(sizes)

    def bytes(self, sizes: Sizes, itemsizes: Sequence[int]) -> float:
        """Least bytes that one call reads and writes, counting every argument once.

        Raises InputError if the work does not fit the arguments.
        """
        with self._fitting():
            return self._bytes(sizes, itemsizes)

    @contextmanager
    def _fitting(self) -> Iterator[None]:
        try:
            yield
        except (IndexError, KeyError, ValueError, OverflowError) as error:
            raise InputError(
                f"{REPORT}: {self.function[:100]!r}: its work does not fit the arguments of a call"
            ) from error

    def _flops(self, sizes: Sizes) -> float:
        assert self.work is not None
        symbols = self._symbols(sizes)
        return 2 * sum(_product(product, symbols) for product in self.work["multiply_adds"])

    def _bytes(self, sizes: Sizes, itemsizes: Sequence[int]) -> float:
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
        """Values of the symbolic lengths in this call, by name."""
        assert self.work is not None
        values = {}
        for name, (number, *dimension) in self.work["symbols"].items():
            size = sizes[number]
            if dimension:
                if isinstance(size, int):
                    raise ValueError(f"{name} is a dimension of a number")
                values[name] = size[dimension[0]]
            elif isinstance(size, int):
                values[name] = size
        return values


@dataclass(frozen=True)
class Report:
    """The whole file; its fields are the JSON keys."""

    format: str
    versions: Mapping[str, str]
    phases: Mapping[str, float]
    kernels: tuple[Kernel, ...]
    records: Mapping[str, Any] = optional(dict)
    graph: Mapping[str, Any] = optional(dict)
    """What was recognised in an imported graph."""


def read_report(bundle: Bundle) -> dict[str, Kernel]:
    """Kernel name -> kernel. Raises MismatchError if the bundle has no report, InputError if it is
    malformed."""
    if REPORT not in bundle.manifest.files:
        raise MismatchError(f"{bundle.path}: the bundle has no {REPORT}; compile the model again")
    file = bundle.file(REPORT)
    try:
        return parse_report(bundle.read(REPORT), str(file))
    except OSError as error:
        raise InputError(f"{file}: cannot be read: {error.strerror}") from error


def parse_report(data: bytes, where: str) -> dict[str, Kernel]:
    """Kernel name -> kernel; `where` names the file in errors. Raises InputError."""
    report = parse_dataclass(Report, parse_json(data, where, MAX_REPORT), where)
    if report.format != FORMAT:
        raise InputError(f"{where}: format is {report.format[:100]!r}, must be {FORMAT!r}")
    for number, kernel in enumerate(report.kernels):
        if kernel.work is not None:
            check_work(kernel.work, where, f"kernels[{number}].work")
    return {kernel.function: kernel for kernel in report.kernels}


def _elements(access: Sequence[Any], shape: Sequence[int], symbols: Mapping[str, int]) -> float:
    reach = (min(size, _product(p, symbols)) for p, size in zip(access, shape, strict=True))
    return math.prod(max(1.0, places) for places in reach)


def _product(product: Sequence[Any], symbols: Mapping[str, int]) -> float:
    factor, forms = product
    return factor * math.prod(_form(form, symbols) for form in forms)


def _form(form: Mapping[str, float], symbols: Mapping[str, int]) -> float:
    return sum(value * (symbols[name] if name else 1) for name, value in form.items())
