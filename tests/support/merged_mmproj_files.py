"""The two GGUF files of a checkpoint of MiniCPM-V 4.6 or 4.7, as llama.cpp's converter writes them:
its names of tensors and keys."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from gguf_files import write_gguf
from gguf_names import stacked
from mmproj_files import vision_name, write_clip
from safetensors.numpy import load_file
from vocabularies import byte_level_json

PREFIX, TOWER = "model.language_model.", "model.vision_tower."
MERGER, LAST = f"{TOWER}vit_merger.", "model.merger.mlp.0."
PARTS = {"self_attn.": "attn_", "_proj.": ".", "layer_norm1": "ln1", "pre_norm": "ds_ln"}
PARTS |= {"linear_1": "ds_ffn_up", "linear_2": "ds_ffn_down"}
PROJECTOR = {"pre_norm": "input_norm", "linear_1": "up", "linear_2": "down"}


def converted(folder: Path, kind: str = "F32", **changes: Any) -> tuple[Path, Path]:
    """The files of the language model and of the tower beside `folder`. `changes`: see
    `write_mmproj`."""
    config = json.loads((folder / "config.json").read_text())
    tensors = load_file(folder / "model.safetensors")
    text = write_text(folder, config, tensors)
    tower = merged_tensors(tensors, config["downsample_mode"])
    return text, write_merged(folder.parent / "mmproj.gguf", config, tower, kind, **changes)


def write_text(folder: Path, config: Mapping[str, Any], tensors: Mapping[str, np.ndarray]) -> Path:
    kept = {name.replace(PREFIX, "model."): array for name, array in tensors.items()}
    kept = {k: v for k, v in kept.items() if not k.startswith((TOWER, LAST))}
    if config["tie_word_embeddings"]:
        kept.pop("lm_head.weight", None)
    text = config["text_config"]
    flat = text | {"rope_theta": text["rope_parameters"]["rope_theta"]}
    data = (folder / "tokenizer.json").read_bytes()
    kind = "qwen35moe" if "num_experts" in text else "qwen35"
    return write_gguf(folder.with_suffix(".gguf"), kind, flat, stacked(kept), data, "qwen35")


def merged_tensors(tensors: Mapping[str, np.ndarray], mode: str) -> dict[str, np.ndarray]:
    """Those of the tower; a file for 4x has no first merger."""
    found = {merged_name(name): array for name, array in tensors.items()}
    merger = "v.vit_merger." if mode == "4x" else "-"
    return {k: v for k, v in found.items() if k.startswith(("v.", "mm.")) and merger not in k}


def merged_name(name: str) -> str:
    """Empty for a tensor of the language model."""
    if name.startswith(MERGER):
        for long, short in PARTS.items():
            name = name.replace(long, short)
        return name.replace(MERGER, "v.vit_merger.")
    if name.startswith(LAST):
        stem, _, end = name.removeprefix(LAST).partition(".")
        return f"mm.{PROJECTOR[stem]}.{end}"
    if name.startswith(TOWER):
        return vision_name(name.replace(TOWER, "vision_model."), "new")
    return ""


def write_merged(
    path: Path,
    config: Mapping[str, Any],
    tensors: Mapping[str, np.ndarray],
    kind: str = "F32",
    **changes: Any,
) -> Path:
    """`changes`: other values of keys below clip; None leaves one out."""
    version = "7" if "V4_7" in config["architectures"][0] else "6"
    keys: dict[str, Any] = {
        "projector_type": f"minicpmv4_{version}",
        "vision.projector.scale_factor": 2 if config["downsample_mode"] == "4x" else 4,
        "vision.wa_layer_indexes": [config["insert_layer_id"]],
        "vision.max_slice_nums": 9,
    }
    return write_clip(path, config["vision_config"], tensors, kind, keys | changes)


def small_merged(path: Path) -> Path:
    """A tower of one layer beside a language model with 32 columns."""
    vision = {
        "patch_size": 2, "hidden_size": 8, "intermediate_size": 12, "num_hidden_layers": 1,
        "num_attention_heads": 2,
    }  # fmt: skip
    config = {"architectures": ["MiniCPMV4_7"], "vision_config": vision, "insert_layer_id": 0}
    shapes: dict[str, tuple[int, ...]] = {
        f"{TOWER}embeddings.patch_embedding.weight": (8, 3, 2, 2),
        f"{TOWER}embeddings.position_embedding.weight": (4, 8),
        f"{TOWER}encoder.layers.0.self_attn.q_proj.weight": (8, 8),
        f"{MERGER}self_attn.q_proj.weight": (8, 8),
        f"{MERGER}pre_norm.weight": (32,),
        f"{LAST}linear_2.weight": (32, 32),
    }
    random = np.random.default_rng(5)
    tensors = {k: random.standard_normal(shape).astype(np.float32) for k, shape in shapes.items()}
    config["downsample_mode"] = "16x"
    return write_merged(path, config, merged_tensors(tensors, "16x"), "Q8_0")


def small_hybrid_file(path: Path) -> Path:
    """Qwen3.5 with experts: two layers, one of which has linear attention."""
    sizes: dict[str, Any] = {
        "num_hidden_layers": 2, "max_position_embeddings": 64, "hidden_size": 32, "head_dim": 16,
        "num_attention_heads": 2, "num_key_value_heads": 1, "rms_norm_eps": 1e-6,
        "rope_parameters": {"partial_rotary_factor": 0.5, "mrope_section": [2, 1, 1]},
        "rope_theta": 1e7,
        "linear_num_key_heads": 1, "linear_num_value_heads": 2, "linear_key_head_dim": 8,
        "linear_value_head_dim": 8, "linear_conv_kernel_dim": 4, "full_attention_interval": 2,
        "num_experts": 2, "num_experts_per_tok": 1, "moe_intermediate_size": 8,
        "shared_expert_intermediate_size": 8,
    }  # fmt: skip
    delta, mlp = "model.layers.0.linear_attn", "model.layers.0.mlp"
    shapes: dict[str, tuple[int, ...]] = {
        "model.embed_tokens.weight": (4, 32),
        f"{delta}.in_proj_qkv.weight": (32, 32),
        f"{delta}.conv1d.weight": (32, 1, 4),
        f"{delta}.A_log": (2,),
        f"{mlp}.experts.gate_proj.weight": (2, 8, 32),
        f"{mlp}.experts.up_proj.weight": (2, 8, 32),
        f"{mlp}.shared_expert_gate.weight": (1, 32),
    }
    random = np.random.default_rng(4)
    tensors = {k: random.standard_normal(shape).astype(np.float32) for k, shape in shapes.items()}
    return write_gguf(path, "qwen35moe", sizes, tensors, byte_level_json(), "qwen35")
