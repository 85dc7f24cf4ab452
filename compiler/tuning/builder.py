"""Builds candidates in a child process, because code generation may hang or crash.

The child receives the functions once and then builds them with requested choices. A child that
hangs or dies is replaced, and the candidate fails with the reason.
"""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

from handglass.targets.target import Target

from ..lowering.tasks import Task
from .builder_child import serve

START_SECONDS = 300.0
"""Start timeout: the child imports TVM, which takes 3 s, and far more on a busy board."""


@dataclass(frozen=True)
class Built:
    """A library, or the reason why it could not be built."""

    library: bytes | None
    reason: str = ""


class Builder:
    """A context manager that owns the child process; `timeout` in seconds per candidate."""

    def __init__(self, tasks: Sequence[Task], target: Target, timeout: float = 60.0) -> None:
        self._tasks = {task.hash: task for task in tasks}
        self._target, self._timeout = target, timeout
        self._child: Any = None
        self._pipe: Connection | None = None

    def __enter__(self) -> Builder:
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()

    def build(self, task: Task, choices: Mapping[str, int]) -> Built:
        """Build the library of `task` with these choices."""
        pipe = self._running()
        try:
            pipe.send((task.hash, dict(choices)))
            if not pipe.poll(self._timeout):
                self._stop()
                return Built(None, f"builder: no library after {self._timeout:.0f} s")
            return Built(*pipe.recv())
        except (EOFError, BrokenPipeError, ConnectionResetError):
            return Built(None, f"builder: {self._cause_of_death()}")

    def _running(self) -> Connection:
        if self._pipe is not None and self._child.is_alive():
            return self._pipe
        self._stop()
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._child = context.Process(target=serve, args=(theirs,), daemon=True)
        self._child.start()
        theirs.close()
        from tvm.ir import save_json

        functions = {key: (save_json(t.func), t.rule.name) for key, t in self._tasks.items()}
        self._pipe.send((self._target, functions))
        if not self._pipe.poll(START_SECONDS):
            self._stop()
            raise TimeoutError(f"the builder did not start within {START_SECONDS:.0f} s")
        self._pipe.recv()
        return self._pipe

    def _cause_of_death(self) -> str:
        self._child.join(10)
        code = self._child.exitcode
        self._stop()
        return signal.Signals(-code).name if code and code < 0 else f"exited with code {code}"

    def _stop(self) -> None:
        if self._child is not None:
            self._child.kill()
            self._child.join()
        if self._pipe is not None:
            self._pipe.close()
        self._child = self._pipe = None
