"""The resampler: learned queries attend to the patches of one image, or of several video frames.

Keys include the position of their patch, values do not; there is no residual. In a video they
include the time of their frame as well.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ...models.config import ResamplerConfig
from .arithmetic import Weights, attention, layer_norm, linear, split_heads
from .resizing import resized


def resample(
    weights: Weights, config: ResamplerConfig, features: np.ndarray, rows: int, cols: int
) -> np.ndarray:
    """Features (n, vision hidden), of which those after rows * cols are padding's -> one embedding
    per query (query_num, hidden)."""
    features = features[: rows * cols]
    return _attend(weights, config, features, key_positions(weights, config, rows, cols))


def resample_frames(
    weights: Weights,
    config: ResamplerConfig,
    features: np.ndarray,
    grids: Sequence[tuple[int, int]],
    times: Sequence[int],
) -> np.ndarray:
    """The same of all frames together: the features of one after the other, (rows, columns) and
    time of each."""
    places = [
        key_positions(weights, config, *grid) + time_positions(time, config.hidden_size)
        for grid, time in zip(grids, times, strict=True)
    ]
    return _attend(weights, config, features, np.concatenate(places))


def _attend(
    weights: Weights, config: ResamplerConfig, features: np.ndarray, places: np.ndarray
) -> np.ndarray:
    """`places`: the position of each key (n, hidden)."""
    size, heads = config.hidden_size, config.num_attention_heads
    kv = linear(weights, "resampler.kv_proj", features, size, bias=False)
    kv = layer_norm(weights, "resampler.ln_kv", kv)
    query = weights.read("resampler.query", (config.query_num, size))
    query = layer_norm(weights, "resampler.ln_q", query)
    if config.has_query_positions:
        query = query + weights.read("resampler.pos_embed", query.shape)
    name = "resampler.attn.in_proj_weight"
    weight = weights.read(name, (3 * size, size))
    bias = weights.read("resampler.attn.in_proj_bias", (3 * size,))
    # Packing projects the queries in full precision, so they are not rounded here.
    keyed = kv + places
    inputs = (query, weights.rounded(name, keyed), weights.rounded(name, kv))
    q, k, v = (
        split_heads(
            x @ weight[i * size : (i + 1) * size].T + bias[i * size : (i + 1) * size], heads
        )
        for i, x in enumerate(inputs)
    )
    y = linear(weights, "resampler.attn.out_proj", attention(q, k, v), size)
    y = layer_norm(weights, "resampler.ln_post", y)
    # A plain parameter and the right factor: not transposed, unlike the weights of linear layers.
    name = "resampler.proj"
    return weights.rounded(name, y) @ weights.read(name, (size, size))


def key_positions(weights: Weights, config: ResamplerConfig, rows: int, cols: int) -> np.ndarray:
    """(rows * cols, hidden)"""
    if not config.key_grid:
        return grid_positions(rows, cols, config.hidden_size)
    table = weights.read("resampler.pos_embed", (config.query_num, config.hidden_size))
    return resized(table, rows, cols, a=-0.75, antialias=False)


def grid_positions(rows: int, cols: int, size: int) -> np.ndarray:
    """Sine and cosine of each patch's column, then of its row. (rows * cols, size)"""
    quarter = size // 4
    frequency = np.float32(10000) ** -(np.arange(quarter, dtype=np.float32) / quarter)
    row, column = np.divmod(np.arange(rows * cols), cols)
    angles = [at.astype(np.float32)[:, None] * frequency for at in (column, row)]
    return np.concatenate([f(a) for a in angles for f in (np.sin, np.cos)], axis=1)


def time_positions(time: int, size: int) -> np.ndarray:
    """Sine and cosine of a time, (size,) float32."""
    half = size // 2
    angles = time * 10000.0 ** -(np.arange(half) / half)
    return np.concatenate([np.sin(angles), np.cos(angles)]).astype(np.float32)
