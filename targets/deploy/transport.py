"""Interface of a connection to a device: run a shell script there and send a file."""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from handglass.errors import DeviceError

AGAIN = "run the same command again: what has arrived is kept"


@dataclass(frozen=True)
class Done:
    code: int
    out: str
    err: str


class Transport(Protocol):
    """A connection to a device. A lost connection raises DeviceError; a failing script does not."""

    where: str
    """Name of the device for messages."""
    folder: str
    """Destination folder, as a path for the device's shell."""
    appends: bool
    """Whether a partial transfer can be resumed."""

    def shell(self, script: str) -> Done:
        """Run a POSIX shell script on the device."""

    def send(self, source: Path, target: str, offset: int) -> None:
        """Append the bytes of `source` from `offset` on to `target`, a path on the device."""


def run(transport: Transport, script: str, doing: str) -> str:
    """Run a script and return its output. Raises DeviceError if it fails."""
    done = transport.shell(script)
    if done.code:
        raise failed(transport.where, doing, done)
    return done.out


def failed(where: str, doing: str, done: Done) -> DeviceError:
    """An error for the failed step `doing`, with the device's output as the reason."""
    reason = done.err.strip() or done.out.strip() or f"exit {done.code}"
    if os.strerror(errno.ENOSPC) in reason:
        return DeviceError(f"{where}: no space left while {doing}; free some and {AGAIN}")
    return DeviceError(f"{where}: {doing} failed: {reason[-1000:]}")


def lost(where: str, reason: str) -> DeviceError:
    return DeviceError(f"{where}: no connection, or it was lost: {reason.strip()[-500:]}; {AGAIN}")
