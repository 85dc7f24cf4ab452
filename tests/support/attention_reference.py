"""Attention over a key-value cache in numpy, and the cache in its compiled layout."""

import numpy as np

CONTEXT = 416
LENGTHS = (1, 7, 15, 16, 17, 49, 333)
CAUSAL = [(6, 2, 64), (2, 2, 72), (5, 1, 8), (16, 2, 80)]  # heads, kv heads, head_dim


def normal(*shape: int, seed: int = 7) -> np.ndarray:
    return np.random.default_rng((seed, *shape)).standard_normal(shape, np.float32)


def check(actual: np.ndarray, truth: np.ndarray, tolerance: float = 2e-6) -> None:
    assert actual.shape == truth.shape
    assert np.abs(actual - truth).max() < tolerance * float(np.abs(truth).max())


def attend(q: np.ndarray, k: np.ndarray, v: np.ndarray, pos: int | None = None) -> np.ndarray:
    """q (s, h, d), k and v (n, h_kv, d) -> (s, h * d); query i attends to 0 .. pos + i, or all."""
    k, v = (np.repeat(x, q.shape[1] // x.shape[1], axis=1) for x in (k, v))
    scores = np.einsum("ihd,jhd->hij", q, k, dtype=np.float64) / np.sqrt(q.shape[2])
    if pos is not None:
        scores[:, np.arange(len(k)) > pos + np.arange(len(q))[:, None]] = -np.inf
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    weights /= weights.sum(-1, keepdims=True)
    return np.einsum("hij,jhd->ihd", weights, v).reshape(len(q), -1)


def rotated(x: np.ndarray, table: np.ndarray) -> np.ndarray:
    """Rotate x (s, h, d) by the rows of the table (s, d), as complex numbers."""
    half = x.shape[2] // 2
    turn = table[:, None, :half] + 1j * table[:, None, half:]
    turned = (x[..., :half] + 1j * x[..., half:]) * turn
    return np.concatenate([turned.real, turned.imag], axis=-1)


def quantised(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Quantize x (n, h_kv, d) to int8 codes and scales (n, h_kv), one per position and head."""
    scale = np.abs(x).max(-1) / 127
    return np.rint(x / scale[..., None]).astype(np.int8), scale.astype(np.float32)


def cache_of(
    k: np.ndarray, v: np.ndarray, rest: float, dtype: str, start: int = 0
) -> list[np.ndarray]:
    """The cache tensors with k and v (n, h_kv, d) from position `start`, and `rest` elsewhere."""
    if dtype != "int8":
        return [panels(k.astype(dtype), rest, start), padded(v.astype(dtype), rest, start)]
    (k, k_scale), (v, v_scale) = quantised(k), quantised(v)
    scales = [padded(x, rest, start).reshape(x.shape[1], -1, 16) for x in (k_scale, v_scale)]
    return [panels(k, 0, start), padded(v, 0, start), *scales]


def padded(x: np.ndarray, rest: float, start: int) -> np.ndarray:
    """(n, h_kv, ...) -> (h_kv, context, ...)."""
    full = np.full((CONTEXT, *x.shape[1:]), rest, x.dtype)
    full[start : start + len(x)] = x
    return np.ascontiguousarray(full.swapaxes(0, 1))


def panels(x: np.ndarray, rest: float, start: int) -> np.ndarray:
    """(n, h_kv, d) -> (h_kv, context / 16, d, 16)."""
    tall = padded(x, rest, start)
    split = tall.reshape(len(tall), -1, 16, x.shape[2])
    return np.ascontiguousarray(split.transpose(0, 1, 3, 2))


def as_kept(x: np.ndarray, dtype: str) -> np.ndarray:
    """x (n, h_kv, d) after a round trip through a cache of this type."""
    if dtype != "int8":
        return x.astype(dtype).astype(np.float64)
    codes, scale = quantised(x)
    return codes * scale[..., None].astype(np.float64)
