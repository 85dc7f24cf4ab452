"""Small model shapes shared by tests, as `config.json` dictionaries, and their checkpoints.

The sizes are not multiples of any tile: a vision head of 72, an MLP that is not a multiple of the
quantization group, a grid with a partial tile, query heads that do not add up to the hidden size.
"""

from typing import Any

from random_checkpoint import write_checkpoint

# Grouped-query attention, tied head, 5 x 5 patches with positions from an 11 x 11 table.
GROUPED: dict[str, Any] = {
    "architectures": ["MiniCPMV"],
    "hidden_size": 384,
    "intermediate_size": 500,
    "num_hidden_layers": 3,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "vocab_size": 613,
    "rms_norm_eps": 1e-5,
    "max_position_embeddings": 512,
    "scale_emb": 12,
    "scale_depth": 1.4,
    "dim_model_base": 128,
    "query_num": 9,
    "image_size": 70,
    "patch_size": 14,
    "vision_config": {
        "hidden_size": 144,
        "intermediate_size": 100,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "image_size": 154,
        "patch_size": 14,
    },
}

# Untied head, as many key heads as query heads, one resampler head, 4 x 4 patches.
UNTIED: dict[str, Any] = {
    **GROUPED,
    "hidden_size": 128,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "vocab_size": 401,
    "rope_theta": 500.0,
    "tie_word_embeddings": False,
    "query_num": 5,
    "image_size": 56,
    "vision_config": {
        "hidden_size": 48,
        "intermediate_size": 100,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "image_size": 980,
        "patch_size": 14,
    },
}

# Query heads wider in total than the hidden size, a single key head, patches of 7.
WIDE_HEADS: dict[str, Any] = {
    **GROUPED,
    "hidden_size": 256,
    "intermediate_size": 333,
    "num_hidden_layers": 2,
    "num_attention_heads": 5,
    "num_key_value_heads": 1,
    "head_dim": 62,
    "vocab_size": 500,
    "query_num": 7,
    "image_size": 35,
    "patch_size": 7,
    "vision_config": {
        "hidden_size": 90,
        "intermediate_size": 77,
        "num_hidden_layers": 2,
        "num_attention_heads": 3,
        "image_size": 49,
        "patch_size": 7,
    },
}

ODD_MODELS = {"grouped": GROUPED, "untied": UNTIED, "wide_heads": WIDE_HEADS}

__all__ = ["GROUPED", "ODD_MODELS", "UNTIED", "WIDE_HEADS", "write_checkpoint"]
