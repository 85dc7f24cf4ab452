"""The work of a model's functions: operations (two per multiply-add) and bytes.

Only matrix products, attention and recurrences are counted, without padding and masked positions,
so the measure does not depend on the implementation.
"""

from __future__ import annotations

from collections.abc import Sequence

from handglass.runtime.bundle.entries import TensorEntry, WorkEntry

from .config import ExpertConfig, LanguageConfig, ResamplerConfig, VisionConfig
from .delta_net import heads_of
from .merger_config import WINDOW, MergerConfig
from .mixture import EXPERTS
from .mllama_config import TiledVisionConfig
from .vision import LayerConfig


def vision_flops(config: VisionConfig, n: int) -> int:
    """Operations of the vision tower over n patches."""
    return _patch_flops(config, n) + encoder_flops(config, n)


def merged_vision_flops(config: VisionConfig, merger: MergerConfig, n: int) -> int:
    """Operations of the vision tower and its mergers over n patches."""
    d, layers, many = config.hidden_size, config.num_hidden_layers, 0
    flops, wide = _patch_flops(config, n), WINDOW * d
    if merger.levels == 2:
        many = merger.insert_layer_id + 1  # layers before the windows are merged
        flops += many * _layer_flops(config, n)
        flops += 2 * n * 4 * d * d + 4 * n * WINDOW * d  # q, k, v, out; scores and values
        n //= WINDOW
        flops += 2 * n * (wide + d) * WINDOW * config.intermediate_size
    flops += (layers - many) * _layer_flops(config, n)
    return flops + 2 * (n // WINDOW) * (wide * wide + wide * merger.hidden_size)


def encoder_flops(config: LayerConfig, n: int) -> int:
    """Operations of the layers of a tower over n rows."""
    return config.num_hidden_layers * _layer_flops(config, n)


def tiled_vision_flops(config: TiledVisionConfig, hidden_size: int) -> int:
    """Operations of an encoder of tiles and its projector, for a picture with all tiles."""
    d, rows = config.hidden_size, config.max_num_tiles * config.tile_rows
    n = config.max_num_tiles * config.padded_rows
    layers = config.num_hidden_layers + config.num_global_layers
    products = 2 * n * (4 * d * d + 2 * d * config.intermediate_size)
    patches = 2 * n * 3 * config.patch_size**2 * d
    return patches + layers * (products + 4 * n * n * d) + 2 * rows * config.features * hidden_size


def shown_work(config: LanguageConfig) -> WorkEntry:
    """Keys and values of each row of a picture, of all layers that attend to pictures."""
    kv = config.num_key_value_heads * config.head_dim
    return WorkEntry(flops_per_row=len(config.cross_layers) * 2 * config.hidden_size * 2 * kv)


def probe_flops(config: VisionConfig, n: int) -> int:
    """Operations of a head whose learned query attends to n patches; its query is projected at
    compile time."""
    d, f = config.hidden_size, config.intermediate_size
    return 2 * n * d * 2 * d + 4 * n * d + 2 * (d * d + 2 * d * f)


def _patch_flops(config: VisionConfig, n: int) -> int:
    return 2 * n * 3 * config.patch_size**2 * config.hidden_size


def _layer_flops(config: LayerConfig, n: int) -> int:
    """Operations of one encoder layer over n rows."""
    d, f = config.hidden_size, config.intermediate_size
    products = 2 * n * (4 * d * d + (2 + config.names.is_gated) * d * f)  # q, k, v, out; the MLP
    return products + 4 * n * n * d  # attention of n x n rows: scores, then values


def resampler_flops(config: ResamplerConfig, n: int) -> int:
    """Operations of the resampler over n patches; its queries are projected at compile time."""
    q, d = config.query_num, config.hidden_size
    keys_and_values = 2 * n * config.vision_hidden_size * d + 2 * 2 * n * d * d
    return keys_and_values + 4 * q * n * d + 2 * 2 * q * d * d


def prefill_work(config: LanguageConfig) -> WorkEntry:
    """Work per row and per (query, key) pair; logits are computed for the last row only."""
    d, linear = config.hidden_size, len(config.linear_layers)
    layers = config.num_hidden_layers - len(config.cross_layers)  # which text alone skips
    rows = layers * (2 * 3 * d * config.intermediate_size + _expert_flops(config))
    rows += (layers - linear) * _attention_flops(config) + linear * _delta_flops(config)
    q = config.num_attention_heads * config.head_dim
    return WorkEntry(
        flops=2 * d * config.vocab_size,
        flops_per_row=rows,
        flops_per_pair=(layers - linear) * 4 * q,
    )


def _expert_flops(config: LanguageConfig) -> int:
    """Operations of a layer's router, of the gate of the shared expert, and of the experts that a
    row chooses; 0 without them."""
    experts, d = config.experts, config.hidden_size
    if experts is None:
        return 0
    return 2 * d * (experts.count + 1) + 2 * 3 * d * experts.intermediate_size * experts.chosen


def _attention_flops(config: LanguageConfig) -> int:
    """Operations of a layer's q, k, v and output for one row, and of its gate."""
    q = config.num_attention_heads * config.head_dim
    kv = config.num_key_value_heads * config.head_dim
    gate = q if config.has_output_gate else 0
    return 2 * config.hidden_size * (2 * q + 2 * kv + gate)


def _delta_flops(config: LanguageConfig) -> int:
    """Operations of a layer of linear attention for one row: its matrices, the convolution, and
    three multiply-adds per element of the state (recall, replace, ask)."""
    if config.delta is None:
        return 0
    heads = heads_of(config.delta)
    matrices = config.hidden_size * (heads.width + 2 * heads.out + 2 * heads.values)
    convolution = config.delta.conv_kernel_dim * heads.width
    return 2 * (matrices + convolution + 3 * heads.out * heads.key_dim)


def decode_work(
    params: Sequence[TensorEntry],
    prefix: str,
    tables: tuple[str, ...],
    experts: ExpertConfig | None = None,
) -> WorkEntry:
    """One step reads all parameters under `prefix` except `tables`, which it reads one row of, and
    the experts that are not chosen."""
    read = [p for p in params if p.name.startswith(prefix) and not p.name.startswith(tables)]
    total = sum(p.nbytes for p in read)
    if experts is not None:
        stacked = sum(p.nbytes for p in read if EXPERTS in p.name)
        total -= stacked // experts.count * (experts.count - experts.chosen)
    return WorkEntry(bytes=total)
