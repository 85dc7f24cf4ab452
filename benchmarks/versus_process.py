"""A worker of `versus.py` as its parent sees it: a process that runs one row on request."""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from busy import busy_process
from versus_peers import HERE, Configuration, Peer, PeerError, prepare

from handglass.runtime.system.machine import usable_cpus

START_LIMIT_S, ROW_LIMIT_S = 3600.0, 600.0
"""How long a process may take to build and load its models, and for one row with its warm-up."""
BUSY = "busy "
"""Rows with this prefix run beside a process that keeps the last core busy."""


class Worker:
    """A process that runs one row on request; `rows` may be narrowed by the caller."""

    def __init__(
        self, peer: Peer, configuration: Configuration, root: Path, config: Path, threads: int
    ) -> None:
        self.name, self.configuration = peer.name, configuration
        self._log = root / f"{peer.name}.log"
        self._process = self._start(peer, root, config, threads)
        ready = self._read(START_LIMIT_S)
        self.about: dict[str, Any] = ready["about"]
        self.rows: Sequence[str] = ready["rows"]

    def seconds(self, row: str) -> float:
        """Run a row once, for a busy row beside a spinning process."""
        if not row.startswith(BUSY):
            return self._seconds(row)
        with busy_process(max(usable_cpus())):
            return self._seconds(row.removeprefix(BUSY))

    def can(self, row: str) -> bool:
        return row.removeprefix(BUSY) in self.rows

    def peak_bytes(self) -> int:
        """The most memory that it has held, mapped files included; 0 if it has ended."""
        path = Path(f"/proc/{self._process.pid}/status")
        status = path.read_text("ascii", "replace") if path.exists() else ""
        found = re.search(r"^VmHWM:\s+(\d+) kB", status, re.MULTILINE)
        return int(found[1]) * 1024 if found else 0

    def close(self) -> None:
        """Close its standard input, which ends the process."""
        with self._process, contextlib.suppress(BrokenPipeError):
            assert self._process.stdin is not None
            self._process.stdin.close()

    def _start(self, peer: Peer, root: Path, config: Path, threads: int) -> subprocess.Popen[str]:
        python = prepare(peer, self.configuration, root)
        variables = self.configuration.variables(peer, root)
        settings = json.dumps(self.configuration.settings(peer))
        arguments = [str(config), str(config.parent / peer.name), str(threads), settings]
        paths = [str(HERE.parent), str(HERE), variables.pop("PYTHONPATH", "")]
        with self._log.open("w") as log:
            return subprocess.Popen(
                [str(python), str(HERE / peer.script), *arguments],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths)), **variables},
            )

    def _seconds(self, row: str) -> float:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(row + "\n")
            self._process.stdin.flush()
        except BrokenPipeError as error:
            raise PeerError(self._ended()) from error
        return float(self._read(ROW_LIMIT_S)["seconds"])

    def _read(self, limit_s: float) -> Any:
        """The next message; a process that is silent for too long is ended."""
        assert self._process.stdout is not None
        timer = threading.Timer(limit_s, self._process.kill)
        timer.start()
        try:
            for line in self._process.stdout:
                if line.startswith("{"):  # libraries print on import
                    return json.loads(line)
        finally:
            timer.cancel()
        raise PeerError(self._ended())

    def _ended(self) -> str:
        lines = self._log.read_text("utf-8", errors="replace").strip().splitlines()
        last = lines[-1] if lines else "it said nothing"
        self.close()
        return f"{self.name} ended with {self._process.returncode}: {last} (see {self._log})"
