"""Transport through the system's ssh, which configures keys, ports and jump hosts.

Every step is a separate command, so with a password instead of a key, ssh prompts repeatedly;
ControlMaster in ~/.ssh/config reduces that to one prompt.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from shlex import quote

from handglass.errors import DeviceError, UsageError
from handglass.runtime.system.regular_file import open_regular
from handglass.runtime.system.tilde import check_expanded

from .transport import Done, failed, lost

FOLDER = "handglass"  # relative to the home folder
HOST = re.compile(r"(?:[\w.-]+@)?[A-Za-z0-9][\w.-]*")
OPTIONS = ("-T", "-o", "ConnectTimeout=20", "-o", "ServerAliveInterval=15", "-e", "none")
LOST = 255


class Ssh:
    appends = True

    def __init__(self, address: str) -> None:
        """`address`: [USER@]HOST[:PATH]; a relative path starts at the home folder.

        Raises UsageError for a malformed address, DeviceError if ssh is not installed.
        """
        host, _, path = address.partition(":")
        if not HOST.fullmatch(host):
            raise UsageError(f"ssh:{address}: must be ssh:[USER@]HOST[:PATH]")
        if shutil.which("ssh") is None:
            raise DeviceError("ssh is not installed: apt-get install openssh-client")
        self.where = host
        check_expanded(path.removeprefix("~/"))
        self.folder = path.removeprefix("~/") or FOLDER

    def shell(self, script: str) -> Done:
        done = subprocess.run(
            self._command("sh -s"), input=script, capture_output=True, text=True, errors="replace"
        )
        return self._checked(Done(done.returncode, done.stdout, done.stderr))

    def send(self, source: Path, target: str, offset: int) -> None:
        with open_regular(source) as given:
            given.seek(offset)
            command = self._command(f"cat >> {quote(target)}")
            done = subprocess.run(command, stdin=given, stderr=subprocess.PIPE)
        ended = self._checked(Done(done.returncode, "", done.stderr.decode(errors="replace")))
        if ended.code:
            raise failed(self.where, f"writing {source.name}", ended)

    def _command(self, remote: str) -> list[str]:
        return ["ssh", *OPTIONS, "--", self.where, remote]

    def _checked(self, done: Done) -> Done:
        if done.code == LOST:
            raise lost(self.where, done.err)
        return done
