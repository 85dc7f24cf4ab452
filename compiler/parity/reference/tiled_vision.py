"""The encoder of tiles of Llama 3.2 Vision, with its tiles in the order of the picture.

Each tile has a class token, its patches, and rows of zeros up to a multiple of eight. There are
always as many tiles as a picture may have; the compiled model has the rows of those that belong to
the picture first.
"""

from __future__ import annotations

import numpy as np
from PIL import Image

from handglass.runtime.prompt.preprocess import Picture, read_picture

from ...models.mllama_config import TiledVisionConfig
from .arithmetic import Weights, layer_norm, linear, split_heads
from .cross_attention import gate
from .pixels import Pixels, patches_of
from .vision import gelu

VISION, PROJECTOR = "vision_model", "multi_modal_projector"
EPS, UNIT = 1e-5, 8
MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)


def canvas(picture: Picture, config: TiledVisionConfig) -> Pixels:
    """The patches of the canvas by rows, and one of zeros."""
    image, side = read_picture(picture), config.image_size
    rows, columns = shape_of(image.size, config.max_num_tiles, side)
    size = fitted(image.size, (columns * side, rows * side), side)
    pixels = np.zeros((rows * side, columns * side, 3), np.float32)
    pixels[: size[1], : size[0]] = np.asarray(image.resize(size, Image.Resampling.BILINEAR))
    pixels = (pixels / np.float32(255) - np.array(MEAN, np.float32)) / np.array(STD, np.float32)
    found = patches_of(pixels, config.patch_size)
    nothing = np.zeros((3, config.patch_size, config.patch_size), np.float32)
    return Pixels(np.concatenate([found.strip, nothing], axis=2), found.rows, found.cols)


