"""Runs known-answer cases in a child process; wrong results, crashes and hangs become findings.

After a case kills the process, a new process continues with the next case, so that one broken
kernel does not hide the others.
"""

from __future__ import annotations

import json
import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import IO

from handglass.errors import DeviceError

from ..execution.known_answers import Verdict
from ..system.scratch_file import scratch_file
from ..system.shared_library import SharedLibrary
from .kinds import KINDS
from .self_test_child import LibraryTask, Task, all_cases

Hashes = Mapping[str, str]
LIMIT_S = 60.0
"""Time limit of one case, and of the start: compiling a new pipeline may take a driver seconds."""
MOST_DEATHS = 3
"""Number of process deaths after which the self-test stops."""
NOT_TRIED = "not run: too many earlier cases ended the process"


@dataclass(frozen=True)
class Finding:
    """The result of one case."""

    family: str
    name: str
    ok: bool
    words: str


@dataclass(frozen=True)
class DeviceHandle:
    """The device to test, and the libraries that drive it."""

    kind: str
    number: int
    runtime: SharedLibrary
    plugin: SharedLibrary | None = None


def try_cases(
    folder: Path, place: DeviceHandle, limit_s: float = LIMIT_S, hashes: Hashes | None = None
) -> list[Finding]:
    """Run all cases of the folder; one finding per case.

    `hashes` are those of the libraries by name; a folder that this process filled needs none.
    Raises DeviceError if the process dies before it has run any case.
    """
    cases = all_cases(folder)
    found: dict[int, tuple[bool, str]] = {}
    deaths = 0
    while len(found) < len(cases) and deaths < MOST_DEATHS:
        before = len(found)
        end = _Attempt(folder, place, limit_s, hashes).run(found)
        deaths += bool(end)
        if end and len(found) == before:
            raise DeviceError(f"the self-test of the device cannot run: {end}")
    for number in range(len(cases)):
        found.setdefault(number, (False, NOT_TRIED))
    return [Finding(c.family, c.name, *found[n]) for n, c in enumerate(cases)]


def by_family(findings: Sequence[Finding]) -> dict[str, list[Finding]]:
    families: dict[str, list[Finding]] = {}
    for finding in findings:
        families.setdefault(finding.family, []).append(finding)
    return families


class _Attempt:
    """One child process, which reports each case through a pipe before and after it runs."""

    def __init__(
        self, folder: Path, place: DeviceHandle, limit_s: float, hashes: Hashes | None
    ) -> None:
        self._limit = limit_s
        self._task = Task(
            str(folder.resolve()),
            KINDS[place.kind],
            place.number,
            LibraryTask.of(place.runtime),
            LibraryTask.of(place.plugin) if place.plugin else None,
            hashes or {},
            (),
            -1,
        )

    def run(self, found: dict[int, tuple[bool, str]]) -> str:
        """Add the results to `found`; returns how the process died, or the empty string."""
        reading, writing = os.pipe()
        task = replace(self._task, tried=tuple(sorted(found)), pipe=writing)
        command = [sys.executable, "-m", "handglass.runtime.devices.self_test_child"]
        with os.fdopen(reading, "rb") as pipe, scratch_file() as errors:
            try:
                child = subprocess.Popen(
                    [*command, json.dumps(asdict(task))],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=errors,
                    pass_fds=(writing,),
                )
            except OSError as error:
                raise DeviceError(f"the self-test process cannot be started: {error}") from error
            finally:
                os.close(writing)
            try:
                return self._follow(child, pipe, errors, found)
            finally:
                child.kill()
                child.wait()

    def _follow(
        self,
        child: subprocess.Popen[bytes],
        pipe: IO[bytes],
        errors: IO[bytes],
        found: dict[int, tuple[bool, str]],
    ) -> str:
        current: int | None = None
        lines = _Lines(pipe)
        while (line := lines.next(self._limit)) is not None:
            if not line:
                child.wait()
                break
            message = json.loads(line)
            current = message["case"]
            if "verdict" in message:
                verdict = Verdict(**message["verdict"])
                found[message["case"]] = verdict.ok, verdict.words
                current = None
        else:
            child.kill()
            return self._end(current, f"hung: still running after {self._limit:.0f} s", found)
        if current is None and child.returncode == 0:
            return ""
        errors.seek(0)
        return self._end(current, _cause(child.returncode, errors.read()), found)

    @staticmethod
    def _end(current: int | None, cause: str, found: dict[int, tuple[bool, str]]) -> str:
        if current is not None:
            found[current] = False, cause
        return cause


class _Lines:
    """Reads lines from a pipe with a time limit: b"" at end of file, None on timeout."""

    def __init__(self, pipe: IO[bytes]) -> None:
        self._pipe, self._rest = pipe.fileno(), b""

    def next(self, limit_s: float) -> bytes | None:
        end = time.monotonic() + limit_s
        with selectors.DefaultSelector() as selector:
            selector.register(self._pipe, selectors.EVENT_READ)
            while b"\n" not in self._rest:
                if not selector.select(max(0.0, end - time.monotonic())):
                    return None
                data = os.read(self._pipe, 1 << 16)
                if not data:
                    return b""
                self._rest += data
        line, _, self._rest = self._rest.partition(b"\n")
        return line


def _cause(code: int, errors: bytes) -> str:
    """The signal that killed a process, or the last line of its standard error."""
    if code < 0:
        names = {int(number): number.name for number in signal.Signals}
        return f"crashed: {names.get(-code, f'signal {-code}')}"
    lines = errors.decode("utf-8", errors="replace").strip().splitlines() or [f"exit {code}"]
    return lines[-1][:400]
