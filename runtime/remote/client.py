"""A device as its client sees it: one session with a server, request by request.

Reconnecting is the caller's business: what a session held (libraries, arguments) ends with it.
"""

from __future__ import annotations

import contextlib
import hashlib
import socket
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any

from handglass.errors import DeviceError, HandglassError, InputError, MismatchError

from ..devices.kinds import CPU
from ..system.hardware import Machine
from . import frames, handshake
from .devices import DeviceEntry

GRACE = 10.0
"""Seconds beyond a deadline before a device that says nothing is given up."""
_UPDATE = "install the same handglass on both sides"
_MEANINGS = {
    "SIGILL": "SIGILL: instruction that this CPU lacks",
    "SIGKILL": "SIGKILL: killed from outside, for example for want of memory",
}


class SessionDied(DeviceError):  # noqa: N818  an event, which a tuner expects
    """The session is gone and all it held. `reason`: "SIGSEGV", "time limit", ..."""

    def __init__(self, message: str, reason: str) -> None:
        super().__init__(message)
        self.reason = reason


class DeviceGone(SessionDied):
    """Not only the session: nobody answers at the address any more."""


@dataclass(frozen=True)
class Description:
    """What a device is."""

    machine: Machine
    threads: int
    runtime: str  # "python" or "native"
    versions: Mapping[str, str]
    kind: str = CPU
    """Of the devices that were asked for."""
    devices: tuple[DeviceEntry, ...] = ()


@dataclass(frozen=True)
class Difference:
    """How far a candidate is from the reference in the tensor at `index` of the arguments."""

    index: int
    snr_db: float | None  # None: equal wherever both are finite
    max_error: float
    largest: float  # of the reference
    finite: bool  # False where only one of the two is finite