def shapes(most: int) -> list[tuple[int, int]]:
    """Rows and columns of tiles, by the numbers under which their positions are stored, from 1."""
    return [(a, b) for a in range(1, most + 1) for b in range(1, most // a + 1)]


def shape_of(size: tuple[int, int], most: int, side: int) -> tuple[int, int]:
    """The canvas that enlarges a picture (width, height) least, else the one that shrinks it least;
    of several, the smallest."""
    scales = [(min(b * side / size[0], a * side / size[1]), a * b) for a, b in shapes(most)]
    enlarged = [scale for scale in scales if scale[0] >= 1]
    best = min(enlarged)[0] if enlarged else max(scales)[0]
    area = min(area for scale, area in scales if scale == best)
    return shapes(most)[scales.index((best, area))]


def fitted(size: tuple[int, int], canvas: tuple[int, int], side: int) -> tuple[int, int]:
    """The size (width, height) of a picture on a canvas of this width and height."""
    limits = [min(max(length, side), most) for length, most in zip(size, canvas, strict=True)]
    scales = [limit / length for limit, length in zip(limits, size, strict=True)]
    axis = 0 if scales[0] < scales[1] else 1  # the one that decides
    other = 1 - axis
    limits[other] = min(max(int(size[other] * scales[axis]), 1), limits[other])
    return limits[0], limits[1]


def in_bundle(config: TiledVisionConfig, rows: int, cols: int) -> np.ndarray:
    """The patch of each row of the compiled model; rows * cols: the patch of zeros."""
    side = config.side
    number = np.arange(rows * cols).reshape(rows // side, side, cols // side, side)
    tiles = number.transpose(0, 2, 1, 3).reshape(-1, side * side)
    own = np.pad(tiles, ((0, 0), (1, 0)), constant_values=rows * cols).reshape(-1)
    every = config.max_num_tiles * config.padded_rows
    return np.pad(own, (0, every - len(own)), constant_values=rows * cols)


def encode_tiles(
    weights: Weights,
    config: TiledVisionConfig,
    hidden_size: int,
    strip: np.ndarray,
    rows: int,
    cols: int,
) -> np.ndarray:
    """The strip of `canvas` -> rows of the picture's tiles, as the text sees them."""
    tiles = rows * cols // config.side**2
    number = shapes(config.max_num_tiles).index((rows // config.side, cols // config.side)) + 1
    hidden = _hidden(config, tiles)
    x, kept = _embedded(weights, config, _by_tiles(config, strip, rows, cols), number), []
    for layer in range(config.num_hidden_layers):
        if layer in config.intermediate_layers:
            kept.append(x)
        x = _layer(weights, config, f"{VISION}.transformer.layers.{layer}", x, hidden, False)
    x = layer_norm(weights, f"{VISION}.layernorm_post", x, EPS)
    x = x + np.repeat(_tile_positions(weights, config, "post", number), config.padded_rows, axis=0)
    for layer in range(config.num_global_layers):
        x = _layer(weights, config, f"{VISION}.global_transformer.layers.{layer}", x, hidden, True)
    wide = np.concatenate([x[~hidden], np.stack(kept, -1)[~hidden].reshape((~hidden).sum(), -1)], 1)
    return linear(weights, PROJECTOR, wide, hidden_size)


def _hidden(config: TiledVisionConfig, tiles: int) -> np.ndarray:
    """Which rows of all tiles are not those of the picture."""
    hidden = np.ones((config.max_num_tiles, config.padded_rows), bool)
    hidden[:tiles, : config.tile_rows] = False
    return hidden.reshape(-1)


def _by_tiles(config: TiledVisionConfig, strip: np.ndarray, rows: int, cols: int) -> np.ndarray:
    """(tiles, side * side, 3 * p * p), with zeros for tiles that the picture lacks."""
    p, side = config.patch_size, config.side
    patches = strip.reshape(3, p, -1, p).transpose(2, 0, 1, 3).reshape(-1, 3 * p * p)
    grid = patches[: rows * cols].reshape(rows // side, side, cols // side, side, -1)
    tiles = grid.transpose(0, 2, 1, 3, 4).reshape(-1, side * side, 3 * p * p)
    return np.pad(tiles, ((0, config.max_num_tiles - len(tiles)), (0, 0), (0, 0)))


def _embedded(
    weights: Weights, config: TiledVisionConfig, patches: np.ndarray, number: int
) -> np.ndarray:
    """The input of the first layer, (tiles * padded rows, d)."""
    d, p, every, rows = (
        config.hidden_size,
        config.patch_size,
        config.max_num_tiles,
        config.tile_rows,
    )
    name = f"{VISION}.patch_embedding.weight"
    kernel = weights.read(name, (d, 3, p, p)).reshape(d, -1)
    flat = weights.rounded(name, patches.reshape(-1, patches.shape[2]))
    x = (flat @ kernel.T).reshape(every, -1, d)
    x = x + _tile_positions(weights, config, "pre", number)[:, None]
    token = np.tile(weights.read(f"{VISION}.class_embedding", (d,)), (every, 1, 1))
    x, place = np.concatenate([token, x], axis=1), f"{VISION}.gated_positional_embedding"
    factor = gate(weights, f"{place}.gate")
    weights.expect(f"{place}.tile_embedding.weight", (config.ratios + 1, every * rows * d))
    own = weights.read_rows(f"{place}.tile_embedding.weight", number, number + 1)
    x = x + (1 - factor) * weights.read(f"{place}.embedding", (rows, d))
    x = layer_norm(weights, f"{VISION}.layernorm_pre", x + factor * own.reshape(x.shape), EPS)
    return np.pad(x, ((0, 0), (0, -rows % UNIT), (0, 0))).reshape(-1, d)


def _tile_positions(
    weights: Weights, config: TiledVisionConfig, which: str, number: int
) -> np.ndarray:
    """What is added to all rows of a tile. (tiles, d)"""
    name = f"{VISION}.{which}_tile_positional_embedding"
    table = weights.read(
        f"{name}.embedding.weight", (config.ratios + 1, config.max_num_tiles * config.hidden_size)
    )
    return gate(weights, f"{name}.gate") * table[number].reshape(config.max_num_tiles, -1)


def _layer(
    weights: Weights,
    config: TiledVisionConfig,
    name: str,
    x: np.ndarray,
    hidden: np.ndarray,
    is_gated: bool,
) -> np.ndarray:
    d, heads = config.hidden_size, config.num_attention_heads
    y = layer_norm(weights, f"{name}.input_layernorm", x, config.norm_eps)
    q, k, v = (
        split_heads(linear(weights, f"{name}.self_attn.{part}_proj", y, d, bias=False), heads)
        for part in "qkv"
    )
    y = linear(weights, f"{name}.self_attn.o_proj", _attention(q, k, v, hidden), d, bias=False)
    x = x + (gate(weights, f"{name}.gate_attn") * y if is_gated else y)
    y = layer_norm(weights, f"{name}.post_attention_layernorm", x, config.norm_eps)
    y = gelu(linear(weights, f"{name}.mlp.fc1", y, config.intermediate_size))
    y = linear(weights, f"{name}.mlp.fc2", y, d)
    return x + (gate(weights, f"{name}.gate_ffn") * y if is_gated else y)


def _attention(q: np.ndarray, k: np.ndarray, v: np.ndarray, hidden: np.ndarray) -> np.ndarray:
    """Attention of q (h, n, e) to k and v; hidden rows do not see each other. (n, h * e)"""
    out = np.empty((q.shape[1], q.shape[0], q.shape[2]), np.float32)
    for head, (queries, keys, values) in enumerate(zip(q, k, v, strict=True)):
        scores = queries @ keys.T / np.float32(q.shape[2] ** 0.5)
        scores[np.ix_(hidden, hidden)] = -np.inf
        scores = np.exp(scores - scores.max(-1, keepdims=True))
        out[:, head] = scores @ values / scores.sum(-1, keepdims=True)
    return out.reshape(len(out), -1)
