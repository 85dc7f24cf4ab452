"""What is settled before a server starts: names, memory, address and token."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from handglass.errors import DeviceError, InputError, UsageError

from ..answer.conversations import state_bytes
from ..answer.model import Model
from ..answer.pictures import TILES_KEPT
from ..bundle.manifest import Manifest
from ..bundle.reader import Bundle
from ..search.encoder import Encoder
from ..system.memory import available_bytes
from .access import LOCAL, Access, is_loopback, read_token
from .limits import Limits

ROWS = 512
"""Positions of a prompt that are computed at once; an answer can be cancelled in between."""
RESERVE_BYTES = 512 << 20
"""What preparing pictures and computing prompts takes besides."""


@dataclass(frozen=True)
class Options:
    """The command-line flags, by name."""

    host: str = "127.0.0.1"
    port: int = 8080
    token_file: Path | None = None
    conversations: int = 4
    threads: int | None = None
    device: str | None = None
    cors: tuple[str, ...] = ()
    limits: Limits = field(default_factory=Limits)


@dataclass(frozen=True)
class Started:
    """A server that takes requests."""

    host: str
    port: int
    models: tuple[str, ...]

    @property
    def url(self) -> str:
        return f"http://{f'[{self.host}]' if ':' in self.host else self.host}:{self.port}"

    def announcement(self, as_json: bool) -> str:
        if as_json:
            return json.dumps({**vars(self), "url": self.url, "pid": os.getpid()})
        return f"handglass serve on {self.url}"


@dataclass(frozen=True)
class Memory:
    """What one model takes, in bytes."""

    name: str
    parameters: int
    conversation: int
    pictures: int
    device: str = "cpu"
    """The kind of device whose memory holds all but the pictures."""

    def total(self, conversations: int) -> int:
        """Bytes of this machine's memory."""
        on_cpu = self.parameters + conversations * self.conversation
        return self.pictures + (on_cpu if self.device == "cpu" else 0)


def names_of(bundles: Iterable[Path]) -> dict[str, Path]:
    """The name of each model: that of its folder. Raises UsageError if two have the same."""
    names: dict[str, Path] = {}
    for path in bundles:
        name = path.resolve().name
        if name in names:
            raise UsageError(
                f"two bundles are called {name!r}: {names[name]} and {path}; rename one"
            )
        names[name] = path
    return names


def access_of(options: Options) -> Access:
    token = read_token(options.token_file) if options.token_file else None
    if not is_loopback(options.host):
        if token is None:
            raise UsageError(
                f"--host {options.host} can be reached from other machines; --token-file is needed"
            )
        return Access(token, None, options.cors)
    return Access(token, {*LOCAL, options.host.lower()}, options.cors)


def load_encoder(path: Path, options: Options) -> Encoder:
    """Raises InputError for an encoder of pictures alone."""
    encoder = Encoder.load(path, options.threads, options.device)
    if not encoder.reads_texts:
        raise InputError(
            f"{path}: encodes pictures alone, so that it has no embeddings of texts; use "
            "handglass embed, classify and index"
        )
    return encoder


def load(path: Path, options: Options) -> Model:
    return Model.load(
        path,
        options.threads,
        device=options.device,
        conversations=options.conversations,
        tiles_kept=_tiles_kept(Bundle.open(path, "library").manifest, options.limits),
        rows=ROWS,
    )


def _tile_bytes(manifest: Manifest) -> int:
    if manifest.vision is None:
        return 0
    side = manifest.vision.image_size // manifest.vision.patch_size
    return manifest.vision.rows(side * side) * manifest.hidden_size * 4


def _tiles_kept(manifest: Manifest, limits: Limits) -> int:
    each = _tile_bytes(manifest)
    return max(TILES_KEPT, limits.picture_bytes // each) if each else TILES_KEPT


def memory_of(name: str, manifest: Manifest, limits: Limits) -> Memory:
    parameters = sum(entry.nbytes for entry in manifest.params)
    if not manifest.answers:
        return Memory(name, parameters, 0, 0, manifest.target.device)
    pictures = _tiles_kept(manifest, limits) * _tile_bytes(manifest) + limits.picture_bytes
    kind = manifest.target.device
    return Memory(name, parameters, state_bytes(manifest.state), pictures, kind)


def check_memory(memories: Sequence[Memory], conversations: int) -> None:
    """Raise DeviceError if the models with all conversations do not fit into memory."""
    needed = sum(memory.total(conversations) for memory in memories) + RESERVE_BYTES
    available = available_bytes()
    if available is not None and needed > available:
        each = sum(memory.conversation for memory in memories)
        raise DeviceError(
            f"{conversations} conversations need {needed / 1e6:.0f} MB with the model, "
            f"{available / 1e6:.0f} MB are available; one takes {each / 1e6:.0f} MB: lower "
            "--conversations, or compile with a smaller --context"
        )


def memory_text(memory: Memory, conversations: int) -> str:
    if not memory.conversation:
        return f"{memory.name} ({memory.device}): parameters {memory.parameters / 1e6:.1f} MB"
    return (
        f"{memory.name} ({memory.device}): {conversations} conversations of "
        f"{memory.conversation / 1e6:.1f} MB, parameters {memory.parameters / 1e6:.1f} MB, "
        f"pictures up to {memory.pictures / 1e6:.1f} MB"
    )


def listen(host: str, port: int) -> socket.socket:
    """A listening socket. Raises UsageError or DeviceError."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family, backlog=128)
    except socket.gaierror as error:
        raise UsageError(f"--host {host}: not an address of this machine: {error}") from error
    except OSError as error:
        raise DeviceError(
            f"{host}:{port}: cannot listen: {error.strerror}; try another --port"
        ) from error
