"""The vision side of MiniCPM-V 1.0 and 2.0 in plain torch: SigLIP with timm's names, and a
resampler whose queries have positions. torch itself resizes the tables."""

import torch
import torch.nn.functional as F
from torch_minicpmv import (
    Weights,
    attention,
    join_heads,
    layer_norm,
    linear,
    part,
    resample_at,
    sincos,
    split_heads,
)


def encode_vision(
    w: Weights, strip: torch.Tensor, rows: int, cols: int, layers: int, heads: int
) -> torch.Tensor:
    """A strip of patches (3, p, p * n) -> (n, hidden)."""
    kernel = w["patch_embed.proj.weight"]
    x = F.conv2d(strip[None], kernel, w["patch_embed.proj.bias"], stride=kernel.shape[-1])
    x = x[0, :, 0].T + positions(w["pos_embed"], rows, cols)
    for number in range(layers):
        block = part(w, f"blocks.{number}.")
        qkv = linear(block, "attn.qkv", layer_norm(block, "norm1", x)).chunk(3, dim=-1)
        mixed = attention(*(split_heads(each, heads) for each in qkv))
        x = x + linear(block, "attn.proj", join_heads(mixed))
        y = F.gelu(linear(block, "mlp.fc1", layer_norm(block, "norm2", x)))
        x = x + linear(block, "mlp.fc2", y)
    return layer_norm(w, "norm", x)


def positions(table: torch.Tensor, rows: int, cols: int) -> torch.Tensor:
    """The table (1, side * side, d) for a grid: (rows * cols, d)."""
    side = round(table.shape[1] ** 0.5)
    square = table.reshape(1, side, side, -1).permute(0, 3, 1, 2)
    if (rows, cols) != (side, side):
        square = F.interpolate(square, size=(rows, cols), mode="bicubic", antialias=True)
    return square[0].flatten(1).T


def resample_with_positions(
    w: Weights, features: torch.Tensor, rows: int, cols: int, heads: int, enlarged: bool
) -> torch.Tensor:
    """One row per query. `enlarged`: keys have the queries' table, enlarged to the grid (1.0)."""
    table = w["pos_embed"]
    at = sincos(rows, cols, table.shape[1])
    if enlarged:
        side = round(len(table) ** 0.5)
        square = table.T.reshape(1, -1, side, side)
        large = F.interpolate(square, size=(rows, cols), mode="bicubic", align_corners=False)
        at = large[0].flatten(1).T
    return resample_at(w, features, at, heads, query_positions=table)
