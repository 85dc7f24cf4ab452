"""Configurations of the released models, and their published numbers of parameters.

Written from the public tables of the releases; only the keys that matter are present.
"""

from pathlib import Path
from typing import Any

import pytest

from handglass.compiler.models.seed import SEED_JSON

ROOT = Path(__file__).parents[2]
TOWER: dict[str, Any] = {
    "hidden_size": 1152,
    "intermediate_size": 4304,
    "num_hidden_layers": 27,
    "num_attention_heads": 16,
    "image_size": 980,
    "patch_size": 14,
}
EYES: dict[str, Any] = {
    "vision_config": TOWER | {"model_type": "siglip_vision_model"},
    "query_num": 64,
    "image_size": 448,
    "patch_size": 14,
    "drop_vision_last_layer": False,
    "slice_mode": True,
    "slice_config": {"max_slice_nums": 9, "patch_size": 14, "scale_resolution": 448},
    "use_image_id": True,
    "batch_vision_input": True,
    "hidden_act": "silu",
    "rms_norm_eps": 1e-6,
    "tie_word_embeddings": False,
}
LONGROPE = [1 + n / 2 for n in range(64)]


def decoder(sizes: str, vocab_size: int, longest: int, **options: Any) -> dict[str, Any]:
    """`sizes`: hidden, intermediate, layers, heads, kv heads."""
    names = (
        *("hidden_size", "intermediate_size", "num_hidden_layers"),
        *("num_attention_heads", "num_key_value_heads"),
    )
    shape = dict(zip(names, map(int, sizes.split()), strict=True))
    return shape | {"vocab_size": vocab_size, "max_position_embeddings": longest} | options


def released(architecture: str, version: str | float, text: dict[str, Any]) -> dict[str, Any]:
    return EYES | text | {"architectures": [architecture], "version": version}


QWEN2 = "3584 18944 28 28 4"
QWEN3 = "4096 12288 36 32 8"
ROPE_40 = {
    "rope_type": "longrope",
    "factor": 1.0,
    "original_max_position_embeddings": 32786,
    "short_factor": LONGROPE,
    "long_factor": LONGROPE,
}
V26 = decoder(QWEN2, 151666, 32768, rope_theta=1e6, use_sliding_window=False)
V40 = decoder("2560 10240 32 32 2", 73448, 32768, head_dim=128, rope_scaling=ROPE_40)
V45 = decoder(QWEN3, 151748, 40960, head_dim=128, rope_theta=1e6)
V46: dict[str, Any] = {
    "architectures": ["MiniCPMV4_6ForConditionalGeneration"],
    "model_type": "minicpmv4_6",
    "drop_vision_last_layer": False,
    "image_size": 1120,
    "insert_layer_id": 6,
    "tie_word_embeddings": True,
    "eos_token_id": 248044,
    "vision_config": TOWER | {"model_type": "minicpmv4_6_vision"},
    "text_config": decoder(
        "1024 3584 24 8 2",
        248094,
        262144,
        head_dim=256,
        full_attention_interval=4,
        linear_conv_kernel_dim=4,
        linear_key_head_dim=128,
        linear_num_key_heads=16,
        linear_num_value_heads=16,
        linear_value_head_dim=128,
        rms_norm_eps=1e-6,
        rope_parameters={
            "rope_type": "default",
            "rope_theta": 10000000,
            "partial_rotary_factor": 0.25,
        },
    ),
}
PUBLISHED: dict[str, dict[str, Any]] = {
    "MiniCPM-V with MiniCPM-1B": SEED_JSON,
    "MiniCPM-V 2.6": released("MiniCPMV", 2.6, V26),
    "MiniCPM-o 2.6": released("MiniCPMO", "2.6", V26 | {"vocab_size": 151700}),
    "MiniCPM-V 4.0": released("MiniCPMV", "4.0", V40),
    "MiniCPM-V 4.5": released("MiniCPMV", "4.5", V45),
    "MiniCPM-o 4.5": released("MiniCPMO", "4.5", V45),
    "MiniCPM-V 4.6": V46,
}
PARAMETERS = {
    "MiniCPM-V with MiniCPM-1B": 1_791_718_128,
    "MiniCPM-V 2.6": 8_099_175_152,
    "MiniCPM-V 4.0": 4_059_533_040,
    "MiniCPM-V 4.5": 8_695_895_280,
    "MiniCPM-V 4.6": 1_300_428_016,
}


def released_folder(version: str) -> Path:
    """The files of a release without its weights, in shared/ in or beside the checkout; skips the
    test if they are not there."""
    for parent in (ROOT, ROOT.parent):
        folder = parent / "shared" / "data" / "tokenizers" / version
        if (folder / "config.json").is_file():
            return folder
    pytest.skip(f"the files of {version} are not at hand")
