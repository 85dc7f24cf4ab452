"""Random candidates of a search space: scheduled and compiled several at a time.

`make test-spaces` notes in a file which functions gave the right results. An interrupted run goes
on from there, and a function that several kinds of CPU share is checked once.
"""

from __future__ import annotations

import hashlib
import math
import os
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import tvm
import tvm_ffi
from arm_kernels import Kernel
from tvm import tirx
from tvm.s_tir import Schedule

SAMPLE = int(os.environ.get("HANDGLASS_TEST_SPACES") or 0)
"""Candidates per space whose results are checked; 0: one or two of them."""
BATCH = 10
"""Candidates that are compiled as one module: what an interrupted run repeats, at most."""

ROOT = Path(__file__).parents[2]
MAKERS = ("targets/codegen", "schedules/isa", "tests/support")
"""What else determines results: passes and code generators, emulators and references."""

Picked = dict[str, int]


def drawn(options: Mapping[str, Sequence[int]], count: int) -> list[Picked]:
    """`count` different random candidates, or all of a space that has no more."""
    if math.prod(map(len, options.values())) <= count:
        return [dict(zip(options, values, strict=True)) for values in product(*options.values())]
    draw, found = random.Random(16), dict[tuple[int, ...], Picked]()
    while len(found) < count:
        picked = {name: draw.choice(values) for name, values in options.items()}
        found[tuple(picked.values())] = picked
    return list(found.values())


@dataclass(frozen=True)
class Candidate:
    """A scheduled candidate, named within its module."""

    name: str
    picked: Picked
    func: tirx.PrimFunc
    key: str


def scheduled(
    candidates: Sequence[Picked], replayed: Callable[[Picked], Schedule], code: str
) -> list[Candidate]:
    """Schedule the candidates. `code` names the kind of machine code that they become."""
    found = []
    for number, picked in enumerate(candidates):
        sch, name = replayed(picked), f"candidate_{number}"
        func = sch.mod["main"].with_attr("global_symbol", name)
        found.append(Candidate(name, picked, func, key_of(sch, code)))
    return found


def key_of(sch: Schedule, code: str) -> str:
    """Names a scheduled function by its loops, the same in every process."""
    loops = tvm_ffi.structural_hash(sch.mod["main"], map_free_vars=True) % (1 << 64)
    return f"{code} {loops:016x}"


def unchecked(candidates: Sequence[Candidate]) -> Iterator[list[Candidate]]:
    """Those whose functions were not right before, in batches of different functions.

    A batch counts as right when the next one is requested.
    """
    checked = Checked()
    left = {c.key: c for c in reversed(candidates) if c.key not in checked.keys}
    for start in range(0, len(left), BATCH):
        batch = list(left.values())[start : start + BATCH]
        yield batch
        checked.add([candidate.key for candidate in batch])


class Checked:
    """Functions whose results were right, in a file if `make test-spaces` runs."""

    def __init__(self) -> None:
        self.path = ROOT / "build/spaces" / f"{digest()}.txt" if SAMPLE else None
        self.keys = set[str]()
        if self.path and self.path.exists():
            self.keys.update(self.path.read_text().splitlines())

    def add(self, keys: Sequence[str]) -> None:
        if self.path:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("a") as file:  # one write: other processes append, too
                file.write("".join(f"{key}\n" for key in keys))


def digest() -> str:
    """Changes with everything that turns a scheduled function into a verdict."""
    found = hashlib.sha256(tvm.__version__.encode())
    for path in sorted(path for maker in MAKERS for path in (ROOT / maker).rglob("*.[pc]*")):
        if path.suffix in (".py", ".c"):
            found.update(path.read_bytes())
    return found.hexdigest()[:16]


def compiled_together(
    batch: Sequence[Candidate], build: Callable[[tvm.IRModule], Any]
) -> Mapping[str, Any]:
    """One module of all candidates; if that fails, the error names the candidate at fault."""
    try:
        return build(tvm.IRModule({c.name: c.func for c in batch}))
    except Exception:
        for candidate in batch:
            try:
                build(tvm.IRModule({candidate.name: candidate.func}))
            except Exception as error:
                raise AssertionError(f"{candidate.picked} cannot be compiled") from error
        raise


def run(kernel: Kernel, compiled: Callable[..., Any], picked: Picked) -> None:
    """Compare a compiled candidate with the reference."""
    results = [tvm.runtime.tensor(out) for out in blank(kernel)]
    given = [x if isinstance(x, int) else tvm.runtime.tensor(x) for x in kernel.inputs]
    compiled(*given, *results)
    check(kernel, [result.numpy() for result in results], picked)


def blank(kernel: Kernel) -> list[np.ndarray]:
    """Where results go; a reference of floats may be in double precision."""
    dtypes = (output.dtype if output.dtype.kind != "f" else "f4" for output in kernel.outputs)
    return [np.full(out.shape, 9, dtype) for out, dtype in zip(kernel.outputs, dtypes, strict=True)]


def check(kernel: Kernel, results: Sequence[np.ndarray], picked: Picked) -> None:
    for actual, truth in zip(results, kernel.outputs, strict=True):
        error = np.abs(actual.astype(np.float64) - truth).max()
        assert error <= kernel.tolerance * max(1e-6, float(np.abs(truth).max())), picked
