"""Configurations of the released models, and their published numbers of parameters."""

from pathlib import Path
from typing import Any

import pytest
from release_configs import CONFIGS

ROOT = Path(__file__).parents[2]
FACTORS = [1 + n / 2 for n in range(64)]
LONGROPE = {
    "rope_type": "longrope",
    "factor": 1.0,
    "original_max_position_embeddings": 32786,
    "short_factor": FACTORS,
    "long_factor": FACTORS,
}
MUP = {"scale_emb": 12, "scale_depth": 1.4, "dim_model_base": 256}


def decoder(name: str, sizes: str, vocab_size: int, **options: Any) -> dict[str, Any]:
    """`sizes`: hidden, intermediate, layers, heads, kv heads."""
    names = (
        *("hidden_size", "intermediate_size", "num_hidden_layers"),
        *("num_attention_heads", "num_key_value_heads"),
    )
    shape = dict(zip(names, map(int, sizes.split()), strict=True))
    common = {"vocab_size": vocab_size, "max_position_embeddings": 4096, "rms_norm_eps": 1e-5}
    return shape | common | {"architectures": [f"{name}ForCausalLM"]} | options


def omni(config: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return config | {"architectures": ["MiniCPMO"], "model_type": "minicpmo"} | changes


LLAMA3 = decoder("Llama", "4096 14336 32 32 8", 128256, rope_theta=5e5)
del LLAMA3["architectures"]
MINICPM_1B = decoder("MiniCPM", "1536 3840 52 24 8", 73440, **MUP)
DINOV2: dict[str, Any] = {"image_size": 518, "patch_size": 14}  # base
MLLAMA = {
    "architectures": ["MllamaForConditionalGeneration"],
    "model_type": "mllama",
    "image_token_index": 128256,
    "text_config": LLAMA3
    | {"num_hidden_layers": 40, "cross_attention_layers": list(range(3, 40, 5))},
    "vision_config": {
        "hidden_size": 1280,
        "intermediate_size": 5120,
        "num_hidden_layers": 32,
        "num_global_layers": 8,
        "attention_heads": 16,
        "image_size": 560,
        "patch_size": 14,
        "max_num_tiles": 4,
        "intermediate_layers_indices": [3, 7, 15, 23, 30],
        "vision_output_dim": 7680,
    },
}
"""Of 11B."""
PUBLISHED: dict[str, dict[str, Any]] = {
    "MiniCPM-V with MiniCPM-1B": CONFIGS["seed"],
    "MiniCPM-V 1.0": CONFIGS["1.0"],
    "MiniCPM-V 2.0": CONFIGS["2.0"],
    "MiniCPM-V 2.5": CONFIGS["2.6"] | LLAMA3 | {"version": "2.5", "query_num": 96},
    "MiniCPM-V 2.6": CONFIGS["2.6"] | {"version": 2.6, "use_sliding_window": False},
    "MiniCPM-o 2.6": omni(CONFIGS["2.6"], vocab_size=151700),
    "MiniCPM-V 4.0": CONFIGS["4.0"] | {"rope_scaling": LONGROPE},
    "MiniCPM-V 4.5": CONFIGS["4.5"] | {"use_image_id": True, "batch_3d_resampler": True},
    "MiniCPM-o 4.5": omni(CONFIGS["4.5"]),
    "MiniCPM-V 4.6": CONFIGS["4.6"] | {"image_size": 1120, "eos_token_id": 248044},
    "MiniCPM-V 4.7": CONFIGS["4.6"]
    | {
        "architectures": ["MiniCPMV4_7ForConditionalGeneration"],
        "tie_word_embeddings": False,
        "newline_id": 198,
    },
    "MiniCPM-V 4.7 35B-A3B": CONFIGS["4.7-35B-A3B"],
    "MiniCPM-OCR 1.0": CONFIGS["4.6"] | {"architectures": ["MiniCPMOcrForConditionalGeneration"]},
    "Llama 3.2 Vision": MLLAMA,
    "MiniCPM-1B": MINICPM_1B,
    "MiniCPM-1B untied": MINICPM_1B | {"tie_word_embeddings": False},
    "MiniCPM4-0.5B": decoder("MiniCPM", "1024 4096 24 16 2", 73448, **MUP),
    "MiniCPM5-1B": decoder("Llama", "1536 4608 24 16 2", 130560, head_dim=128),
    "Qwen2-7B": decoder("Qwen2", "3584 18944 28 28 4", 151666),
    "Qwen3-8B": decoder("Qwen3", "4096 12288 36 32 8", 151748, head_dim=128),
    "Qwen3.5-35B-A3B": CONFIGS["4.7-35B-A3B"]["text_config"]
    | {"architectures": ["Qwen3_5MoeForCausalLM"]},
    "Qwen3.5 0.8B": CONFIGS["4.6"]["text_config"] | {"architectures": ["Qwen3_5ForCausalLM"]},
    "SigLIP": {"architectures": ["SiglipModel"], "model_type": "siglip"},  # base-patch16-224
    "CLIP": {"architectures": ["CLIPModel"], "model_type": "clip"},  # vit-base-patch32
    "ViT": {  # base-patch16-224
        "architectures": ["ViTForImageClassification"],
        "id2label": {str(number): f"label {number}" for number in range(1000)},
    },
    "ViT of DINO": {"architectures": ["ViTModel"]},  # vitb16
    "DeiT": {"architectures": ["DeiTModel"]},
    "DINOv2": DINOV2 | {"architectures": ["Dinov2Model"]},
    "DINOv2 with registers": DINOV2 | {"architectures": ["Dinov2WithRegistersModel"]},
    "MiniLM": {  # L6-v2
        "architectures": ["BertModel"],
        "hidden_size": 384,
        "intermediate_size": 1536,
        "num_hidden_layers": 6,
    },
}
PARAMETERS = {
    "MiniCPM-V with MiniCPM-1B": 1_791_718_128,
    "MiniCPM-V 2.0": 3_434_965_792,
    "MiniCPM-V 2.5": 8_537_092_336,
    "MiniCPM-V 2.6": 8_099_175_152,
    "MiniCPM-V 4.0": 4_059_533_040,
    "MiniCPM-V 4.5": 8_695_895_280,
    "MiniCPM-V 4.6": 1_300_428_016,
    "MiniCPM-V 4.7": 1_554_476_272,
    "MiniCPM-V 4.7 35B-A3B": 35_212_671_024,
    "Llama 3.2 Vision": 10_670_220_835,
    "MiniCPM-1B": 1_360_246_272,
    "MiniCPM-1B untied": 1_473_050_112,
    "MiniCPM4-0.5B": 433_873_920,
    "MiniCPM5-1B": 1_080_632_832,
    "SigLIP": 203_155_968,
    "CLIP": 151_277_312,
    "ViT": 86_567_656,
    "ViT of DINO": 85_798_656,
    "DINOv2": 86_579_712,
    "DINOv2 with registers": 86_582_784,
    "MiniLM": 22_565_376,
}
"""Of encoders without the numbers that scale scores, the row for hidden patches (DINOv2), and the
pooler (BERT)."""


def released_folder(version: str) -> Path:
    """The files of a release without its weights; skips the test if they are not there."""
    return released_file(f"{version}/config.json").parent


def released_file(name: str) -> Path:
    """A file of shared/data/tokenizers, in the checkout or beside it; skips the test if there is
    none."""
    for parent in (ROOT, ROOT.parent):
        file = parent / "shared" / "data" / "tokenizers" / name
        if file.is_file():
            return file
    pytest.skip("released files are read from shared/data/tokenizers")
