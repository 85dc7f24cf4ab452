"""Known-answer tests: kernels, arguments derived from a seed, and the expected results.

A driver that miscompiles a kernel returns NaN or garbage. So a GPU bundle contains cases: functions
of its library and of a small additional one (checks.so), a description of their arguments, and the
results computed on another machine (checks.safetensors). The compiler writes them
(compiler/parity/known_answers.py), `run_case` runs one, and self_test_child.py runs them in a
process that may crash or hang.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from handglass.errors import InputError, MismatchError

from ..bundle.manifest import LIBRARY
from ..bundle.tensors import TensorFile
from ..system.json_dataclass import parse_dataclass, plain
from ..system.json_text import parse_json
from ..system.regular_file import read_regular
from .kernel_arguments import Item, Tensor, read_items
from .kernel_timing import difference
from .placement import Placement
from .portable_random import PortableRandom

CASES, ANSWERS, CHECKS_LIBRARY = "checks.json", "checks.safetensors", "checks.so"
FORMAT, VERSION = "handglass-known-answers", 1
MAX_CASES = 8 << 20
"""Largest checks.json in bytes."""
COPIES = (1, 3, 4097, (1 << 20) + 7, 80 << 20)
"""Sizes in bytes of round trips to the device; the last one exceeds a staging buffer."""
COPY_FAMILY = "copies"


@dataclass(frozen=True)
class Case:
    name: str
    family: str  # of kernels; `handglass doctor` prints one line per family
    library: str  # LIBRARY or CHECKS_LIBRARY
    function: str
    items: tuple[Any, ...]  # arguments, in the format of the device protocol
    seed: int
    answers: Mapping[str, str]
    """Index of the item -> name in the file of answers. Other tensors must not change."""
    floor_db: float | None  # minimum signal-to-noise ratio; None: bit-exact


@dataclass(frozen=True)
class _Cases:
    format: str
    version: int
    cases: tuple[Case, ...]


@dataclass(frozen=True)
class Verdict:
    """The result of one case: that of its worst tensor."""

    ok: bool
    snr_db: float | None = None  # None: equal
    max_error: float = 0.0
    largest: float = 0.0
    not_finite: int = 0
    error: str = ""  # the error of the runtime, if there is no result

    @property
    def words(self) -> str:
        if self.error:
            return f"refused: {self.error}"
        exact = "exact" if self.snr_db is None else f"{self.snr_db:.0f} dB"
        if self.ok:
            return exact
        if self.not_finite:
            return f"wrong: {self.not_finite} values are not finite"
        return f"wrong: largest error {self.max_error:.3g} of {self.largest:.3g} ({exact})"


def read_cases(path: Path) -> tuple[Case, ...]:
    """Read the cases. Raises InputError for a malformed file, MismatchError for another version."""
    try:
        data = read_regular(path, MAX_CASES)
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error
    parsed = parse_dataclass(_Cases, parse_json(data, str(path), MAX_CASES), str(path))
    if (parsed.format, parsed.version) != (FORMAT, VERSION):
        raise MismatchError(
            f"{path}: format {parsed.format!r:.40} version {parsed.version} is not supported, this "
            f"handglass reads {FORMAT} version {VERSION}; compile the bundle again"
        )
    for case in parsed.cases:
        _check(case, str(path))
    return parsed.cases


def cases_text(cases: Sequence[Case]) -> bytes:
    return (json.dumps(plain(_Cases(FORMAT, VERSION, tuple(cases)))) + "\n").encode()


def arrays_of(case: Case) -> list[np.ndarray | int]:
    """The arguments of a case, identical on every machine."""
    return [
        _made(item, case.seed, n) if isinstance(item, Tensor) else item
        for n, item in enumerate(read_items(case.items))
    ]


def run_case(case: Case, function: Any, answers: TensorFile, place: Placement) -> Verdict:
    """Call the function at `place` and compare every tensor with its expected value."""
    arrays, items = arrays_of(case), read_items(case.items)
    # The function must not write to `arrays`.
    copied = lambda a: a if place.copies else a.copy()  # noqa: E731
    placed = [a if isinstance(a, int) else place.put(copied(a)) for a in arrays]
    function(*placed)
    place.wait()
    verdicts = []
    for n, (array, tensor, item) in enumerate(zip(arrays, placed, items, strict=True)):
        if isinstance(array, int) or not isinstance(item, Tensor):
            continue
        name = case.answers.get(str(n))
        expected = array if name is None else answers.array(name)
        floor = None if name is None else case.floor_db
        verdicts.append(_judge(expected, place.view(tensor), item, floor))
    return _worst(verdicts)


def copy_verdict(place: Placement, nbytes: int) -> Verdict:
    """Write two tensors, overwrite them, and read them back."""
    first = np.arange(nbytes, dtype=np.uint32).astype(np.uint8)
    second = first ^ np.uint8(0xA5)
    tensors = [place.put(first.copy()), place.put(second.copy())]
    place.write(tensors[0], second)
    place.write(tensors[1], first)
    wrong = [
        int(np.count_nonzero(place.view(tensor) != expected))
        for tensor, expected in zip(tensors, (second, first), strict=True)
    ]
    if not any(wrong):
        return Verdict(True)
    return Verdict(False, error=f"{sum(wrong)} of {2 * nbytes} bytes differ after a round trip")


def _check(case: Case, where: str) -> None:
    items = read_items(case.items)
    if case.library not in (LIBRARY, CHECKS_LIBRARY):
        raise InputError(f"{where}: {case.name!r:.80}: unknown library {case.library!r:.80}")
    for place in case.answers:
        if not (place.isdigit() and int(place) < len(items)) or not isinstance(
            items[int(place)], Tensor
        ):
            raise InputError(f"{where}: {case.name!r:.80}: item {place!r:.80} is not a tensor")


def _made(item: Tensor, seed: int, place: int) -> np.ndarray:
    array = item.empty()
    item.write(array, PortableRandom(seed, place))
    return array


def _judge(expected: np.ndarray, found: np.ndarray, item: Item, floor: float | None) -> Verdict:
    assert isinstance(item, Tensor)
    if expected.shape != found.shape or expected.dtype != found.dtype:
        return Verdict(
            False, error=f"{found.dtype} {found.shape}, expected {expected.dtype} {expected.shape}"
        )
    result = difference(expected, found, item.numbers)
    values = item.numbers(found)
    lost = int(np.count_nonzero(~np.isfinite(values))) if values.dtype.kind == "f" else 0
    snr = result["snr_db"]
    ok = result["finite"] and (snr is None or (floor is not None and snr >= floor))
    return Verdict(ok, snr, result["max_error"], result["largest"], lost)


def _worst(verdicts: Sequence[Verdict]) -> Verdict:
    """The worst verdict: failed before passed, then the lowest signal-to-noise ratio."""

    def order(verdict: Verdict) -> tuple[bool, float]:
        return verdict.ok, float("inf") if verdict.snr_db is None else verdict.snr_db

    return min(verdicts, key=order)
