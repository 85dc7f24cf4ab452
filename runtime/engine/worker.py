"""The thread that runs the compiled code of one model.

TVM's virtual machine is not thread-safe and keeps state per thread. One thread of ours runs it, so
callers of any number wait for each other, and a caller can be interrupted while a long step runs.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import os
import sys
import threading
import time
import weakref
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any, Concatenate, Generic, ParamSpec, TypeVar

LAST_STEP_S = 0.8
"""At exit, a step that nobody waits for any more has this long to end."""
INTERRUPTED = 130
R = TypeVar("R")
P = ParamSpec("P")


class Job(Generic[R]):
    """A call that was queued, and its result or error."""

    def __init__(self, call: Callable[[], R]) -> None:
        self._call = call
        self._done = threading.Lock()
        self._done.acquire()  # until the call has ended
        self._error: BaseException | None = None
        self._result: Any = None

    def run(self) -> None:
        try:
            self._result = self._call()
        except BaseException as error:  # noqa: BLE001  it is raised where the caller waits
            self._error = error
        self._done.release()

    def result(self) -> R:
        """Wait for the result. Signal handlers run meanwhile and may raise."""
        with self._done:
            pass
        if self._error is not None:
            raise self._error
        return self._result


class Worker:
    """Runs calls one after the other, in the order in which they were made.

    The thread starts with the first call and ends with the object. In the child of a fork, the
    first call starts a new one.
    """

    _lock: threading.Lock
    _thread: threading.Thread | None
    _jobs: SimpleQueue[Job[Any] | None]

    def __init__(self) -> None:
        self._forget()
        _WORKERS.add(self)

    def run(self, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Call a function in the thread, or directly if this is the thread; returns its result."""
        if threading.current_thread() is self._thread:
            return function(*args, **kwargs)
        return self.submit(functools.partial(function, *args, **kwargs)).result()

    def submit(self, call: Callable[[], R]) -> Job[R]:
        """Queue a call and return at once."""
        job = Job(call)
        self._queue().put(job)
        return job

    def stop(self, seconds: float) -> bool:
        """Whether the thread has run all calls and ended within this time."""
        thread = self._thread
        if thread is not None:
            self._jobs.put(None)
            thread.join(seconds)
            if thread.is_alive():
                return False
            self._forget()  # a later call starts a new thread
        return True

    def _queue(self) -> SimpleQueue[Job[Any] | None]:
        with self._lock:
            if self._thread is None:
                name, jobs = "handglass compiled code", self._jobs
                self._thread = threading.Thread(target=_serve, args=(jobs,), name=name, daemon=True)
                self._thread.start()
                weakref.finalize(self, jobs.put, None).atexit = False
        return self._jobs

    def _forget(self) -> None:
        self._lock, self._thread, self._jobs = threading.Lock(), None, SimpleQueue()


def _serve(jobs: SimpleQueue[Job[Any] | None]) -> None:
    while (job := jobs.get()) is not None:
        job.run()
        del job  # its result must not live until the next one


_WORKERS: weakref.WeakSet[Worker] = weakref.WeakSet()


def _after_fork() -> None:
    for worker in list(_WORKERS):
        worker._forget()


@atexit.register
def end_threads(exit_code: int = INTERRUPTED) -> None:
    """Compiled code must not run while the process takes its libraries down.

    Only an interrupted call is still running here. If it takes longer, the process ends at once,
    with `exit_code`.
    """
    end = time.monotonic() + LAST_STEP_S
    if not all(worker.stop(max(0.0, end - time.monotonic())) for worker in list(_WORKERS)):
        with contextlib.suppress(OSError, ValueError, AttributeError):  # closed, or None
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(exit_code)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


class HasWorker:
    """An object whose methods, marked with `in_worker`, run in the thread of `worker`."""

    worker: Worker


S = TypeVar("S", bound=HasWorker)


def in_worker(method: Callable[Concatenate[S, P], R]) -> Callable[Concatenate[S, P], R]:
    """Run the method of a session in the session's thread."""

    @functools.wraps(method)
    def run(self: S, *args: P.args, **kwargs: P.kwargs) -> R:
        return self.worker.run(method, self, *args, **kwargs)

    return run
