"""Steps of a run that must end in time: each is a process, and says why it gave no figure."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryFile
from threading import Thread, current_thread, main_thread
from typing import IO, Any

LAST = 600
"""Characters of a failed command's output that are shown."""
TO_DIE = 5
"""Seconds that a killed process may take: one that is stuck in a driver never ends."""


class NotMeasuredError(Exception):
    """Why a step has no figure."""


@dataclass
class Result:
    """One step: its figures as text and as data, or why there are none."""

    step: str
    text: str = ""
    why: str = ""
    seconds: float = 0.0
    data: Any = None

    @property
    def line(self) -> str:
        return f"{self.step}: {self.text or f'not measured: {self.why}'} [{self.seconds:.0f} s]"


@dataclass
class Budget:
    """Time until `end`, and the environment of all commands."""

    end: float
    scale: float = 1.0
    """Factor of all limits, for slow machines."""
    environment: Mapping[str, str] = field(default_factory=dict)
    keep: Callable[[list[Result]], None] = lambda results: None
    """Called with all results after each step, to write them to a file."""
    results: list[Result] = field(default_factory=list)
    children: list[subprocess.Popen[bytes]] = field(default_factory=list)
    started: float = field(default_factory=time.monotonic)
    step_end: float = float("inf")

    @classmethod
    def of(cls, minutes: float, scale: float, environment: Mapping[str, str]) -> Budget:
        return cls(time.monotonic() + 60 * minutes, scale, environment)

    @property
    def left(self) -> float:
        return self.end - time.monotonic()

    def step(
        self, name: str, run: Callable[[], tuple[str, Any]], by: float = float("inf")
    ) -> Result:
        """Run a step and keep its result; one that fails, in whatever way, does not end the others.

        `by`: seconds from the start, times the scale, after which its commands are stopped, so that
        later steps have their time. Work for later steps has limits of its own.
        """
        started, result = time.monotonic(), Result(name)
        self.step_end = self.started + by * self.scale
        try:
            result.text, result.data = run()
        except NotMeasuredError as error:
            result.why = str(error)
        except Exception as error:  # noqa: BLE001 - figures of other steps must not be lost
            result.why = f"a bug of this step: {type(error).__name__}: {error}"
        result.seconds = time.monotonic() - started
        self.results.append(result)
        self.keep(self.results)
        print(result.line, flush=True)
        return result

    def time_for(self, most: float) -> float:
        """Seconds that the caller's step, or work for a later one, has for something."""
        of_the_step = self.step_end if current_thread() is main_thread() else self.end
        return min(most * self.scale, self.left, of_the_step - time.monotonic())

    def time_until(self, seconds: float) -> float:
        """The same until so many seconds, times the scale, after the start."""
        then = self.started + seconds * self.scale
        return min(self.time_for(seconds), then - time.monotonic())

    def command(self, arguments: list[str], most: float, **environment: str) -> str:
        """Standard output of a command. Raises NotMeasuredError if it fails or takes too long.

        Its output goes to files: a process that it leaves behind would keep a pipe open.
        """
        seconds = self.time_for(most)
        if seconds < 1:
            raise NotMeasuredError("no time is left")
        with TemporaryFile() as output, TemporaryFile() as errors:
            child = subprocess.Popen(
                arguments,
                env={**os.environ, **self.environment, **environment},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=errors,
                start_new_session=True,
            )
            self.children.append(child)
            try:
                code = child.wait(seconds)
            except subprocess.TimeoutExpired:
                _kill(child)
                raise NotMeasuredError(f"it took longer than {seconds:.0f} s") from None
            if code:
                said = " ".join((_text(errors) or _text(output))[-LAST:].split())
                raise NotMeasuredError(f"exit code {code}: {said}")
            return _text(output)

    def stop(self) -> None:
        """End the commands that still run, and start no others."""
        self.end = time.monotonic()
        for child in list(self.children):
            if child.poll() is None:
                _kill(child)

    def python(self, script: Path, *arguments: object, most: float) -> Any:
        """What one of our programs prints: its last line is a JSON object."""
        words = [sys.executable, str(script), *map(str, arguments)]
        return json.loads(self.command(words, most).splitlines()[-1])

    def handglass(self, *arguments: object, most: float) -> Any:
        """The JSON output of a verb."""
        words = [sys.executable, "-m", "handglass.cli.main", *map(str, arguments), "--json"]
        return json.loads(self.command(words, most))


def _kill(child: subprocess.Popen[bytes]) -> None:
    """End a command with all that it started in its session."""
    with suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)
    with suppress(subprocess.TimeoutExpired):
        child.wait(TO_DIE)


def _text(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read().decode("utf-8", "replace")


class Later:
    """Work that goes on while other steps run; `wait` raises what it raised."""

    def __init__(self, run: Callable[[], Any]) -> None:
        self._run, self._error, self.value = run, "", None
        self._thread = Thread(target=self._work, daemon=True)
        self._thread.start()

    def _work(self) -> None:
        try:
            self.value = self._run()
        except NotMeasuredError as error:
            self._error = str(error)
        except Exception as error:  # noqa: BLE001 - `wait` raises it where it is waited for
            self._error = f"a bug of its preparation: {type(error).__name__}: {error}"

    def wait(self, most: float) -> Any:
        self._thread.join(max(most, 0))
        if self._thread.is_alive():
            raise NotMeasuredError("its preparation took too long")
        if self._error:
            raise NotMeasuredError(self._error)
        return self.value
