"""What a way to a device can do: run a shell script there and send a file."""

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
    """A connection that is lost raises DeviceError; a script that fails does not."""

    where: str
    """The device, for messages."""
    folder: str
    """Where everything goes, as the device's shell reads it."""
    appends: bool
    """Whether a file that arrived in part can be completed."""

    def shell(self, script: str) -> Done:
        """Run a POSIX shell script there."""

    def send(self, source: Path, target: str, offset: int) -> None:
        """Append the bytes of `source` from `offset` on to the file `target` (a path there)."""


def run(transport: Transport, script: str, doing: str) -> str:
    """What a script prints; DeviceError in words if it fails."""
    done = transport.shell(script)
    if done.code:
        raise failed(transport.where, doing, done)
    return done.out


def failed(where: str, doing: str, done: Done) -> DeviceError:
    """`doing` did not work, and why: what the device said, or its disk."""
    told = done.err.strip() or done.out.strip() or f"exit {done.code}"
    if os.strerror(errno.ENOSPC) in told:
        return DeviceError(f"{where}: no space left while {doing}; free some and {AGAIN}")
    return DeviceError(f"{where}: {doing} failed: {told[-1000:]}")


def lost(where: str, told: str) -> DeviceError:
    return DeviceError(f"{where}: no connection, or it was lost: {told.strip()[-500:]}; {AGAIN}")
