"""How many warps of a kernel a multiprocessor holds, and what it gets from memory, from NVIDIA's
tables.

"Technical Specifications per Compute Capability" of the CUDA C++ Programming Guide, and the
allocation units of its occupancy calculator: registers per warp in units of 256, shared memory in
units of 128 bytes with 1 KiB for the system since 8.0.
"""

from __future__ import annotations

from dataclasses import dataclass

WARP, REGISTERS, REGISTER_UNIT, SHARED_UNIT = 32, 64 << 10, 256, 128


@dataclass(frozen=True)
class Multiprocessor:
    """What the blocks that it holds share."""

    threads: int
    blocks: int
    shared: int
    """Bytes, without what level-1 cache keeps at least."""
    reserved: int = 1 << 10
    """Bytes of shared memory per block for the system."""


MULTIPROCESSORS = {
    75: Multiprocessor(1024, 16, 64 << 10, 0),
    80: Multiprocessor(2048, 32, 164 << 10),
    86: Multiprocessor(1536, 16, 100 << 10),
    87: Multiprocessor(1536, 16, 164 << 10),
    89: Multiprocessor(1536, 24, 100 << 10),
    90: Multiprocessor(2048, 32, 228 << 10),
    110: Multiprocessor(1536, 24, 228 << 10),
    120: Multiprocessor(1536, 24, 100 << 10),
}

SLOTS = 4
"""Instructions of a warp that a multiprocessor issues per clock."""
BYTES_PER_CLOCK = {
    "GeForce RTX 2080 Ti": 616 / 68 / 1.545,
    "A100 40 GB": 1555 / 108 / 1.41,
    "GeForce RTX 3090": 936 / 82 / 1.695,
    "Jetson AGX Orin 64 GB": 204.8 / 16 / 1.3,
    "GeForce RTX 4090": 1008 / 128 / 2.52,
    "H100 SXM": 3350 / 132 / 1.83,
    "Jetson T5000 (Thor)": 273 / 20 / 1.57,
    "GeForce RTX 5090": 1792 / 170 / 2.407,
}
"""Memory bandwidth per multiprocessor: GB/s over multiprocessors and GHz (docs/cuda.md#sources)."""


def rounded(value: int, unit: int) -> int:
    return -(-value // unit) * unit


def occupancy(capability: int, threads: int, registers: int, shared: int) -> float:
    """Resident warps over the most that the multiprocessor holds, for blocks of one shape."""
    of = MULTIPROCESSORS[capability]
    warps = -(-threads // WARP)
    of_a_block = warps * rounded(registers * WARP, REGISTER_UNIT)
    blocks = min(
        of.blocks,
        of.threads // threads,
        REGISTERS // of_a_block,
        of.shared // rounded(shared + of.reserved, SHARED_UNIT) if shared else of.blocks,
    )
    return blocks * warps / (of.threads // WARP)
