"""Linear attention by the gated delta rule, one token at a time.

Of each head, a matrix maps keys to values. A token first fades it, then replaces what the matrix
holds for the token's key, by a share, with the token's value; then it is asked for the query.
"""

from __future__ import annotations

import numpy as np

from ...models.config import DeltaConfig, LanguageConfig
from .arithmetic import Weights, linear, normed, sigmoid, silu, split_heads

UNIT_EPS = 1e-6


def delta_net(weights: Weights, config: LanguageConfig, name: str, x: np.ndarray) -> np.ndarray:
    """x (s, D) -> (s, D)"""
    assert config.delta is not None
    delta = config.delta
    heads, out = delta.num_value_heads, delta.num_value_heads * delta.value_head_dim
    q, k, v = _queries_keys_values(weights, delta, name, x)
    b, a, z = (
        linear(weights, f"{name}.in_proj_{part}", x, size, bias=False)
        for part, size in (("b", heads), ("a", heads), ("z", out))
    )
    y = _recurrence(q, k, v, sigmoid(b), _decay(weights, heads, name, a))
    weight = weights.read(f"{name}.norm.weight", (delta.value_head_dim,))
    y = (normed(y, config.rms_norm_eps) * weight).reshape(len(x), out) * silu(z)
    return linear(weights, f"{name}.out_proj", y, config.hidden_size, bias=False)


def _queries_keys_values(
    weights: Weights, delta: DeltaConfig, name: str, x: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Convolved, of length 1 (queries: of the scale of attention), a key per value head; each
    (heads, s, d)."""
    keys = delta.num_key_heads * delta.key_head_dim
    width = 2 * keys + delta.num_value_heads * delta.value_head_dim
    mixed = linear(weights, f"{name}.in_proj_qkv", x, width, bias=False)
    mixed = _convolve(weights, f"{name}.conv1d.weight", mixed, delta.conv_kernel_dim)
    q, k, v = np.split(mixed, [keys, 2 * keys], axis=1)
    shared = delta.num_value_heads // delta.num_key_heads
    q, k = (np.repeat(_unit(split_heads(y, delta.num_key_heads)), shared, axis=0) for y in (q, k))
    return q / np.float32(delta.key_head_dim**0.5), k, split_heads(v, delta.num_value_heads)


def _convolve(weights: Weights, name: str, x: np.ndarray, taps: int) -> np.ndarray:
    """Each channel with its own taps, over this row and the rows before it; then silu."""
    s, width = x.shape
    kernel = weights.read(name, (width, 1, taps))
    padded = np.concatenate([np.zeros((taps - 1, width), np.float32), x])
    return silu(sum(padded[tap : tap + s] * kernel[:, 0, tap] for tap in range(taps)))


def _unit(heads: np.ndarray) -> np.ndarray:
    return heads / np.sqrt((heads * heads).sum(-1, keepdims=True) + np.float32(UNIT_EPS))


def _decay(weights: Weights, heads: int, name: str, a: np.ndarray) -> np.ndarray:
    """The share of the state that each head keeps at each token. (s, heads)"""
    rate = np.exp(weights.read(f"{name}.A_log", (heads,)))
    step = np.logaddexp(np.float32(0), a + weights.read(f"{name}.dt_bias", (heads,)))
    return np.exp(-rate * step)


def _recurrence(
    q: np.ndarray, k: np.ndarray, v: np.ndarray, share: np.ndarray, decay: np.ndarray
) -> np.ndarray:
    """q and k (h, s, e), v (h, s, f), share and decay (s, h) -> (s, h, f); float64 inside."""
    h, s, f = v.shape
    state = np.zeros((h, k.shape[2], f))
    out = np.empty((s, h, f), np.float32)
    for t in range(s):
        state *= decay[t, :, None, None]
        held = np.einsum("hef,he->hf", state, k[:, t])
        change = share[t, :, None] * (v[:, t] - held)
        state += k[:, t, :, None] * change[:, None]
        out[t] = np.einsum("hef,he->hf", state, q[:, t])
    return out
