"""How much work a row of the benchmark is: operations and bytes, counted from the manifest alone.

A multiply-add is two operations. Only matrix products and attention count: all else together is
under a percent. What a better kernel could leave out is not counted (padding, masked positions,
logits of rows that nobody asked for), so that the figures bind every implementation alike.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from handglass.errors import InputError

from ..bundle.manifest import Manifest


@dataclass(frozen=True)
class Shape:
    """The sizes that the counts below need; the names are those of config.json."""

    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    q_width: int
    kv_width: int
    vocab_size: int
    vision_hidden_size: int
    vision_intermediate_size: int
    vision_layers: int
    patch_values: int
    patches: int
    query_num: int

    @classmethod
    def of(cls, manifest: Manifest) -> Shape:
        """From the checkpoint's own config.json, as the manifest carries it."""
        config, vision = manifest.model.config, manifest.vision
        tower = config.get("vision_config")
        if not isinstance(tower, Mapping):
            raise _unknown("vision_config", config)
        hidden, heads = _size(config, "hidden_size"), _size(config, "num_attention_heads")
        head_dim = _size(config, "head_dim", hidden // heads)
        return cls(
            hidden_size=hidden,
            intermediate_size=_size(config, "intermediate_size"),
            num_hidden_layers=_size(config, "num_hidden_layers"),
            q_width=heads * head_dim,
            kv_width=_size(config, "num_key_value_heads", heads) * head_dim,
            vocab_size=manifest.vocab_size,
            vision_hidden_size=_size(tower, "hidden_size"),
            vision_intermediate_size=_size(tower, "intermediate_size"),
            vision_layers=_size(tower, "num_hidden_layers"),
            patch_values=3 * vision.patch_size**2,
            patches=(vision.image_size // vision.patch_size) ** 2,
            query_num=vision.query_num,
        )


def encode_flops(shape: Shape) -> int:
    """One picture: the vision tower and the resampler."""
    n, d, f = shape.patches, shape.vision_hidden_size, shape.vision_intermediate_size
    layer = 2 * n * (4 * d * d + 2 * d * f)  # q, k, v, out; fc1, fc2
    layer += 4 * n * n * d  # every patch with every patch: scores, then values
    tower = 2 * n * shape.patch_values * d + shape.vision_layers * layer
    q, D = shape.query_num, shape.hidden_size
    resampler = 2 * n * d * D  # kv_proj
    resampler += 2 * 2 * n * D * D  # k, v; the queries are projected when compiling
    resampler += 4 * q * n * D  # attention
    resampler += 2 * 2 * q * D * D  # out_proj, proj
    return tower + resampler


def prefill_flops(shape: Shape, s: int, pos: int = 0) -> int:
    """`s` rows behind `pos` others; logits of the last one."""
    D, kv, q = shape.hidden_size, shape.kv_width, shape.q_width
    row = 2 * (D * (q + 2 * kv) + q * D + 3 * D * shape.intermediate_size)
    seen = s * pos + s * (s + 1) // 2  # row i sees itself and all before it
    layers = shape.num_hidden_layers * (s * row + 4 * q * seen)
    return layers + 2 * D * shape.vocab_size


def decode_bytes(manifest: Manifest, pos: int) -> int:
    """What one step at `pos` must read: the parameters of the decoder, and keys and values."""
    cache = sum(tensor.nbytes for tensor in manifest.cache.tensors)
    return decode_params_bytes(manifest) + cache * (pos + 1) // manifest.cache.context


def decode_params_bytes(manifest: Manifest) -> int:
    """All parameters of the language model but tables of which a step reads one row."""
    params = [p for p in manifest.params if p.name.startswith("llm.")]
    if not params:
        raise InputError("the manifest has no parameters named llm.*: bytes per step not known")
    tables = ["llm.rotations."]
    if any(p.name.startswith("llm.lm_head.") for p in params):
        tables.append("llm.embed_tokens.")  # a tied embedding is the head, and is read whole
    return sum(p.nbytes for p in params if not p.name.startswith(tuple(tables)))


def _size(config: Mapping[str, Any], key: str, default: int | None = None) -> int:
    value = config.get(key)
    value = default if value is None else value
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise _unknown(key, config)
    return value


def _unknown(key: str, config: Mapping[str, Any]) -> InputError:
    return InputError(
        f"manifest: model.config has {key} {config.get(key)!r:.80}; the work of this model cannot "
        "be counted"
    )
