"""The child process that runs known-answer cases, so that a driver cannot crash the parent.

    python -m handglass.runtime.devices.self_test_child '{"folder": ..., "device": 0, ...}'

It writes one JSON object per line to the pipe: {"case": n} before a case, {"case": n,
"verdict": {...}} after it. Standard output is left to drivers, which may print to it.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from handglass.errors import HandglassError

from ..bundle.tensors import TensorFile
from ..execution.known_answers import (
    ANSWERS,
    CASES,
    COPIES,
    COPY_FAMILY,
    Case,
    Verdict,
    copy_verdict,
    read_cases,
    run_case,
)
from ..execution.placement import Host, Placement
from ..execution.process import first_line
from ..execution.tvm_runtime import load_module, start_runtime
from ..system.json_dataclass import parse_dataclass
from ..system.shared_library import SharedLibrary
from .driver import open_driver
from .kinds import DeviceKind


@dataclass(frozen=True)
class LibraryTask:
    """A SharedLibrary in the form of JSON."""

    path: str
    sha256: str

    @classmethod
    def of(cls, library: SharedLibrary) -> LibraryTask:
        return cls(str(library.path), library.sha256)

    def library(self) -> SharedLibrary:
        return SharedLibrary(Path(self.path), self.sha256)


@dataclass(frozen=True)
class Task:
    """The folder of the cases and the device to run them on; cases in `tried` are skipped."""

    folder: str
    kind: DeviceKind
    number: int
    runtime: LibraryTask
    plugin: LibraryTask | None
    """The plug-in, or None to find or build it."""
    hashes: Mapping[str, str]
    """Those of the libraries in the folder, by name."""
    tried: tuple[int, ...]
    pipe: int


@dataclass(frozen=True)
class Copy:
    """A round trip of bytes to the device, a case without a kernel."""

    nbytes: int
    family: str = COPY_FAMILY

    @property
    def name(self) -> str:
        return f"{self.nbytes} bytes up and down"


def all_cases(folder: Path) -> list[Case | Copy]:
    """All cases of a bundle, in the order of their numbers."""
    return [*map(Copy, COPIES), *read_cases(folder / CASES)]


def main(arguments: Sequence[str]) -> None:
    try:
        _run(arguments)
    except HandglassError as error:
        # Print the driver's error itself: the parent adds the advice.
        driver = isinstance(error.__cause__, RuntimeError)
        print(error.__cause__ if driver else error, file=sys.stderr)
        raise SystemExit(error.exit_code) from error


def _run(arguments: Sequence[str]) -> None:
    task = parse_dataclass(Task, json.loads(arguments[0]), "task")
    ffi = start_runtime(task.runtime.library)
    place = _placement(task)
    for number, verdict in _verdicts(task, ffi, place):
        message: dict[str, Any] = {"case": number}
        if verdict is not None:
            message["verdict"] = asdict(verdict)
        os.write(task.pipe, (json.dumps(message) + "\n").encode())


def _placement(task: Task) -> Placement:
    if task.kind.is_host:
        return Host()
    driver = open_driver(task.kind)
    driver.load(task.plugin.library() if task.plugin else None)
    return driver.open(task.number)


def _verdicts(task: Task, ffi: Any, place: Placement) -> Iterator[tuple[int, Verdict | None]]:
    folder = Path(task.folder)
    libraries: dict[str, Any] = {}
    answers = TensorFile.open(folder / ANSWERS)
    for number, case in enumerate(all_cases(folder)):
        if number in task.tried:
            continue
        yield number, None
        try:
            if isinstance(case, Copy):
                yield number, copy_verdict(place, case.nbytes)
                continue
            if case.library not in libraries:
                sha256 = task.hashes.get(case.library, "")
                library = SharedLibrary(folder / case.library, sha256)
                libraries[case.library] = load_module(ffi, library)
            function = libraries[case.library].get_function(case.function, True)
            yield number, run_case(case, function, answers, place)
        except (RuntimeError, ValueError, TypeError, AttributeError, OSError) as error:
            yield number, Verdict(False, error=first_line(error)[:300])


if __name__ == "__main__":
    main(sys.argv[1:])