class DeviceClient:
    """Use as a context manager. Errors of a request come as InputError, DeviceError (the device
    cannot) or MismatchError (what was sent does not fit); SessionDied when there is no session."""

    def __init__(self, host: str, port: int, key: str) -> None:
        self._address, self._key = (host, port), key
        self._connection: socket.socket | None = self._connect()[0]

    @property
    def where(self) -> str:
        return f"{self._address[0]}:{self._address[1]}"

    def __enter__(self) -> DeviceClient:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the session, and with it what it holds on the device."""
        if self._connection is not None:
            self._connection.close()
        self._connection = None

    def describe(self, kind: str = CPU, deadline_s: float = 30.0) -> Description:
        """`kind` other than "cpu": with its devices of that kind, DeviceError where it has none.
        Where there is no plug-in for them yet, it is built first: that takes a minute."""
        answer = self._ask("describe", deadline_s, **_unless_cpu("kind", kind))
        with self._reading("describe"):
            machine = dict(answer["machine"])
            machine["flags"] = frozenset(machine["flags"])
            versions = dict(answer["versions"])
            devices = tuple(DeviceEntry(**entry) for entry in answer.get("gpus", ()))
            threads, runtime = int(answer["threads"]), str(answer["runtime"])
            return Description(Machine(**machine), threads, runtime, versions, kind, devices)

    def put(self, name: str, data: bytes, deadline_s: float = 60.0) -> None:
        """Send a library; its code does not run yet."""
        sha256 = hashlib.sha256(data).hexdigest()
        self._ask("put", deadline_s, name=name, sha256=sha256, payload=data)

    def load(self, name: str, device: str = CPU, deadline_s: float = 60.0) -> None:
        """`device`: where its functions are to run, "cpu" or "KIND:N"."""
        self._ask("load", deadline_s, name=name, **_unless_cpu("device", device))

    def arguments(
        self,
        id: str,
        items: Sequence[int | Mapping[str, Any]],
        copies: int = 1,
        seed: int = 0,
        device: str = CPU,
        deadline_s: float = 120.0,
    ) -> int:
        """Make a set of arguments; the bytes that it takes on the device, "cpu" or "KIND:N".

        An item is an integer or {"shape": [...], "dtype": ..., "fill": {...}}; the fills are listed
        in docs/device-server.md.
        """
        items = [{"int": item} if isinstance(item, int) else item for item in items]
        fields = {"id": id, "items": items, "copies": copies, "seed": seed}
        fields |= _unless_cpu("device", device)
        answer = self._ask("arguments", deadline_s, **fields)
        with self._reading("arguments"):
            return int(answer["bytes"])

    def measure(
        self,
        library: str,
        function: str,
        arguments: str,
        number: int,
        samples: int,
        deadline_s: float = 60.0,
    ) -> list[float]:
        """Seconds per call, one for each sample of `number` calls."""
        fields = {"library": library, "function": function, "arguments": arguments}
        answer = self._ask("measure", deadline_s, **fields, number=number, samples=samples)
        with self._reading("measure"):
            return [float(seconds) for seconds in answer["seconds"]]

    def compare(
        self,
        reference: str,
        candidate: str,
        function: str,
        arguments: str,
        seed: int = 0,
        deadline_s: float = 60.0,
    ) -> list[Difference]:
        """Run both libraries' `function` on the same arguments; one row per tensor."""
        fields = {"reference": reference, "candidate": candidate, "function": function}
        answer = self._ask("compare", deadline_s, **fields, arguments=arguments, seed=seed)
        with self._reading("compare"):
            return [_difference(row) for row in answer["items"]]

    def drop(
        self, *, library: str | None = None, arguments: str | None = None, deadline_s: float = 30.0
    ) -> None:
        """Free what one of the two names."""
        given = {"library": library, "arguments": arguments}
        self._ask("drop", deadline_s, **{key: name for key, name in given.items() if name})

    def _ask(self, do: str, deadline_s: float, **fields: Any) -> dict[str, Any]:
        """The answer to a request; errors come back as they were raised there."""
        if self._connection is None:
            raise self._ended(do, "it had ended before")
        try:
            self._connection.settimeout(deadline_s + GRACE)
            frames.send(self._connection, {"do": do, "deadline_s": deadline_s, **fields})
            answer = frames.receive(self._connection, payload_limit=0)
        except InputError:  # nothing was sent
            raise
        except (OSError, EOFError, frames.FrameError) as error:
            self.close()
            raise self._died(do, error) from error
        except BaseException:  # interrupted in the middle: what comes next is not our answer
            self.close()
            raise
        if answer.get("ok") is not True:
            raise self._error(do, answer)
        return answer

    def _error(self, do: str, answer: Mapping[str, Any]) -> HandglassError:
        kinds = {"input": InputError, "device": DeviceError, "mismatch": MismatchError}
        kind, words = kinds.get(str(answer.get("kind")), MismatchError), str(answer.get("error"))
        if any(f"unknown field '{name}'" in words for name in ("kind", "device")):
            kind, words = MismatchError, f"this device server knows no GPUs ({words}); {_UPDATE}"
        return kind(f"{self.where}: {do}: {words}")

    @contextlib.contextmanager
    def _reading(self, do: str) -> Iterator[None]:
        try:
            yield
        except (KeyError, TypeError, ValueError) as error:
            raise MismatchError(
                f"{self.where}: the answer to '{do}' is not what the protocol says ({error!r}); "
                f"{_UPDATE}"
            ) from error

    def _died(self, do: str, error: BaseException) -> SessionDied:
        """Ask the server, by a handshake and no more, how the session ended."""
        try:
            connection, previous = self._connect()
        except DeviceGone as gone:
            return gone
        except HandglassError as refusal:
            return self._ended(do, str(refusal))
        connection.close()
        reason = previous or str(error) or "it ended without a word"
        return self._ended(do, _MEANINGS.get(reason, reason))

    def _connect(self) -> tuple[socket.socket, str | None]:
        """A session, and how the one before it died."""
        try:
            connection = socket.create_connection(self._address, handshake.SECONDS)
        except OSError as error:
            raise self._gone(error) from error
        try:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return connection, handshake.greet(connection, self._key, self.where)
        except (OSError, EOFError, frames.FrameError) as error:
            connection.close()
            raise self._gone(error) from error
        except BaseException:
            connection.close()
            raise

    def _ended(self, do: str, reason: str) -> SessionDied:
        return SessionDied(f"{self.where}: the session died during '{do}': {reason}", reason)

    def _gone(self, error: Exception) -> DeviceGone:
        reason = f"device gone: {self.where} does not answer"
        return DeviceGone(f"{reason} ({str(error) or 'it hung up'})", reason)


def _unless_cpu(name: str, device: str) -> dict[str, str]:
    """A field that servers without GPUs do not know."""
    return {} if device == CPU else {name: device}


def _difference(row: Mapping[str, Any]) -> Difference:
    snr_db, finite = row["snr_db"], row["finite"]
    if not isinstance(finite, bool):
        raise TypeError(f"finite is {finite!r}")
    return Difference(
        int(row["index"]),
        None if snr_db is None else float(snr_db),
        float(row["max_error"]),
        float(row["largest"]),
        finite,
    )
