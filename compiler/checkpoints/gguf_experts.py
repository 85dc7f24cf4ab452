"""GGUF files of Qwen3.5 with a mixture of experts: the language model of MiniCPM-V 4.7 35B-A3B.

A layer has one tensor for each matrix of all experts, (experts, rows, columns). The original has
gate and up projections in one, the rows of an expert's gate above those of its up projection; files
may have either.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from handglass.errors import InputError

from .gguf_header import Header
from .gguf_qwen35 import HYBRID, NAMED, HybridTensors, size_of

QWEN35MOE = "qwen35moe"
EXPERTS = {
    "expert_count": "num_experts",
    "expert_used_count": "num_experts_per_tok",
    "expert_feed_forward_length": "moe_intermediate_size",
    "expert_shared_feed_forward_length": "shared_expert_intermediate_size",
}
"""Key without the architecture -> key of config.json."""
KNOWN_EXPERTS = (*EXPERTS, "expert_weights_norm")
"""The shares of the chosen experts always have the sum one."""
DENSE = "intermediate_size"
GATE, UP, GATE_UP = ".experts.gate", ".experts.up", ".experts.gate_up_proj"
SHARED_GATE = ".shared_expert_gate.weight"


def mixture_config(path: Path, keys: Mapping[str, Any], config: dict[str, Any]) -> dict[str, Any]:
    """The configuration of a hybrid model with the sizes of its experts.

    Raises InputError for one that is missing.
    """
    dense = {key: value for key, value in config.items() if key != DENSE}
    return dense | {
        theirs: size_of(path, QWEN35MOE, keys, ours) for ours, theirs in EXPERTS.items()
    }


class MixtureTensors(HybridTensors):
    """The tensors of one file as the original stores them."""

    stems = HYBRID | {
        "ffn_gate_inp": "mlp.gate",
        "ffn_gate_inp_shexp": "mlp.shared_expert_gate",
        "ffn_gate_shexp": "mlp.shared_expert.gate_proj",
        "ffn_up_shexp": "mlp.shared_expert.up_proj",
        "ffn_down_shexp": "mlp.shared_expert.down_proj",
    }
    named = NAMED | {
        "ffn_gate_exps.weight": f"mlp{GATE}",
        "ffn_up_exps.weight": f"mlp{UP}",
        "ffn_gate_up_exps.weight": f"mlp{GATE_UP}",
        "ffn_down_exps.weight": "mlp.experts.down_proj",
    }

    def __init__(self, header: Header, config: Mapping[str, Any]) -> None:
        super().__init__(header, config)
        self._halves: dict[str, tuple[str, str]] = {}
        """Name in the original -> its halves in the file."""
        for gate in [name for name in self._places if name.endswith(GATE)]:
            stem = gate.removesuffix(GATE)
            self._halves[f"{stem}{GATE_UP}"] = (gate, f"{stem}{UP}")
        for gate, up in self._halves.values():
            self._check_halves(header.path, gate, up)

    def _check_halves(self, path: Path, gate: str, up: str) -> None:
        if up not in self._places:
            raise InputError(f"{path}: {gate} has no {up.rpartition('.')[2]} beside it")
        one, two = (self._places[name].shape for name in (gate, up))
        if one != two or len(one) != 3:
            raise InputError(f"{path}: the shapes of {gate} and up are {one} and {two}")

    @property
    def names(self) -> tuple[str, ...]:
        joined = {half for halves in self._halves.values() for half in halves}
        return (*(name for name in super().names if name not in joined), *self._halves)

    def shape(self, name: str) -> tuple[int, ...]:
        if name in self._halves:
            count, rows, columns = super().shape(self._halves[name][0])
            return count, 2 * rows, columns
        shape = super().shape(name)
        return (1, *shape) if name.endswith(SHARED_GATE) and len(shape) == 1 else shape

    def floats(self, name: str, rows: slice) -> np.ndarray:
        if name in self._halves:
            gate, up = self._halves[name]
            return np.concatenate([super().floats(gate, rows), super().floats(up, rows)], axis=1)
        if name.endswith(SHARED_GATE):
            return super().floats(name, slice(None)).reshape(1, -1)[rows]
        return super().floats(name, rows)

    def release(self, name: str) -> None:
        for part in self._halves.get(name, (name,)):
            super().release(part)
