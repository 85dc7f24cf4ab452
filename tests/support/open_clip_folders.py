"""A CLIP model as OpenCLIP saves it: the same weights under its names, with its configuration."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from dual_checkpoints import LENGTH, TEXT, VISION, Made, clip
from safetensors.torch import save_file

SIDE = VISION["image_size"]
LAYER = {
    "layer_norm1": "ln_1",
    "layer_norm2": "ln_2",
    "self_attn.out_proj": "attn.out_proj",
    "mlp.fc1": "mlp.c_fc",
    "mlp.fc2": "mlp.c_proj",
}
OUTER = {
    "vision_model.embeddings.class_embedding": "visual.class_embedding",
    "vision_model.embeddings.patch_embedding.weight": "visual.conv1.weight",
    "vision_model.embeddings.position_embedding.weight": "visual.positional_embedding",
    "vision_model.pre_layrnorm.weight": "visual.ln_pre.weight",
    "vision_model.pre_layrnorm.bias": "visual.ln_pre.bias",
    "vision_model.post_layernorm.weight": "visual.ln_post.weight",
    "vision_model.post_layernorm.bias": "visual.ln_post.bias",
    "text_model.embeddings.token_embedding.weight": "token_embedding.weight",
    "text_model.embeddings.position_embedding.weight": "positional_embedding",
    "text_model.final_layer_norm.weight": "ln_final.weight",
    "text_model.final_layer_norm.bias": "ln_final.bias",
    "logit_scale": "logit_scale",
}


def saved(folder: Path, text_at: str = "") -> Made:
    """A folder of OpenCLIP, and the model of transformers; `text_at` precedes the names of the text
    tower."""
    made = clip(folder / "theirs")
    tensors = renamed(made.model)
    at = {
        name: name if name.startswith(("visual", "logit")) else text_at + name for name in tensors
    }
    save_file({at[name]: t for name, t in tensors.items()}, folder / "open_clip_model.safetensors")
    made.tokenizer.save_pretrained(folder)
    (folder / "open_clip_config.json").write_text(json.dumps(config(len(made.tokenizer))), "utf-8")
    return made


def config(vocab_size: int) -> dict[str, Any]:
    vision = {
        "image_size": SIDE,
        "patch_size": VISION["patch_size"],
        "width": VISION["hidden_size"],
        "layers": VISION["num_hidden_layers"],
        "head_width": VISION["hidden_size"] // VISION["num_attention_heads"],
        "mlp_ratio": VISION["intermediate_size"] / VISION["hidden_size"],
    }
    text = {
        "context_length": LENGTH,
        "vocab_size": vocab_size,
        "width": TEXT["hidden_size"],
        "heads": TEXT["num_attention_heads"],
        "layers": TEXT["num_hidden_layers"],
        "mlp_ratio": 1.6667,
    }
    model = {"embed_dim": 40, "quick_gelu": True, "vision_cfg": vision, "text_cfg": text}
    return {"model_cfg": model, "preprocess_cfg": {"mean": [0.5, 0.4, 0.3], "std": 0.25}}


def renamed(model: Any) -> dict[str, torch.Tensor]:
    """The weights of transformers' CLIPModel by the names of OpenCLIP."""
    theirs = {n: t.detach().clone() for n, t in model.state_dict().items()}
    ours = {OUTER[name]: theirs[name] for name in OUTER}
    ours["visual.proj"] = theirs["visual_projection.weight"].T.contiguous()
    ours["text_projection"] = theirs["text_projection.weight"].T.contiguous()
    for tower, at, count in (
        ("vision_model", "visual.", VISION["num_hidden_layers"]),
        ("text_model", "", TEXT["num_hidden_layers"]),
    ):
        for number in range(count):
            layer = f"{tower}.encoder.layers.{number}"
            block = f"{at}transformer.resblocks.{number}"
            for end in ("weight", "bias"):
                parts = [theirs[f"{layer}.self_attn.{part}_proj.{end}"] for part in "qkv"]
                ours[f"{block}.attn.in_proj_{end}"] = torch.cat(parts)
                for name, other in LAYER.items():
                    ours[f"{block}.{other}.{end}"] = theirs[f"{layer}.{name}.{end}"]
    return ours
