"""Runs libraries on the device, and recovers from crashes of their session.

A candidate that crashes ends its session. The runner then opens a new one and restores the state
that the next request needs, so that callers see a crash only as the reason of a failure.
"""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable, Sequence
from typing import TypeVar

from handglass.errors import DeviceError, MismatchError
from handglass.runtime.remote.client import (
    Description,
    DeviceClient,
    DeviceGone,
    Difference,
    SessionDied,
)

from ..lowering.kernel_code import ENTRY
from ..lowering.task_arguments import Arguments

SAMPLE_SECONDS = 0.01
"""Duration of a sample, which determines its number of calls."""
BUILD_SECONDS = 300.0
"""Deadline for describing a device that must build its plug-in first."""
DEADLINE = 30.0
"""Deadline of a request in seconds; a slower candidate is useless."""
MOST_LIBRARIES = 64
"""Most libraries per session: a device never unloads them."""


Answer = TypeVar("Answer")


class CandidateError(Exception):
    """The candidate failed; the message is the reason."""


class DeviceRunner:
    """A session with a device, reopened when a candidate ends it.

    `device`: where libraries run, "cpu" or "KIND:N".
    """

    def __init__(self, connect: Callable[[], DeviceClient], device: str = "cpu") -> None:
        self._connect, self._device = connect, device
        self._client: DeviceClient | None = None
        self._loaded: set[str] = set()
        self._arguments: Arguments | None = None
        self._held: Arguments | None = None
        self.description: Description = self._describe()

    def _describe(self) -> Description:
        if self._device == "cpu":
            return self._open().describe()
        kind = self._device.partition(":")[0]
        return self._open().describe(kind, deadline_s=BUILD_SECONDS)

    def close(self) -> None:
        if self._client is not None:
            self._client.close()
        self._client = None

    def prepare(self, arguments: Arguments) -> None:
        """Set the arguments for all following calls."""
        self._arguments = arguments

    def calls_for(self, library: bytes) -> int:
        """Number of calls of the library per sample."""
        seconds = self.seconds(library, 1, 1)[0]
        return max(1, min(10_000, math.ceil(SAMPLE_SECONDS / max(seconds, 1e-7))))

    def seconds(self, library: bytes, number: int, samples: int) -> list[float]:
        """Seconds of one call, `samples` times. Raises CandidateError if it fails."""
        return self._attempt(
            lambda client: client.measure(
                self._name(library), ENTRY, "main", number, samples, deadline_s=DEADLINE
            ),
            [library],
        )

    def compare(self, reference: bytes, candidate: bytes, seed: int) -> Sequence[Difference]:
        """Compare every tensor after one call of each library with the same initial contents."""
        names = self._name(reference), self._name(candidate)
        return self._attempt(
            lambda client: client.compare(*names, ENTRY, "main", seed, deadline_s=DEADLINE),
            [reference, candidate],
        )

    def _attempt(
        self, request: Callable[[DeviceClient], Answer], libraries: Sequence[bytes]
    ) -> Answer:
        try:
            return request(self._ready(libraries))
        except DeviceGone:
            self.close()
            raise
        except SessionDied as died:
            self.close()
            raise CandidateError(f"runner: {died.reason}") from died
        except MismatchError as refused:
            if self._device != "cpu":  # the session may have lost its GPU
                self.close()
            raise CandidateError(f"runner: {str(refused).splitlines()[0][:160]}") from refused

    def _ready(self, libraries: Sequence[bytes]) -> DeviceClient:
        """A session that holds the arguments and the libraries."""
        if self._client is None or len(self._loaded) > MOST_LIBRARIES:
            self.close()
            self._open()
        client = self._client
        assert client is not None
        if self._arguments is not None and self._held is not self._arguments:
            _hold(client, self._arguments, self._device)
            self._held = self._arguments
        for library in libraries:
            name = self._name(library)
            if name not in self._loaded:
                client.put(name, library)
                client.load(name, self._device)
                self._loaded.add(name)
        return client

    def _open(self) -> DeviceClient:
        self._client = _patiently(self._connect)
        self._loaded, self._held = set(), None
        return self._client

    @staticmethod
    def _name(library: bytes) -> str:
        return f"k{hashlib.sha256(library).hexdigest()[:24]}.so"


def _hold(client: DeviceClient, arguments: Arguments, device: str = "cpu") -> None:
    """Create as many copies of the arguments as fit. Raises DeviceError if not even one does."""
    copies = arguments.copies
    while True:
        try:
            items, deadline = arguments.items, DEADLINE * 4
            client.arguments("main", items, copies, device=device, deadline_s=deadline)
            return
        except SessionDied:
            raise
        except DeviceError:
            if copies == 1:
                raise
            copies = (copies + 1) // 2


def _patiently(connect: Callable[[], DeviceClient], attempts: int = 3) -> DeviceClient:
    """Connect with retries: the device may still be cleaning up the old session."""
    for left in reversed(range(attempts)):
        try:
            return connect()
        except DeviceError:
            if not left:
                raise
            time.sleep(0.5)
    raise AssertionError("unreachable")
