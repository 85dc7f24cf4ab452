"""Sends missing files to a device; each arrives completely or not at all.

A file is transferred under a temporary name made of its hash, so that a partial file can only be
resumed with the same contents. It is renamed once the device has computed the same hash.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from shlex import quote

from handglass.errors import InputError
from handglass.runtime.bundle.file_checks import sha256_of

from .transport import Transport, run

NAME = re.compile(r"[A-Za-z0-9][\w+.-]*(?:/[A-Za-z0-9][\w+.-]*)*")
Tell = Callable[[str, int, int], object]


@dataclass(frozen=True)
class Item:
    """One file: `name` is its path below the transport's folder."""

    name: str
    source: Path
    sha256: str
    executable: bool = False

    @classmethod
    def of(cls, name: str, source: Path, executable: bool = False) -> Item:
        return cls(name, source, sha256_of(source), executable)

    @property
    def size(self) -> int:
        return self.source.stat().st_size

    @property
    def part(self) -> str:
        return f".part-{self.sha256}"


@dataclass(frozen=True)
class There:
    """State of the device: hashes of files by name, sizes of partial files that can be resumed."""

    hashes: dict[str, str]
    parts: dict[str, int]

    def missing(self, items: Sequence[Item]) -> list[Item]:
        return [item for item in items if self.hashes.get(item.name) != item.sha256]

    def bytes_to_send(self, items: Sequence[Item]) -> int:
        return sum(i.size - min(self.parts.get(i.part, 0), i.size) for i in self.missing(items))


def look(transport: Transport, items: Sequence[Item]) -> There:
    """Query the state of the device, which computes the hashes of its files.

    Raises InputError for a file name that cannot be sent.
    """
    for item in items:
        if not NAME.fullmatch(item.name):
            raise InputError(f"{item.name!r}: this file name cannot be sent to a device")
    names = " ".join(quote(item.name) for item in items)
    begun = " ".join(item.part for item in items)
    folders = " ".join(sorted({quote(str(Path(item.name).parent)) for item in items}))
    script = f"""
        mkdir -p {quote(transport.folder)} && cd {quote(transport.folder)} || exit 1
        mkdir -p {folders} || exit 1
        for f in {names}; do if [ -f "$f" ]; then sha256sum "$f" || exit 1; fi; done
        for f in {begun}; do if [ -f "$f" ]; then echo "part $f $(wc -c < "$f")"; fi; done
    """
    lines = [line.split() for line in run(transport, script, "examining files").splitlines()]
    hashes = {words[-1]: words[0] for words in lines if words[0] != "part"}
    parts = [words for words in lines if words[0] == "part" and transport.appends]
    return There(hashes, {words[1]: int(words[2]) for words in parts})


def push(
    transport: Transport, items: Sequence[Item], there: There, tell: Tell, phase: str = "files"
) -> list[str]:
    """Send the missing files in the order of `items`. Returns their names."""
    missing = there.missing(items)
    for count, item in enumerate(missing):
        tell(phase, count, len(missing))
        have = there.parts.get(item.part, 0)
        if have < item.size or not item.size:
            transport.send(item.source, f"{transport.folder}/{item.part}", have)
        run(transport, _arrive(transport, item), f"checking {item.name}")
    tell(phase, len(missing), len(missing))
    return [item.name for item in missing]


def _arrive(transport: Transport, item: Item) -> str:
    mode = "755" if item.executable else "644"
    return f"""
        cd {quote(transport.folder)} || exit 1
        set -- $(sha256sum {item.part})
        if [ "$1" != {item.sha256} ]; then
            rm -f {item.part}; echo "the file arrived with sha256 $1, not {item.sha256}" >&2; exit 1
        fi
        chmod {mode} {item.part} && mv -f {item.part} {quote(item.name)}
    """
