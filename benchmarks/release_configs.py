"""The configurations of releases at full size, as their config.json has them.

The fields that decide shapes and arithmetic; what the released files have in addition is left out.
"""

from __future__ import annotations

from typing import Any

from handglass.compiler.models.seed import SEED_JSON
from handglass.compiler.models.timm_tower import TOWERS

SIGLIP: dict[str, Any] = SEED_JSON["vision_config"]
"""All releases have the vision tower of the seed."""
RESAMPLED: dict[str, Any] = {
    "architectures": ["MiniCPMV"],
    "model_type": "minicpmv",
    "query_num": 64,
    "image_size": 448,
    "patch_size": 14,
    "slice_config": {"max_slice_nums": 9, "patch_size": 14, "scale_resolution": 448},
    "slice_mode": True,
    "tie_word_embeddings": False,
    "rms_norm_eps": 1e-6,
    "vision_config": SIGLIP,
}
V1_0: dict[str, Any] = {
    "architectures": ["MiniCPMV"],
    "model_type": "minicpmv",
    "vision_encoder": "vit_so400m_patch14_siglip_384.webli",
    "drop_vision_last_layer": True,
    "query_num": 64,
    "image_size": 448,
    "hidden_size": 2304,
    "intermediate_size": 5760,
    "num_hidden_layers": 40,
    "num_attention_heads": 36,
    "num_key_value_heads": 36,
    "max_position_embeddings": 4096,
    "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0,
    "scale_emb": 12,
    "scale_depth": 1.4,
    "dim_model_base": 256,
    "tie_word_embeddings": False,
    "vocab_size": 122753,
}
V2_0 = V1_0 | {"patch_size": 14, "max_slice_nums": 9, "scale_resolution": 448, "slice_mode": True}
STATED_1_0 = {"picture_fit": "squash", "resampler_adaptive": False, "newline_after_picture": True}
"""Of the choices that no file of 1.0 makes: one has to be added to its config.json."""
V4_6: dict[str, Any] = {
    "architectures": ["MiniCPMV4_6ForConditionalGeneration"],
    "model_type": "minicpmv4_6",
    "insert_layer_id": 6,
    "tie_word_embeddings": True,
    "vision_config": SIGLIP,
    "text_config": {
        "hidden_size": 1024,
        "intermediate_size": 3584,
        "num_hidden_layers": 24,
        "num_attention_heads": 8,
        "num_key_value_heads": 2,
        "head_dim": 256,
        "full_attention_interval": 4,
        "linear_conv_kernel_dim": 4,
        "linear_num_key_heads": 16,
        "linear_num_value_heads": 16,
        "linear_key_head_dim": 128,
        "linear_value_head_dim": 128,
        "max_position_embeddings": 262144,
        "partial_rotary_factor": 0.25,
        "rms_norm_eps": 1e-6,
        "rope_parameters": {"rope_type": "default", "rope_theta": 1e7},
        "vocab_size": 248094,
    },
}
TEXT_4_6: dict[str, Any] = V4_6["text_config"]
V4_7 = V4_6 | {
    "architectures": ["MiniCPMV4_7ForConditionalGeneration"],
    "model_type": "minicpmv4_7",
    "tie_word_embeddings": False,
}
MIXTURE = {
    "hidden_size": 2048,
    "num_hidden_layers": 40,
    "num_attention_heads": 16,
    "linear_num_value_heads": 32,
    "num_experts": 256,
    "num_experts_per_tok": 8,
    "moe_intermediate_size": 512,
    "shared_expert_intermediate_size": 512,
}
"""The sizes of Qwen3.5-35B-A3B, where its text model differs from the one with 0.8B."""
CONFIGS: dict[str, dict[str, Any]] = {
    "seed": SEED_JSON,
    "1.0": V1_0 | STATED_1_0,
    "2.0": V2_0,
    "4.6": V4_6,
    "4.7-35B-A3B": V4_7
    | {"text_config": {k: v for k, v in TEXT_4_6.items() if k != "intermediate_size"} | MIXTURE},
    "4.0": RESAMPLED
    | {
        "version": "4.0",
        "hidden_size": 2560,
        "intermediate_size": 10240,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 2,
        "head_dim": 128,
        "max_position_embeddings": 32768,
        "vocab_size": 73448,
    },
    "4.5": RESAMPLED
    | {
        "version": "4.5",
        "hidden_size": 4096,
        "intermediate_size": 12288,
        "num_hidden_layers": 36,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "head_dim": 128,
        "rope_theta": 1e6,
        "max_position_embeddings": 40960,
        "vocab_size": 151748,
    },
    "2.6": RESAMPLED
    | {
        "version": "2.6",
        "hidden_size": 3584,
        "intermediate_size": 18944,
        "num_hidden_layers": 28,
        "num_attention_heads": 28,
        "num_key_value_heads": 4,
        "rope_theta": 1e6,
        "max_position_embeddings": 32768,
        "vocab_size": 151666,
    },
}


def with_layers(config: dict[str, Any], layers: int | None) -> dict[str, Any]:
    """The same with fewer layers in every tower, for a quick test."""
    if layers is None:
        return dict(config)
    tower = config.get("vision_config") or TOWERS[config["vision_encoder"]]
    dropped = config.get("drop_vision_last_layer", False)
    shortened = {**config, "vision_config": {**tower, "num_hidden_layers": layers + dropped}}
    if "text_config" in config:
        text = {**config["text_config"], "num_hidden_layers": layers}
        insert = {"insert_layer_id": min(config["insert_layer_id"], layers - 1)}
        return {**shortened, "text_config": text, **insert}
    return {**shortened, "num_hidden_layers": layers}
