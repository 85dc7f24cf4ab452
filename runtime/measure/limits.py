"""The peak rates of this machine, measured with the probes of the bundle.

Memory: all threads sum an array much larger than the last-level cache. Arithmetic: all threads run
chains of multiply-adds in registers, in float32 or in the integers that matmuls of 4-bit or 8-bit
weights use. If the bundle multiplies many rows in tile registers (AMX), their rates are measured
too: they are many times those of vector registers.
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
from ..engine.calls import CompiledFunctions

if TYPE_CHECKING:
    from ..devices.device_info import DeviceInfo

READ_BYTES = 256 << 20  # or eight times the last-level cache, if that is more
TASK_SHAPE = (1024, 64)  # 256 kB per parallel task; the probe fixes the second size
ROUNDS = 1 << 20
COMPILE_AGAIN = "it was compiled by an older handglass; compile it again"
GPU_READ_BYTES, GPU_SHARE, GPU_TASK_SHAPE = 1 << 30, 16, (64, 64)
"""Bytes to read, more than the caches of large GPUs; the divisor of the device memory that bounds
it on small ones; and the part of one workgroup, small enough that all workgroups have work."""
_CACHES = Path("/sys/devices/system/cpu/cpu0/cache")


class Limits:
    """Measures rates per second: bytes for READ, operations for the other probes."""

    def __init__(self, session: CompiledFunctions) -> None:
        self._session = session
        self._pieces: list[Any] = []  # arrays on the device, kept between samples
        self._bytes = 0
        self._rounds: dict[str, int] = {}
        tiles = {kind: name for kind, name in TILE_PROBES.items() if self._has(name)}
        self.probes = PROBES | tiles
        self.rates: dict[str, list[float]] = {kind: [] for kind in self.probes}

    @property
    def device(self) -> DeviceInfo | None:
        """The device that the probes run on; None for the CPU."""
        return self._session.device

    def missing(self) -> str:
        """Why the limits cannot be measured, or the empty string."""
        for name in PROBES.values():
            if not self._has(name):
                return f"the bundle has no {name}: {COMPILE_AGAIN}"
        return ""

    def unmeasured(self, kind: str) -> str:
        """Why the bundle has no probe of this kind, or the empty string. The probe of another unit
        is no substitute."""
        if kind in self.probes:
            return ""
        return f"the bundle has no {TILE_PROBES[kind]}: {COMPILE_AGAIN}"

    def _has(self, name: str) -> bool:
        try:
            self._session.function(name)
        except MismatchError:
            return False
        return True

    def sample(self, kind: str) -> float:
        """Take one measurement of a few milliseconds; returns the rate per second."""
        rate = self.measure(kind)
        self.rates[kind].append(rate)
        return rate

    def measure(self, kind: str) -> float:
        """The same, without keeping it in `rates`."""
        return self._read() if kind == READ else self._multiply(kind)

    def _read(self) -> float:
        if not self._pieces:
            device = self._session.device
            piece, count = _gpu_piece(device) if device else _large_array()
            self._pieces = [self._session.put(piece) for _ in range(count)]
            self._bytes = count * piece.nbytes
            self._read_pieces()  # first touch
        return self._bytes / self._read_pieces()

    def _read_pieces(self) -> float:
        """Seconds to read all pieces."""
        return sum(self._session.seconds(PROBES[READ], piece) for piece in self._pieces)

    def _multiply(self, kind: str) -> float:
        tasks, rounds = self._session.threads, ROUNDS
        if self._session.on_gpu:
            tasks, rounds = GPU_TASKS, self._gpu_rounds(kind)
        seconds, values = self._timed(kind, tasks, rounds)
        return 2 * values * rounds / seconds

    def _gpu_rounds(self, kind: str) -> int:
        """Enough rounds that launch and readback are a small part of the kernel time."""
        if kind not in self._rounds:
            self._timed(kind, GPU_TASKS, 0)  # the first call compiles the pipeline
            least, _ = self._timed(kind, GPU_TASKS, 0)
            rounds, seconds = FEW_ROUNDS, 0.0
            while rounds < ROUNDS and seconds < min(20 * least, LONG_ENOUGH_S):
                rounds *= 2
                seconds, _ = self._timed(kind, GPU_TASKS, rounds)
            self._rounds[kind] = rounds
        return self._rounds[kind]

    def _timed(self, kind: str, tasks: int, rounds: int) -> tuple[float, int]:
        """Seconds, and the number of result values."""
        start = time.perf_counter()
        values = self._session.run(self.probes[kind], (tasks, rounds))
        return time.perf_counter() - start, values.size


def _large_array() -> tuple[np.ndarray, int]:
    """The whole array as one piece: see _gpu_piece."""
    return _ones(max(READ_BYTES, 8 * last_level_cache()), TASK_SHAPE), 1


def _gpu_piece(device: DeviceInfo) -> tuple[np.ndarray, int]:
    """An array and the number of copies to read: the size of a storage buffer is limited."""
    nbytes = min(GPU_READ_BYTES, device.memory // GPU_SHARE)
    buffer_range = int(device.abilities.get("max_storage_buffer_range", READ_BYTES))
    piece = min(nbytes, READ_BYTES, buffer_range)
    return _ones(piece, GPU_TASK_SHAPE), max(1, nbytes // piece)


def _ones(nbytes: int, task: tuple[int, int]) -> np.ndarray:
    """Ones, (tasks, *task) float32, with as many tasks as fit in `nbytes`."""
    data = aligned_empty((nbytes // (4 * task[0] * task[1]), *task), np.float32)
    data.fill(1.0)
    return data


def last_level_cache(folder: Path = _CACHES) -> int:
    """Bytes of the last-level cache; 0 if Linux does not report it."""
    sizes = [0]
    for file in folder.glob("index*/size"):
        match = re.fullmatch(r"(\d+)([KMG]?)", file.read_text().strip())
        if match:
            sizes.append(int(match[1]) << {"": 0, "K": 10, "M": 20, "G": 30}[match[2]])
    return max(sizes)
