"""SigLIP whose rows are merged by windows of 2 x 2 (MiniCPM-V 4.6 and later).

Patches are in the order of rows, and each merger gathers its windows by their place in the grid.
The compiled model has them in the order of windows (`in_windows`) and relies on that.
"""

from __future__ import annotations

import numpy as np

from ...models.config import VisionConfig
from ...models.merger_config import MergerConfig
from .arithmetic import Watch, Weights, attention, layer_norm, linear, unwatched
from .vision import embed_patches, encoder_layer, gelu, gelu_tanh, queries_keys_values, table_rows

VISION, MERGER = "model.vision_tower", "model.merger"
FINAL_EPS = 1e-6


def encode_merged(
    weights: Weights,
    config: VisionConfig,
    merger: MergerConfig,
    strip: np.ndarray,
    rows: int,
    cols: int,
    names: tuple[str, str] = (VISION, MERGER),
    watch: Watch = unwatched,
) -> np.ndarray:
    """Strip (3, p, p * n) in the order of rows -> (n / 16 or n / 4, width of the language model).

    `names` are the prefixes of the tower and of the final merger. `watch` gets rows in the order
    in which the compiled model has them.
    """
    vision, final = names
    ids = floor_ids(rows, cols, config.positions_per_side)
    x = embed_patches(weights, config, vision, strip) + table_rows(weights, config, vision, ids)
    levels = merger.levels
    for number in range(config.num_hidden_layers):
        watch(x[in_windows(rows, cols, levels)])
        x = encoder_layer(weights, config, f"{vision}.encoder.layers.{number}", x)
        if merger.levels == 2 and number == merger.insert_layer_id:
            x = merge_windows(weights, config, f"{vision}.vit_merger", gather(x, rows, cols))
            rows, cols, levels = rows // 2, cols // 2, levels - 1
    watch(x[in_windows(rows, cols, levels)])
    x = layer_norm(weights, f"{vision}.post_layernorm", x, config.layer_norm_eps)
    return merge_finally(weights, f"{final}.mlp.0", gather(x, rows, cols), merger.hidden_size)


def floor_ids(rows: int, cols: int, side: int) -> np.ndarray:
    """Rows of the position table for a grid of patches, without the ties of `position_ids`."""
    row, col = (side * np.arange(n) // n for n in (rows, cols))
    return (row[:, None] * side + col).reshape(-1)


def gather(x: np.ndarray, rows: int, cols: int) -> np.ndarray:
    """x (rows * cols, d) -> its windows, by rows (rows * cols / 4, 4, d)."""
    grid = x.reshape(rows // 2, 2, cols // 2, 2, -1)
    return grid.transpose(0, 2, 1, 3, 4).reshape(rows * cols // 4, 4, -1)


def in_windows(rows: int, cols: int, levels: int) -> np.ndarray:
    """Numbers of the patches of a grid, in the order that mergers of `levels` take them."""
    order = np.arange(rows * cols)[:, None]  # a row per patch, then per window
    for _ in range(levels):
        order = gather(order, rows, cols).reshape(rows * cols // 4, -1)
        rows, cols = rows // 2, cols // 2
    return order.reshape(-1)


def merge_windows(weights: Weights, config: VisionConfig, name: str, x: np.ndarray) -> np.ndarray:
    """Windows (m, 4, d) -> (m, d): attention within each, an MLP on all four rows, their mean."""
    m, _, d = x.shape
    y = layer_norm(weights, f"{name}.layer_norm1", x.reshape(4 * m, d), config.layer_norm_eps)
    heads = queries_keys_values(weights, config, [f"{name}.{part}" for part in config.names.qkv], y)
    by_window = zip(*(np.split(part, m, axis=1) for part in heads), strict=True)
    mixed = np.concatenate([attention(q, k, v) for q, k, v in by_window])
    z = x + linear(weights, f"{name}.self_attn.out_proj", mixed, d).reshape(m, 4, d)
    y = layer_norm(weights, f"{name}.pre_norm", z.reshape(m, 4 * d), config.layer_norm_eps)
    y = gelu_tanh(linear(weights, f"{name}.linear_1", y, 4 * config.intermediate_size))
    return linear(weights, f"{name}.linear_2", y, d) + z.mean(1)


def merge_finally(weights: Weights, name: str, x: np.ndarray, size: int) -> np.ndarray:
    """Windows (m, 4, d) -> (m, size)."""
    wide = x.reshape(len(x), -1)  # the exact GELU, unlike in the encoder
    y = layer_norm(weights, f"{name}.pre_norm", wide, FINAL_EPS)
    y = gelu(linear(weights, f"{name}.linear_1", y, wide.shape[1]))
    return linear(weights, f"{name}.linear_2", y, size)
