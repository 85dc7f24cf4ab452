"""Packs random integers as AWQ and GPTQ do, from the descriptions of the formats."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

AWQ_ORDER = (0, 2, 4, 6, 1, 3, 5, 7)
LINEAR = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


@dataclass(frozen=True)
class Method:
    name: str
    bits: int = 4
    group_size: int = 32
    ordered: bool = False
    """GPTQ with desc_act: inputs are in groups in any order."""
    version: int = 1

    @property
    def config(self) -> dict[str, Any]:
        """quantization_config, with the keys that the tools write."""
        common = {"quant_method": self.name, "bits": self.bits, "group_size": self.group_size}
        if self.name == "awq":
            return common | {
                "version": "gemm", "zero_point": True, "backend": "autoawq", "do_fuse": False,
                "modules_to_not_convert": ["vpm", "resampler"],
            }  # fmt: skip
        return common | {
            "desc_act": self.ordered, "sym": False, "true_sequential": True, "damp_percent": 0.01,
            "checkpoint_format": {1: "gptq", 2: "gptq_v2"}[self.version],
        }  # fmt: skip


def stream(values: Iterable[int], bits: int) -> list[int]:
    """Integers without gaps, from the lowest bit on, in words of 32 bits."""
    whole, count = 0, 0
    for value in values:
        whole |= int(value) << count
        count += bits
    return [whole >> at & 0xFFFFFFFF for at in range(0, count, 32)]


def awq_words(row: np.ndarray) -> list[int]:
    eights = row.reshape(-1, 8)
    return [sum(int(eight[AWQ_ORDER[i]]) << 4 * i for i in range(8)) for eight in eights]


def words(rows: list[list[int]]) -> np.ndarray:
    return np.array(rows, np.uint32).view(np.int32)


def pack(
    shape: tuple[int, int], method: Method, random: np.random.Generator
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """The stored parts of a random matrix (out, in), and its values."""
    outputs, inputs = shape
    size = inputs if method.group_size == -1 else method.group_size
    groups, top = -(-inputs // size), 1 << method.bits
    integers = random.integers(0, top, (inputs, outputs))
    zeros = random.integers(0, top, (groups, outputs))
    spread = 4 / top / inputs**0.5
    scales = (spread * random.uniform(0.5, 1, (groups, outputs))).astype(np.float16)
    group = np.arange(inputs) // size
    if method.ordered:
        random.shuffle(group)
    parts: dict[str, np.ndarray] = {"scales": scales}
    if method.name == "awq":
        parts["qweight"] = words([awq_words(row) for row in integers])
        parts["qzeros"] = words([awq_words(row) for row in zeros])
    else:
        kept = (zeros - 1) % top if method.version == 1 else zeros
        parts["qweight"] = words([stream(column, method.bits) for column in integers.T]).T.copy()
        parts["qzeros"] = words([stream(row, method.bits) for row in kept])
        parts["g_idx"] = group.astype(np.int32)
    values = (integers - zeros[group]).astype(np.float32) * scales[group].astype(np.float32)
    return parts, np.ascontiguousarray(values.T)


def packed(
    tensors: Mapping[str, np.ndarray], method: Method, seed: int = 0
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """What is stored in place of the linear layers of a decoder, and the values of these."""
    random = np.random.default_rng(seed)
    stored: dict[str, np.ndarray] = {}
    values: dict[str, np.ndarray] = {}
    for name, array in tensors.items():
        stem, _, end = name.rpartition(".")
        if end == "weight" and "layers." in stem and "vpm" not in stem and stem.endswith(LINEAR):
            parts, values[name] = pack((array.shape[0], array.shape[1]), method, random)
            stored |= {f"{stem}.{part}": part_array for part, part_array in parts.items()}
        else:
            stored[name] = array
    return stored, values
