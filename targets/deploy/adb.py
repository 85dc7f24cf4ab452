"""Transport to an Android phone through adb, with a folder that its shell may execute from."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

from handglass.errors import DeviceError, UsageError

from .transport import Done, failed, lost

FOLDER = "/data/local/tmp/handglass"
SERIAL = re.compile(r"[A-Za-z0-9][\w.:-]*")
GONE = ("error: ", "adb: ")
"""Prefixes of error messages from adb itself rather than the phone."""


class Adb:
    appends = False

    def __init__(self, serial: str) -> None:
        """`serial`: as listed by `adb devices`, including HOST:PORT.

        Raises UsageError for a malformed serial, DeviceError if adb is not installed.
        """
        if not SERIAL.fullmatch(serial):
            raise UsageError(f"adb:{serial}: must be adb:SERIAL, see 'adb devices'")
        if shutil.which("adb") is None:
            raise DeviceError("adb is not installed: apt-get install adb, or Android's tools")
        self.where, self.folder = f"adb:{serial}", FOLDER
        self._adb = ("adb", "-s", serial)

    def shell(self, script: str) -> Done:
        return self._run("shell", script)

    def send(self, source: Path, target: str, offset: int) -> None:
        done = self._run("push", str(source), target)
        if done.code:
            raise failed(self.where, f"writing {source.name}", done)

    def _run(self, *arguments: str) -> Done:
        ended = subprocess.run(
            [*self._adb, *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
        )
        done = Done(ended.returncode, ended.stdout, ended.stderr)
        if done.code and done.err.startswith(GONE) and "No space left" not in done.err:
            raise lost(self.where, done.err)
        return done
