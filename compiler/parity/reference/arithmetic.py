"""Operations that the parts of the model share, in float32.

Operations with weights read them from the checkpoint by name and check their shapes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import numpy as np

from ...checkpoints.checkpoint import EMBEDDING, LM_HEAD

Watch = Callable[[np.ndarray], object]
"""Gets the rows (n, width) that arrive at each layer, and last those at the norm after them."""


def unwatched(rows: np.ndarray) -> None:
    """Nobody looks."""


class Weights(Protocol):
    """The source of weights: a `Checkpoint` or `StoredWeights`."""

    def __contains__(self, name: str) -> bool: ...

    def expect(self, name: str, shape: tuple[int, ...]) -> None: ...

    def read(self, name: str, shape: tuple[int, ...]) -> np.ndarray: ...

    def read_rows(self, name: str, start: int, stop: int) -> np.ndarray: ...

    def lm_head(self, tied: bool, head: str = LM_HEAD, embedding: str = EMBEDDING) -> str: ...

    def rounded(self, name: str, x: np.ndarray, alone: bool = False) -> np.ndarray:
        """Activations x, rounded as compiled code rounds them for the weight `name`; `alone`: each
        row is multiplied in a call of its own."""


def linear(
    weights: Weights, name: str, x: np.ndarray, size: int, bias: bool = True, alone: bool = False
) -> np.ndarray:
    """x @ weight.T (+ bias). (s, size) `alone`: see `Weights.rounded`."""
    rows = weights.rounded(f"{name}.weight", x, alone)
    y = rows @ weights.read(f"{name}.weight", (size, x.shape[1])).T
    return y + weights.read(f"{name}.bias", (size,)) if bias else y


def layer_norm(weights: Weights, name: str, x: np.ndarray, eps: float = 1e-6) -> np.ndarray:
    """Mean 0 and variance 1 over the last axis, then scaled and shifted."""
    size = (x.shape[-1],)
    centred = x - x.mean(-1, keepdims=True)
    variance = (centred * centred).mean(-1, keepdims=True)
    y = centred / np.sqrt(variance + np.float32(eps))
    return y * weights.read(f"{name}.weight", size) + weights.read(f"{name}.bias", size)


def rms_norm(
    weights: Weights, name: str, x: np.ndarray, eps: float, is_centred: bool = False
) -> np.ndarray:
    """Mean square 1 over the last axis, then scaled. `is_centred`: the stored weight lacks 1."""
    return normed(x, eps) * rms_weight(weights, name, x.shape[-1], is_centred)


def rms_weight(weights: Weights, name: str, size: int, is_centred: bool) -> np.ndarray:
    return weights.read(f"{name}.weight", (size,)) + np.float32(is_centred)


def normed(x: np.ndarray, eps: float) -> np.ndarray:
    """Mean square 1 over the last axis."""
    return x / np.sqrt((x * x).mean(-1, keepdims=True) + np.float32(eps))


def sigmoid(x: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):  # exp(-x) may reach infinity, and the result is 0 there
        return 1 / (1 + np.exp(-x))


def silu(x: np.ndarray) -> np.ndarray:
    return x * sigmoid(x)


def split_heads(x: np.ndarray, heads: int) -> np.ndarray:
    """(s, h * d) -> (h, s, d)"""
    return x.reshape(x.shape[0], heads, -1).transpose(1, 0, 2)


def attention(q: np.ndarray, k: np.ndarray, v: np.ndarray, causal: bool = False) -> np.ndarray:
    """Softmax attention of q (h, s, d) over k, v (h_kv, n, d), one head at a time. (s, h * d)"""
    heads, s, d = q.shape
    shared = heads // k.shape[0]  # consecutive query heads that share a kv head
    hidden = np.triu(np.ones((s, k.shape[1]), bool), 1) if causal else None
    out = np.empty((s, heads, d), np.float32)
    for h in range(heads):
        scores = q[h] @ k[h // shared].T / np.float32(d**0.5)  # (s, n)
        if hidden is not None:
            scores[hidden] = -np.inf
        scores = np.exp(scores - scores.max(-1, keepdims=True))
        out[:, h] = scores @ v[h // shared] / scores.sum(-1, keepdims=True)
    return out.reshape(s, heads * d)
