"""What this machine can do at most, measured by the probes that every bundle carries.

Memory: all threads sum an array that is much larger than the last-level cache. Arithmetic: all
threads run chains of multiply-adds that never leave their registers, in float32 or of the integers
that a matmul of 4-bit or 8-bit weights multiplies. Where many rows are multiplied in tile registers
(AMX) the tiles are measured too: they do many times what the vector registers can.
"""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from handglass.errors import MismatchError

from ..bundle.probes import FEW_ROUNDS, GPU_TASKS, LONG_ENOUGH_S, PROBES, READ, TILE_PROBES
from ..bundle.tensors import aligned_empty
from ..engine.session import Session

if TYPE_CHECKING:
    from ..devices.device_info import DeviceInfo

READ_BYTES = 256 << 20  # or eight times the last-level cache, where that is more
TASK_SHAPE = (1024, 64)  # 256 kB per piece of parallel work; the second size is the probe's
ROUNDS = 1 << 20
GPU_READ_BYTES, GPU_SHARE, GPU_TASK_SHAPE = 1 << 30, 16, (64, 64)
"""Above the caches of large GPUs, but no more than so much of the memory of small ones; and a
workgroup's part, small enough that all of them have work."""
_CACHES = Path("/sys/devices/system/cpu/cpu0/cache")


class Limits:
    """Rates per second: bytes for READ, operations for the others."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._pieces: list[Any] = []  # where they are read: not to be moved there every time
        self._bytes = 0
        self._rounds: dict[str, int] = {}
        tiles = {kind: name for kind, name in TILE_PROBES.items() if self._has(name)}
        self.probes = PROBES | tiles
        self.rates: dict[str, list[float]] = {kind: [] for kind in self.probes}

    def missing(self) -> str:
        """Why there are no limits, or the empty string."""
        for name in PROBES.values():
            if not self._has(name):
                return f"the bundle has no {name}: it was compiled before there were probes"
        return ""

    def unmeasured(self, kind: str) -> str:
        """Why there is no limit of this kind, or the empty string: that of another unit would not
        do."""
        if kind in self.probes:
            return ""
        return f"the bundle has no {TILE_PROBES[kind]}: it was compiled before there were such"

    def _has(self, name: str) -> bool:
        try:
            self._session.function(name)
        except MismatchError:
            return False
        return True

    def sample(self, kind: str) -> float:
        """One measurement, a few milliseconds."""
        rate = self._read() if kind == READ else self._multiply(kind)
        self.rates[kind].append(rate)
        return rate

    def _read(self) -> float:
        if not self._pieces:
            device = self._session.device
            piece, count = _gpu_piece(device) if device else _large_array()
            self._pieces = [self._session.put(piece) for _ in range(count)]
            self._bytes = count * piece.nbytes
            self._read_pieces()  # touches them for the first time
        return self._bytes / self._read_pieces()

    def _read_pieces(self) -> float:
        """Seconds."""
        return sum(self._session.seconds(PROBES[READ], piece) for piece in self._pieces)

    def _multiply(self, kind: str) -> float:
        tasks, rounds = self._session.threads, ROUNDS
        if self._session.on_gpu:
            tasks, rounds = GPU_TASKS, self._gpu_rounds(kind)
        seconds, values = self._timed(kind, tasks, rounds)
        return 2 * values * rounds / seconds

    def _gpu_rounds(self, kind: str) -> int:
        """So many that starting the kernel and fetching its result are a small part of its time."""
        if kind not in self._rounds:
            self._timed(kind, GPU_TASKS, 0)  # its driver compiles it now
            least, _ = self._timed(kind, GPU_TASKS, 0)
            rounds, seconds = FEW_ROUNDS, 0.0
            while rounds < ROUNDS and seconds < min(20 * least, LONG_ENOUGH_S):
                rounds *= 2
                seconds, _ = self._timed(kind, GPU_TASKS, rounds)
            self._rounds[kind] = rounds
        return self._rounds[kind]

    def _timed(self, kind: str, tasks: int, rounds: int) -> tuple[float, int]:
        """Seconds, and how many values came back."""
        start = time.perf_counter()
        values = self._session.run(self.probes[kind], (tasks, rounds))
        return time.perf_counter() - start, values.size


def _large_array() -> tuple[np.ndarray, int]:
    """One array for all of it: see _gpu_piece."""
    return _ones(max(READ_BYTES, 8 * last_level_cache()), TASK_SHAPE), 1


def _gpu_piece(device: DeviceInfo) -> tuple[np.ndarray, int]:
    """An array, and how many of it are read: a kernel may not see more than a limit at once."""
    nbytes = min(GPU_READ_BYTES, device.memory // GPU_SHARE)
    seen = int(device.abilities.get("max_storage_buffer_range", READ_BYTES))
    piece = min(nbytes, READ_BYTES, seen)
    return _ones(piece, GPU_TASK_SHAPE), max(1, nbytes // piece)


def _ones(nbytes: int, task: tuple[int, int]) -> np.ndarray:
    """As many tasks as fit."""
    data = aligned_empty((nbytes // (4 * task[0] * task[1]), *task), np.float32)
    data.fill(1.0)
    return data


def last_level_cache(folder: Path = _CACHES) -> int:
    """Bytes; 0 where Linux does not say."""
    sizes = [0]
    for file in folder.glob("index*/size"):
        found = re.fullmatch(r"(\d+)([KMG]?)", file.read_text().strip())
        if found:
            sizes.append(int(found[1]) << {"": 0, "K": 10, "M": 20, "G": 30}[found[2]])
    return max(sizes)
