"""A mixture of experts, one token at a time: the router's softmax over all experts, the shares of
the largest ones, and each of these as an MLP of its own.
"""

from __future__ import annotations

import numpy as np

from ...models.config import ExpertConfig
from .arithmetic import Weights, sigmoid, silu


def mixture(
    weights: Weights, experts: ExpertConfig, name: str, x: np.ndarray, shared: np.ndarray
) -> np.ndarray:
    """x (s, D), and what the shared expert makes of it (s, D) -> (s, D)"""
    width = x.shape[1]
    gate = x @ weights.read(f"{name}.shared_expert_gate.weight", (1, width)).T
    logits = x @ weights.read(f"{name}.gate.weight", (experts.count, width)).T
    odds = np.exp(logits - logits.max(1, keepdims=True))
    odds /= odds.sum(1, keepdims=True)
    chosen = np.argsort(-odds, axis=1, kind="stable")[:, : experts.chosen]
    shares = np.take_along_axis(odds, chosen, 1)
    shares /= shares.sum(1, keepdims=True)
    y = sigmoid(gate) * shared
    for expert in np.unique(chosen):
        tokens, places = np.nonzero(chosen == expert)
        y[tokens] += shares[tokens, places, None] * _expert(
            weights, experts, f"{name}.experts", expert, x[tokens]
        )
    return y


def _expert(
    weights: Weights, experts: ExpertConfig, name: str, number: int, x: np.ndarray
) -> np.ndarray:
    """One expert, whose rows no scheme rounds."""
    f, width = experts.intermediate_size, x.shape[1]
    if f"{name}.gate_up_proj" in weights:
        both, down = (
            weights.read_rows(f"{name}.{part}", number, number + 1)[0]
            for part in ("gate_up_proj", "down_proj")
        )
        gate, up = both[:f], both[f:]
    else:
        gate, up = (
            weights.read(f"{name}.{number}.{part}_proj.weight", (f, width))
            for part in ("gate", "up")
        )
        down = weights.read(f"{name}.{number}.down_proj.weight", (width, f))
    return (silu(x @ gate.T) * (x @ up.T)) @ down.T
