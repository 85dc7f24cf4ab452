"""The language models of the checkpoints: one decoder with the options of each.

| model | options |
|---|---|
| MiniCPM | muP scales, head tied by default |
| Llama | none; rotary positions may be scaled |
| Qwen2 | biases of q, k and v |
| Qwen3 | RMSNorm of each query and key head |

Qwen3.5 has a file of its own (qwen35.py).

Sizes, the epsilon of norms and the longest context have no default: a file without them is refused.
`rope_theta` and whether the head is tied have the defaults of the released classes; a stored head
that differs from the embedding counts all the same (`Checkpoint.lm_head`). Special tokens are found
by their strings in the tokenizer, never by number.
"""

from __future__ import annotations

from typing import Any

from handglass.errors import InputError

from ..checkpoints.fields import Fields
from .config import MAX_LAYERS, LanguageConfig
from .rope import rope_scaling, rope_theta, rotary_factor

REFUSED_KEYS = {
    "mlp_bias": "biases in the language model's MLP",
    "use_sliding_window": "sliding-window attention",
}
"""Keys that change the arithmetic when they are set -> the feature that they enable."""
BIASES = ("attention_bias", "qkv_bias")


def minicpm(fields: Fields) -> LanguageConfig:
    # The class default: MiniCPM-1B omits the key and stores no head.
    return _decoder(
        fields,
        is_tied=True,
        scale_emb=fields.number("scale_emb"),
        scale_depth=fields.number("scale_depth"),
        dim_model_base=fields.number("dim_model_base"),
    )


def llama(fields: Fields) -> LanguageConfig:
    """Also "llama format" exports of MiniCPM, whose weights contain the muP scales."""
    return _decoder(fields, is_tied=False)


def qwen2(fields: Fields) -> LanguageConfig:
    return _decoder(fields, is_tied=False, qkv_bias=True)


def qwen3(fields: Fields) -> LanguageConfig:
    return _decoder(fields, is_tied=False, qk_norm=True)


def _decoder(fields: Fields, is_tied: bool, **options: Any) -> LanguageConfig:
    """`is_tied`: whether the head is the embedding if the file does not say."""
    fields.expect("hidden_act", "silu")
    _refuse_unsupported(fields)
    hidden_size, vocab_size = fields.integer("hidden_size"), fields.integer("vocab_size")
    heads = fields.integer("num_attention_heads")
    head_dim = _head_dim(fields, hidden_size, heads)
    longest = fields.integer("max_position_embeddings")
    scaling = rope_scaling(fields, head_dim, longest)
    language = LanguageConfig(
        hidden_size=hidden_size,
        intermediate_size=fields.integer("intermediate_size"),
        num_hidden_layers=fields.integer("num_hidden_layers", maximum=MAX_LAYERS),
        num_attention_heads=heads,
        num_key_value_heads=fields.integer("num_key_value_heads", default=heads),
        head_dim=head_dim,
        vocab_size=vocab_size,
        rms_norm_eps=fields.number("rms_norm_eps"),
        rope_theta=rope_theta(fields),
        rope_divisors=scaling.divisors,
        rope_magnitude=scaling.magnitude,
        max_position_embeddings=longest,
        tie_word_embeddings=fields.flag("tie_word_embeddings", is_tied),
        bos_token_id=fields.token("bos_token_id", vocab_size, default=1),
        eos_token_ids=fields.tokens("eos_token_id", vocab_size),
        **options,
    )
    fields.multiple(
        "num_attention_heads", heads, "num_key_value_heads", language.num_key_value_heads
    )
    return language


def _refuse_unsupported(fields: Fields) -> None:
    biases = dict.fromkeys(BIASES, "biases on the q, k and v projections")
    for key, meaning in (REFUSED_KEYS | biases).items():
        value = fields.get(key)
        if value is not None and value is not False:
            raise InputError(f"config.json: {key} is {value!r}: {meaning}: not supported yet")
    if (types := fields.get("layer_types")) is not None and not _is_full(types):
        raise InputError(
            f"config.json: layer_types is {types!r:.200}: layers without full attention: "
            "not supported yet"
        )
    if (factor := rotary_factor(fields)) != 1:
        raise InputError(f"config.json: partial_rotary_factor is {factor:g}: not supported yet")


def _is_full(types: Any) -> bool:
    return isinstance(types, list) and all(kind == "full_attention" for kind in types)


def _head_dim(fields: Fields, hidden_size: int, heads: int) -> int:
    """`head_dim`, by default hidden_size / heads; even, as rotary positions pair its halves."""
    if fields.get("head_dim") is None:
        fields.multiple("hidden_size", hidden_size, "num_attention_heads", heads)
    head_dim = fields.integer("head_dim", default=hidden_size // heads)
    if head_dim % 2:
        raise InputError(f"config.json: head_dim is {head_dim}, but must be even")
    return head_dim
