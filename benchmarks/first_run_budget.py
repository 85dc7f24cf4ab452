"""Steps of a run that must end in time: each is a process, and says why it gave no figure."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from threading import Thread
from typing import Any

LAST = 600
"""Characters of a failed command's output that are shown."""


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
    results: list[Result] = field(default_factory=list)
    children: list[subprocess.Popen[str]] = field(default_factory=list)

    @classmethod
    def of(cls, minutes: float, scale: float, environment: Mapping[str, str]) -> Budget:
        return cls(time.monotonic() + 60 * minutes, scale, environment)

    @property
    def left(self) -> float:
        return self.end - time.monotonic()

    def step(self, name: str, run: Callable[[], tuple[str, Any]]) -> Result:
        """Run a step and keep its result; one that fails does not end the others."""
        started, result = time.monotonic(), Result(name)
        try:
            result.text, result.data = run()
        except NotMeasuredError as error:
            result.why = str(error)
        result.seconds = time.monotonic() - started
        self.results.append(result)
        print(result.line, flush=True)
        return result

    def command(self, arguments: list[str], most: float, **environment: str) -> str:
        """Standard output of a command. Raises NotMeasuredError if it fails or takes too long."""
        seconds = min(most * self.scale, self.left)
        if seconds < 1:
            raise NotMeasuredError("no time is left")
        child = subprocess.Popen(
            arguments,
            env={**os.environ, **self.environment, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self.children.append(child)
        try:
            output, errors = child.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            os.killpg(child.pid, signal.SIGKILL)
            child.communicate()
            raise NotMeasuredError(f"it took longer than {seconds:.0f} s") from None
        if child.returncode:
            said = " ".join((errors or output)[-LAST:].split())
            raise NotMeasuredError(f"exit code {child.returncode}: {said}")
        return output

    def stop(self) -> None:
        """End the commands that still run."""
        for child in self.children:
            if child.poll() is None:
                os.killpg(child.pid, signal.SIGKILL)

    def python(self, script: Path, *arguments: object, most: float) -> Any:
        """What one of our programs prints: its last line is a JSON object."""
        words = [sys.executable, str(script), *map(str, arguments)]
        return json.loads(self.command(words, most).splitlines()[-1])

    def handglass(self, *arguments: object, most: float) -> Any:
        """The JSON output of a verb."""
        words = [sys.executable, "-m", "handglass.cli.main", *map(str, arguments), "--json"]
        return json.loads(self.command(words, most))


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

    def wait(self, most: float) -> Any:
        self._thread.join(max(most, 0))
        if self._thread.is_alive():
            raise NotMeasuredError("its preparation took too long")
        if self._error:
            raise NotMeasuredError(self._error)
        return self.value
