"""The two GGUF files of a MiniCPM-V checkpoint, with the names of llama.cpp's converters."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from gguf.quants import quantize
from gguf_files import finish, write_gguf
from random_release import CHATML

NUMBERS = {
    "MiniCPMV-2.5": 2,
    "MiniCPMV-2.6": 3,
    "MiniCPMO-2.6": 4,
    "MiniCPMV-4.0": 5,
    "MiniCPMV-4.5": 6,
}
NUMBERS |= {"MiniCPMO-4.5": 100045}
ARCHITECTURES = {"2.5": "llama", "2.6": "qwen2", "4.0": "llama", "4.5": "qwen3"}
SHORTER = (
    ("vision_model", "v"),
    ("encoder.layers", "blk"),
    ("embeddings.", ""),
    ("_proj", ""),
    ("self_attn.", "attn_"),
    ("layer_norm", "ln"),
    ("layernorm", "ln"),
    ("embedding", "embd"),
)
MLP = {"old": {"fc1": "ffn_down", "fc2": "ffn_up"}, "new": {"fc1": "ffn_up", "fc2": "ffn_down"}}


def vision_name(name: str, mlp: str) -> str:
    for long, short in SHORTER:
        name = name.replace(long, short)
    return re.sub(r"mlp\.(fc[12])", lambda match: MLP[mlp][match[1]], name)


def vision_tensors(tensors: Mapping[str, np.ndarray], mlp: str = "old") -> dict[str, np.ndarray]:
    """Those of an mmproj file, from those of a checkpoint."""
    found: dict[str, np.ndarray] = {}
    for name, array in tensors.items():
        if name.startswith("vpm."):
            name = name.replace("vpm.", "vision_model.")
            found[vision_name(name, mlp)] = array
        elif name == "resampler.proj":
            found["resampler.pos_embed_k"] = np.zeros((4900, 1), np.float32)
            found["resampler.proj.weight"] = np.ascontiguousarray(array.T)
        elif match := re.match(r"resampler\.attn\.in_proj_(\w+)", name):
            for part, rows in zip("qkv", np.split(array, 3), strict=True):
                found[f"resampler.attn.{part}.{match[1]}"] = rows
        elif name.startswith("resampler."):
            found[vision_name(name, mlp)] = array
    return found


def write_mmproj(
    path: Path,
    config: Mapping[str, Any],
    tensors: Mapping[str, np.ndarray],
    kind: str = "F32",
    **changes: Any,
) -> Path:
    """`tensors`: see `vision_tensors`; matrices are stored as `kind`, kernels as F16. `changes` are
    other values of keys below clip; None leaves one out."""
    number = NUMBERS[f"{config['architectures'][0]}-{config['version']}"]
    keys = {"projector_type": "resampler", "minicpmv_version": number}
    keys |= {"minicpmv_query_num": config["query_num"]}
    return write_clip(path, config["vision_config"], tensors, kind, keys | changes)


def write_clip(
    path: Path,
    vision: Mapping[str, Any],
    tensors: Mapping[str, np.ndarray],
    kind: str,
    changes: dict[str, Any],
) -> Path:
    """`vision`: the `vision_config`."""
    keys = {
        "has_vision_encoder": True,
        "use_gelu": True,
        "vision.image_size": 448,
        "vision.patch_size": vision["patch_size"],
        "vision.embedding_length": vision["hidden_size"],
        "vision.feed_forward_length": vision["intermediate_size"],
        "vision.projection_dim": 0,
        "vision.block_count": vision["num_hidden_layers"],
        "vision.attention.head_count": vision["num_attention_heads"],
        "vision.attention.layer_norm_epsilon": 1e-6,
        "vision.image_mean": [0.5, 0.5, 0.5],
        "vision.image_std": [0.5, 0.5, 0.5],
    }
    writer = gguf.GGUFWriter(str(path), changes.pop("architecture", "clip"))
    for key, value in (keys | changes).items():
        _add(writer, f"clip.{key}", value)
    for name, array in tensors.items():
        stored = gguf.GGMLQuantizationType["F16" if array.ndim == 4 else kind]
        if array.ndim == 1 or array.shape[-1] % gguf.GGML_QUANT_SIZES[stored][0]:
            stored = gguf.GGMLQuantizationType.F32
        data = np.ascontiguousarray(quantize(array, stored))
        writer.add_tensor(name, data, raw_dtype=stored)
    finish(writer)
    return path


def _add(writer: gguf.GGUFWriter, key: str, value: Any) -> None:
    if isinstance(value, bool):
        writer.add_bool(key, value)
    elif isinstance(value, int):
        (writer.add_int32 if "version" in key else writer.add_uint32)(key, value)
    elif isinstance(value, float):
        writer.add_float32(key, value)
    elif isinstance(value, str):
        writer.add_string(key, value)
    elif value is not None:
        writer.add_array(key, value)


def write_text(
    path: Path, config: Mapping[str, Any], tensors: Mapping[str, np.ndarray], tokenizer: bytes
) -> Path:
    """The language model of a release."""
    text = {
        name.removeprefix("llm."): array
        for name, array in tensors.items()
        if name.startswith("llm.")
    }
    rope = config.get("rope_scaling") or {}
    for kind in ("long", "short"):
        if f"{kind}_factor" in rope:
            factors = np.array(rope[f"{kind}_factor"], np.float32)
            text[f"rope_factors_{kind}.weight"] = factors
    sizes: dict[str, Any] = {"rope_theta": 1e4, **config}
    kind = ARCHITECTURES[config["version"]]
    if config["version"] == "4.0":
        return write_gguf(path, kind, sizes, text, tokenizer, template=CHATML)
    return write_gguf(path, kind, sizes, text, tokenizer)


def small_mmproj(path: Path) -> Path:
    """A tower of one layer beside a language model with 256 columns."""
    config = {"architectures": ["MiniCPMV"], "version": "4.0", "query_num": 2, "vision_config": {
        "patch_size": 2, "hidden_size": 8, "intermediate_size": 12, "num_hidden_layers": 1,
        "num_attention_heads": 2,
    }}  # fmt: skip
    layer, bridge = "vpm.encoder.layers.0", "resampler"
    shapes: dict[str, tuple[int, ...]] = {
        "vpm.embeddings.patch_embedding.weight": (8, 3, 2, 2),
        "vpm.embeddings.position_embedding.weight": (4, 8),
        f"{layer}.self_attn.q_proj.weight": (8, 8),
        f"{layer}.mlp.fc1.weight": (12, 8),
        f"{bridge}.query": (2, 256),
        f"{bridge}.attn.in_proj_weight": (768, 256),
        f"{bridge}.attn.in_proj_bias": (768,),
        f"{bridge}.proj": (256, 256),
    }
    random = np.random.default_rng(2)
    tensors = {k: random.standard_normal(shape).astype(np.float32) for k, shape in shapes.items()}
    return write_mmproj(path, config, vision_tensors(tensors), "Q8_0")
