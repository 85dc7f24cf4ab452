"""The engines to compare with: how to install each in its own environment and start it."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
TORCH = "torch==2.13.0"


class PeerError(Exception):
    """An engine cannot be installed or started, or has ended."""


@dataclass(frozen=True)
class Peer:
    name: str
    script: str
    environment: str
    """Name of its environment; empty for the current one."""
    installs: tuple[tuple[str, ...], ...] = ()
    """Arguments of each call of pip."""
    words: tuple[str, ...] = ()


# Peers that need much memory to build their models come first.
PEERS = {
    peer.name: peer
    for peer in (
        Peer(
            "openvino",
            "versus_openvino.py",
            "openvino",
            ((TORCH,), ("numpy", "openvino", "nncf")),
        ),
        Peer(
            "llama.cpp",
            "versus_llama.py",
            "llama.cpp",
            # Built from source, for the instruction set of this machine.
            (
                ("numpy", "gguf", "cmake", "ninja", "scikit-build-core"),
                ("--no-build-isolation", "--no-binary=llama_cpp_python", "llama_cpp_python"),
            ),
        ),
        Peer("torch-f32", "versus_torch.py", "torch", ((TORCH,), ("numpy",)), ("f32",)),
        Peer("torch-bf16", "versus_torch.py", "torch", ((TORCH,), ("numpy",)), ("bf16",)),
    )
}


def python_of(peer: Peer, root: Path) -> Path:
    """The interpreter of its environment, which is created on first use."""
    if not peer.environment:
        return Path(sys.executable)
    folder = root / f"venv-{peer.environment}"
    python, done = folder / "bin" / "python", folder / "installed"
    if not done.exists():
        print(f"installing {peer.environment} into {folder}", file=sys.stderr, flush=True)
        run(sys.executable, "-m", "venv", str(folder))
        path = f"{folder.absolute() / 'bin'}{os.pathsep}{os.environ.get('PATH', '')}"
        for arguments in peer.installs:
            run(str(python), "-m", "pip", "install", "--quiet", *arguments, path=path)
        done.touch()
    return python


def run(*command: str, path: str | None = None) -> None:
    environment = {**os.environ, **({"PATH": path} if path else {})}
    done = subprocess.run(command, env=environment, stdout=sys.stderr, check=False)
    if done.returncode:
        raise PeerError(f"{' '.join(command)}: exit code {done.returncode}")


class Worker:
    """A process that runs one row on request."""

    def __init__(self, peer: Peer, root: Path, config: Path, threads: int) -> None:
        self.name = peer.name
        self._log = root / f"{peer.name}.log"
        python = python_of(peer, root)
        folder = config.parent / peer.name
        arguments = [str(config), str(folder), str(threads), *peer.words]
        with self._log.open("w") as log:
            self._process = subprocess.Popen(
                [str(python), str(HERE / peer.script), *arguments],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env={**os.environ, "PYTHONPATH": f"{HERE.parent}{os.pathsep}{HERE}"},
            )
        ready = self._read()
        self.about: dict[str, Any] = ready["about"]
        self.rows: Sequence[str] = ready["rows"]

    def seconds(self, row: str) -> float:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(row + "\n")
            self._process.stdin.flush()
        except BrokenPipeError as error:
            raise PeerError(self._ended()) from error
        return float(self._read()["seconds"])

    def close(self) -> None:
        """Close its standard input, which ends the process."""
        with self._process, contextlib.suppress(BrokenPipeError):
            assert self._process.stdin is not None
            self._process.stdin.close()

    def _read(self) -> Any:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith("{"):  # libraries print on import
                return json.loads(line)
        raise PeerError(self._ended())

    def _ended(self) -> str:
        lines = self._log.read_text("utf-8", errors="replace").strip().splitlines()
        last = lines[-1] if lines else "it said nothing"
        self.close()
        return f"{self.name} ended with {self._process.returncode}: {last} (see {self._log})"
