"""The model class that a config.json names: under `architectures` a list with one name, or the name
alone; files that some tools write have only the `model_type` of the class."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

MODEL_TYPES = {
    "minicpmv": "MiniCPMV",
    "minicpmo": "MiniCPMO",
    "minicpmv4_6": "MiniCPMV4_6ForConditionalGeneration",
    "minicpmv4_7": "MiniCPMV4_7ForConditionalGeneration",
    "minicpm_ocr": "MiniCPMOcrForConditionalGeneration",
    "mllama": "MllamaForConditionalGeneration",
    "minicpm": "MiniCPMForCausalLM",
    "llama": "LlamaForCausalLM",
    "qwen2": "Qwen2ForCausalLM",
    "qwen3": "Qwen3ForCausalLM",
    "qwen3_5_text": "Qwen3_5ForCausalLM",
    "qwen3_5_moe_text": "Qwen3_5MoeForCausalLM",
    "siglip": "SiglipModel",
    "clip": "CLIPModel",
    "vit": "ViTModel",
    "deit": "DeiTModel",
    "dinov2": "Dinov2Model",
    "dinov2_with_registers": "Dinov2WithRegistersModel",
    "bert": "BertModel",
}
"""`model_type` -> the class that generates text, or that makes rows of pictures or texts."""


def architecture_of(config: Mapping[str, Any]) -> str | None:
    """The name; None if there is none, or more than one."""
    names, kind = config.get("architectures"), config.get("model_type")
    if names is None:
        return MODEL_TYPES.get(kind) if isinstance(kind, str) else None
    if isinstance(names, list) and len(names) == 1:
        (names,) = names
    return names if isinstance(names, str) else None
