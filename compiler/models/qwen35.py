"""The language model of Qwen3.5: three layers with linear attention, then one with full attention,
in turn; norms centred at one, half-gated attention that rotates a quarter of each head.
"""

from __future__ import annotations

from handglass.errors import InputError

from ..checkpoints.fields import Fields
from .config import MAX_LAYERS, DeltaConfig, ExpertConfig, LanguageConfig
from .rope import AXIS_KEYS, rope_scaling, rope_sections, rope_theta, rotary_factor

LINEAR, FULL = "linear_attention", "full_attention"
MAX_TAPS = 16
"""Longest convolution; released models have 4 taps."""
EXPERTS, SHARED = "num_experts", "shared_expert_intermediate_size"
"""Keys of a mixture of experts; the second takes the place of `intermediate_size`."""
MAX_EXPERTS, MAX_CHOSEN = 1024, 32
"""Released models have 256 experts and choose 8."""


def qwen35_config(fields: Fields, is_tied: bool, has_axes: bool = False) -> LanguageConfig:
    """Parse a `text_config`; `has_axes`: tokens have a position on each of three axes.

    Raises InputError for an invalid or unsupported setting.
    """
    fields.expect("hidden_act", "silu")
    fields.expect("attention_bias", False)
    fields.expect("attn_output_gate", True)
    fields.expect("mlp_only_layers", [])
    layers = fields.integer("num_hidden_layers", maximum=MAX_LAYERS)
    heads = fields.integer("num_attention_heads")
    kv_heads = fields.integer("num_key_value_heads")
    fields.multiple("num_attention_heads", heads, "num_key_value_heads", kv_heads)
    head_dim, vocab_size = fields.integer("head_dim"), fields.integer("vocab_size")
    longest, rotated = fields.integer("max_position_embeddings"), _rotary_dim(fields, head_dim)
    scaling = rope_scaling(fields, rotated, longest, AXIS_KEYS)
    experts = _experts(fields)
    return LanguageConfig(
        hidden_size=fields.integer("hidden_size"),
        intermediate_size=fields.integer(SHARED if experts else "intermediate_size"),
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        head_dim=head_dim,
        vocab_size=vocab_size,
        rms_norm_eps=fields.number("rms_norm_eps"),
        rope_theta=rope_theta(fields),
        rope_divisors=scaling.divisors,
        rope_magnitude=scaling.magnitude,
        rope_sections=rope_sections(fields, rotated) if has_axes else (),
        max_position_embeddings=longest,
        tie_word_embeddings=is_tied,
        eos_token_ids=fields.tokens("eos_token_id", vocab_size),
        qk_norm=True,
        are_norms_centred=True,
        rotary_dim=rotated,
        has_output_gate=True,
        linear_layers=_linear_layers(fields, layers),
        delta=_delta(fields),
        experts=experts,
    )


def _experts(fields: Fields) -> ExpertConfig | None:
    """None without `num_experts`."""
    if not fields.get(EXPERTS):
        return None
    count = fields.integer(EXPERTS, maximum=MAX_EXPERTS)
    return ExpertConfig(
        count=count,
        chosen=fields.integer("num_experts_per_tok", maximum=min(count, MAX_CHOSEN)),
        intermediate_size=fields.integer("moe_intermediate_size"),
    )


def _delta(fields: Fields) -> DeltaConfig:
    keys = fields.integer("linear_num_key_heads")
    values = fields.integer("linear_num_value_heads")
    fields.multiple("linear_num_value_heads", values, "linear_num_key_heads", keys)
    return DeltaConfig(
        num_key_heads=keys,
        num_value_heads=values,
        key_head_dim=fields.integer("linear_key_head_dim"),
        value_head_dim=fields.integer("linear_value_head_dim"),
        conv_kernel_dim=fields.integer("linear_conv_kernel_dim", minimum=2, maximum=MAX_TAPS),
    )


def _rotary_dim(fields: Fields, head_dim: int) -> int:
    """Rotated elements of a head: a multiple of two, and an even number must remain."""
    rotated = int(head_dim * rotary_factor(fields))
    if rotated < 2 or rotated % 2 or (head_dim - rotated) % 2:
        raise InputError(
            f"config.json text_config: head_dim {head_dim} with partial_rotary_factor "
            f"{rotary_factor(fields):g} rotates {rotated} elements; must be even and above 0"
        )
    return rotated


def _linear_layers(fields: Fields, layers: int) -> frozenset[int]:
    """The layers with linear attention: of `layer_types`, else all but every n-th."""
    if fields.get("layer_types") is None:
        interval = fields.integer("full_attention_interval", default=4)
        return frozenset(n for n in range(layers) if (n + 1) % interval)
    types = fields.texts("layer_types")
    if len(types) != layers or not {*types} <= {LINEAR, FULL}:
        raise InputError(
            f"config.json text_config: layer_types has {len(types)} entries of "
            f"{sorted({*types})!r:.200}; must be {layers} of '{LINEAR}' and '{FULL}'"
        )
    return frozenset(n for n, kind in enumerate(types) if kind == LINEAR)
