"""Counts the instructions that QEMU executes in a library, for a machine whose time means nothing.

QEMU's plug-in (qemu_counts.c) and this process share a file with three integers of 64 bits: the
first address and the number of bytes of the code that is counted, and the count. Threads that wait
would count too, so a process that counts uses one thread.
"""

from __future__ import annotations

import mmap
import re
import struct
from collections.abc import Callable
from pathlib import Path

from handglass.errors import DeviceError, InputError

PLUGIN = Path(__file__).with_name("qemu_counts.c")
"""Source of the plug-in, which is compiled for the machine that runs QEMU."""
_RANGE, _COUNT = struct.Struct("<QQQ"), struct.Struct("<Q")
_MAPS = Path("/proc/self/maps")
Span = tuple[int, int]
"""First address and number of bytes."""


class InstructionCounter:
    """Reads the counter in `file`. Raises InputError if it is not one of the plug-in's."""

    def __init__(self, file: Path) -> None:
        self.file = file
        try:
            with file.open("r+b") as opened:
                self._shared = mmap.mmap(opened.fileno(), _RANGE.size)
        except (OSError, ValueError) as error:
            raise InputError(
                f"--counter {file}: not the counter of QEMU's plug-in ({error}); start Python by "
                f"qemu-aarch64 -plugin qemu_counts.so,counter={file} (docs/devices.md)"
            ) from error

    def count(self, span: Span, work: Callable[[], object]) -> int:
        """Instructions executed in `span` while `work` runs. Raises DeviceError if none is."""
        _RANGE.pack_into(self._shared, 0, *span, 0)
        work()
        (count,) = _COUNT.unpack_from(self._shared, _RANGE.size - _COUNT.size)
        if not count:
            raise DeviceError(
                f"{self.file}: no instruction was counted; QEMU runs without its plug-in, or the "
                "plug-in has another file"
            )
        return int(count)


def code_spans(maps: Path = _MAPS) -> frozenset[Span]:
    """The executable mappings of files, and of memory files, in this process."""
    line = re.compile(r"([0-9a-f]+)-([0-9a-f]+) ..x. \S+ \S+ \d+ +/", re.MULTILINE)
    text = maps.read_text() if maps.exists() else ""
    ends = ((int(m[1], 16), int(m[2], 16)) for m in line.finditer(text))
    return frozenset((start, end - start) for start, end in ends)
