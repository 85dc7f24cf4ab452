"""A process on a pseudo terminal, which a test writes to and reads from."""

import codecs
import fcntl
import os
import pty
import select
import struct
import termios
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

SECONDS = 90.0
"""How long a test waits for a text."""
ATTRIBUTES = "\x1b[?6c"
"""What a terminal says that draws nothing but characters."""
_ASKS = "\x1b[c"  # a process asks what its terminal is
_QUOTED = 2000  # characters of what was seen, in the message of a failed test


class TerminalProcess:
    """A process whose terminal is written to and read from.

    Attributes:
        fd: The test's end of the terminal.
        asked: How often the process has asked what its terminal is; `attributes` is the answer.
    """

    def __init__(
        self,
        command: Sequence[object],
        environment: Mapping[str, str] | None = None,
        folder: Path | None = None,
        attributes: str = ATTRIBUTES,
    ) -> None:
        words = [str(word) for word in command]
        self._pid, self.fd = pty.fork()
        if not self._pid:
            _become(words, os.environ if environment is None else environment, folder)
        self.asked = 0
        self._attributes = attributes
        self._unread = ""
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._code: int | None = None

    def write(self, text: str) -> None:
        os.write(self.fd, text.encode())

    def interrupt(self) -> None:
        """Press Ctrl-C."""
        self.write("\x03")

    def resize(self, columns: int, rows: int = 40) -> None:
        fcntl.ioctl(self.fd, termios.TIOCSWINSZ, struct.pack("4H", rows, columns, 0, 0))

    def until(self, *texts: str, seconds: float = SECONDS) -> str:
        """Read up to the first of these texts that has come; returns what came before it."""
        end = time.monotonic() + seconds
        while not (found := [text for text in texts if text in self._unread]):
            more = self._read(end, f"none of {texts}")
            assert more, f"it ended before any of {texts}: {self._unread[-_QUOTED:]!r}"
        before, _, self._unread = self._unread.partition(found[0])
        return before

    def rest(self, seconds: float = SECONDS) -> str:
        """Read to the end of the process; returns what came."""
        end = time.monotonic() + seconds
        while self._read(end, "not the end"):
            pass
        rest, self._unread = self._unread, ""
        return rest

    def close(self) -> int:
        """Take the terminal away, which ends a process that still runs; returns its exit code."""
        if self._code is None:
            os.close(self.fd)
            self._code = os.waitstatus_to_exitcode(os.waitpid(self._pid, 0)[1])
        return self._code

    def _read(self, end: float, what: str) -> bool:
        """Read once; False at the end of the process. Fails at the time `end`."""
        left = end - time.monotonic()
        is_ready = left > 0 and select.select([self.fd], [], [], left)[0]
        assert is_ready, f"{what} came in time: {self._unread[-_QUOTED:]!r}"
        try:
            data = os.read(self.fd, 65536)
        except OSError:  # how Linux tells that the other end is closed
            return False
        self._unread += self._decoder.decode(data)
        if _ASKS in self._unread:
            self.asked += self._unread.count(_ASKS)
            self.write(self._attributes)
            self._unread = self._unread.replace(_ASKS, "")
        return bool(data)


def _become(words: list[str], environment: Mapping[str, str], folder: Path | None) -> None:
    """Replace this process, a copy of that of the tests, which it must never go on as."""
    try:
        os.chdir(folder or os.curdir)
        os.execve(words[0], words, environment)
    finally:
        os._exit(127)
