"""What an engine to compare with is: its environment, its choices, and how to install it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).parent
Choices = Mapping[str, Mapping[str, str]]
"""Settings or variables by name; the names stand in the table."""
ONLY: Choices = {"": {}}


class PeerError(Exception):
    """An engine cannot be installed or started, or has ended."""


@dataclass(frozen=True)
class Configuration:
    """One choice of each kind, by name.

    `process` is fixed when a process starts; a picture runs with `vision` only, and a prompt and
    its answer with `decoder` only, so what was measured with one pair holds for another.
    """

    process: str = ""
    vision: str = ""
    decoder: str = ""

    def settings(self, peer: Peer) -> dict[str, str]:
        """What its worker reads."""
        return {**peer.visions[self.vision], **peer.decoders[self.decoder]}

    def variables(self, peer: Peer, root: Path) -> dict[str, str]:
        """The environment of its process; {root} in a value stands for the folder of all peers."""
        chosen = peer.processes[self.process]
        return {name: text.format(root=root.absolute()) for name, text in chosen.items()}

    def __str__(self) -> str:
        vision = f"vision {self.vision}" if self.vision else ""
        return "; ".join(filter(None, (self.process, vision, self.decoder))) or "default"


@dataclass(frozen=True)
class Peer:
    name: str
    script: str
    environment: str
    """Name of its environment; empty for the current one."""
    installs: tuple[tuple[str, ...], ...] = ()
    """Arguments of each call of pip."""
    build: Callable[[Path, Path, str], None] | None = None
    """Compiles what a process needs: the interpreter, the folder of all peers, the process."""
    processes: Choices = field(default_factory=lambda: ONLY)
    visions: Choices = field(default_factory=lambda: ONLY)
    decoders: Choices = field(default_factory=lambda: ONLY)
    tried: tuple[Configuration, ...] = (Configuration(),)
    """The configurations of the first round."""


def prepare(peer: Peer, configuration: Configuration, root: Path) -> Path:
    """Install and build what is missing. Returns the interpreter."""
    python = python_of(peer, root)
    if peer.build:
        try:
            peer.build(python, root, configuration.process)
        except OSError as error:
            raise PeerError(f"{peer.name}: {error}") from error
    return python


def python_of(peer: Peer, root: Path) -> Path:
    """The interpreter of its environment, which is created on first use."""
    if not peer.environment:
        return Path(sys.executable)
    folder = root / f"venv-{peer.environment}"
    python, done = folder / "bin" / "python", folder / "installed"
    if not done.exists():
        print(f"installing {peer.environment} into {folder}", file=sys.stderr, flush=True)
        run(sys.executable, "-m", "venv", str(folder))
        for arguments in peer.installs:
            run(str(python), "-m", "pip", "install", "--quiet", *arguments)
        done.touch()
    return python


def run(*command: str) -> None:
    done = subprocess.run(command, stdout=sys.stderr, check=False)
    if done.returncode:
        raise PeerError(f"{' '.join(command)}: exit code {done.returncode}")
