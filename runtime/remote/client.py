"""The client of a device server: one session, request by request.

Reconnecting is left to the caller: the libraries and arguments of a session end with it.
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
"""Seconds after a deadline at which a silent device is given up."""
_UPDATE = "install the same handglass on both sides"
_MEANINGS = {
    "SIGILL": "SIGILL: instruction that this CPU lacks",
    "SIGKILL": "SIGKILL: killed from outside, for example because memory ran out",
}


class SessionDied(DeviceError):  # noqa: N818  an event that a tuner expects
    """The session has ended with all it held. `reason`: "SIGSEGV", "time limit", ..."""

    def __init__(self, message: str, reason: str) -> None:
        super().__init__(message)
        self.reason = reason


class DeviceGone(SessionDied):
    """The server, too, no longer answers at its address."""


@dataclass(frozen=True)
class Description:
    """A machine with a device server, and its devices of kind `kind`."""

    machine: Machine
    threads: int
    runtime: str  # "python" or "native"
    versions: Mapping[str, str]
    kind: str = CPU
    """The kind of the devices listed in `devices`."""
    devices: tuple[DeviceEntry, ...] = ()
    counts_instructions: bool = False
    """Whether it is emulated, and `count` works."""


@dataclass(frozen=True)
class Difference:
    """The difference of candidate and reference in the tensor at `index` of the arguments."""

    index: int
    snr_db: float | None  # None: equal wherever both are finite
    max_error: float
    largest: float  # largest magnitude in the reference
    finite: bool  # False if a value is finite in only one of the two


class DeviceClient:
    """A session with a device server, to be used as a context manager.

    A request raises InputError for a bad request, DeviceError if the device cannot do it,
    MismatchError if what was sent does not fit the device, and SessionDied if the session has
    ended. The constructor raises DeviceGone, handshake.DeviceBusy, DeviceError or MismatchError.
    """

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
        """End the session and free what it holds on the device."""
        if self._connection is not None:
            self._connection.close()
        self._connection = None

    def describe(self, kind: str = CPU, deadline_s: float = 30.0) -> Description:
        """Describe the machine; for a `kind` other than "cpu", also its devices of that kind.

        Raises DeviceError if it has none. If the device lacks the plug-in of the kind, it builds it
        first, which takes a minute.
        """
        answer = self._ask("describe", deadline_s, **_unless_cpu("kind", kind))
        with self._reading("describe"):
            machine = dict(answer["machine"])
            machine["flags"] = frozenset(machine["flags"])
            versions = dict(answer["versions"])
            devices = tuple(DeviceEntry(**entry) for entry in answer.get("gpus", ()))
            threads, runtime = int(answer["threads"]), str(answer["runtime"])
            counts = bool(answer.get("counts_instructions", False))
            shown = Machine(**machine), threads, runtime, versions, kind, devices
            return Description(*shown, counts)

    def put(self, name: str, data: bytes, deadline_s: float = 60.0) -> None:
        """Send a library without loading it."""
        sha256 = hashlib.sha256(data).hexdigest()
        self._ask("put", deadline_s, name=name, sha256=sha256, payload=data)

    def load(self, name: str, device: str = CPU, deadline_s: float = 60.0) -> None:
        """Load a sent library; `device` runs its functions: "cpu" or "KIND:N"."""
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
        """Create a set of arguments on `device` ("cpu" or "KIND:N"); returns its size in bytes.

        An item is an integer or {"shape": [...], "dtype": ..., "fill": {...}};
        docs/device-server.md lists the fills.
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
        """Seconds per call, one value for each sample of `number` calls."""
        fields = {"library": library, "function": function, "arguments": arguments}
        return self._measure("seconds", deadline_s, **fields, number=number, samples=samples)

    def count(
        self,
        library: str,
        function: str,
        arguments: str,
        number: int,
        samples: int,
        deadline_s: float = 60.0,
    ) -> list[float]:
        """Instructions of one call in the library's code, on a device that counts them."""
        fields = {"library": library, "function": function, "arguments": arguments}
        fields |= {"unit": "instructions"}
        return self._measure("instructions", deadline_s, **fields, number=number, samples=samples)

    def _measure(self, values: str, deadline_s: float, **fields: Any) -> list[float]:
        """The list of the answer that is called `values`."""
        answer = self._ask("measure", deadline_s, **fields)
        with self._reading("measure"):
            return [float(value) for value in answer[values]]

    def compare(
        self,
        reference: str,
        candidate: str,
        function: str,
        arguments: str,
        seed: int = 0,
        deadline_s: float = 60.0,
    ) -> list[Difference]:
        """Run `function` of both libraries on the same arguments; one Difference per tensor."""
        fields = {"reference": reference, "candidate": candidate, "function": function}
        answer = self._ask("compare", deadline_s, **fields, arguments=arguments, seed=seed)
        with self._reading("compare"):
            return [_difference(row) for row in answer["items"]]

    def drop(
        self, *, library: str | None = None, arguments: str | None = None, deadline_s: float = 30.0
    ) -> None:
        """Free a library or a set of arguments."""
        names = {"library": library, "arguments": arguments}
        self._ask("drop", deadline_s, **{key: name for key, name in names.items() if name})

    def _ask(self, do: str, deadline_s: float, **fields: Any) -> dict[str, Any]:
        """The answer to a request; raises the server's errors as the same classes."""
        if self._connection is None:
            raise self._ended(do, "the session has already ended")
        try:
            self._connection.settimeout(deadline_s + GRACE)
            frames.send(self._connection, {"do": do, "deadline_s": deadline_s, **fields})
            answer = frames.receive(self._connection, payload_limit=0)
        except InputError:  # nothing was sent
            raise
        except (OSError, EOFError, frames.FrameError) as error:
            self.close()
            raise self._died(do, error) from error
        except BaseException:  # interrupted: the next frame would answer this request
            self.close()
            raise
        if answer.get("ok") is not True:
            raise self._error(do, answer)
        return answer

    def _error(self, do: str, answer: Mapping[str, Any]) -> HandglassError:
        kinds = {"input": InputError, "device": DeviceError, "mismatch": MismatchError}
        kind, text = kinds.get(str(answer.get("kind")), MismatchError), str(answer.get("error"))
        if any(f"unknown field '{name}'" in text for name in ("kind", "device")):
            kind, text = (
                MismatchError,
                f"this device server does not support GPUs ({text}); {_UPDATE}",
            )
        return kind(f"{self.where}: {do}: {text}")

    @contextlib.contextmanager
    def _reading(self, do: str) -> Iterator[None]:
        try:
            yield
        except (KeyError, TypeError, ValueError) as error:
            raise MismatchError(
                f"{self.where}: the answer to '{do}' violates the protocol ({error!r}); {_UPDATE}"
            ) from error

    def _died(self, do: str, error: BaseException) -> SessionDied:
        """Ask the server with a new handshake how the session ended."""
        try:
            connection, previous = self._connect()
        except DeviceGone as gone:
            return gone
        except HandglassError as refusal:
            return self._ended(do, str(refusal))
        connection.close()
        reason = previous or str(error) or "it ended without an error message"
        return self._ended(do, _MEANINGS.get(reason, reason))

    def _connect(self) -> tuple[socket.socket, str | None]:
        """A new session, and how the previous one died."""
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
        return DeviceGone(f"{reason} ({str(error) or 'it closed the connection'})", reason)


def _unless_cpu(name: str, device: str) -> dict[str, str]:
    """A field for devices other than the CPU; servers without GPU support reject it."""
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
