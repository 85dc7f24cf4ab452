"""A tiny random Llama 3.2 Vision in transformers, and its folder in the released layout.

transformers 5 differs from the released implementation (github.com/meta-llama/llama-models, where
both are in models/llama3/reference_impl/multimodal) in two places, which are undone here:

* text before the first picture attends to all pictures of the prompt, and only skips the MLP; the
  release multiplies the result of attention by the mask, too (`full_text_row_masked_out_mask`);
* `intermediate_layers_indices` selects outputs of layers, in the release their inputs.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from transformers import MllamaConfig, MllamaForConditionalGeneration
from transformers.models.mllama.image_processing_pil_mllama import MllamaImageProcessorPil
from transformers.models.mllama.processing_mllama import (
    convert_sparse_cross_attention_mask_to_dense,
    get_cross_attention_token_mask,
)
from vocabularies import byte_level_json

from handglass.runtime.bundle.entries import TILED, MethodEntry, VisionEntry

MARKERS = (
    *("<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>"),
    *("<|eot_id|>", "<|image|>"),
)
IMAGE = 335  # the id of the last marker, which follows the vocabulary
SIDE, TILES = 28, 4
MEAN, STD = [0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]
KEPT = (1, 2)
SIZES = ((20, 24), (28, 28), (50, 20), (60, 61), (200, 30), (31, 100), (1, 90), (300, 400))
"""Width and height of pictures that are enlarged and shrunk, on canvases of several shapes."""
TEXT: dict[str, Any] = {
    "vocab_size": IMAGE,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "cross_attention_layers": [1, 3],
    "bos_token_id": 330,
    "eos_token_id": [331],
    "pad_token_id": 332,
    "rope_parameters": {
        "rope_type": "llama3",
        "rope_theta": 500000.0,
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 64,
    },
}
VISION: dict[str, Any] = {
    "hidden_size": 48,
    "intermediate_size": 80,
    "num_hidden_layers": 3,
    "num_global_layers": 1,
    "attention_heads": 4,
    "image_size": SIDE,
    "patch_size": 7,
    "max_num_tiles": TILES,
    "intermediate_layers_indices": [number - 1 for number in KEPT],
    "vision_output_dim": 48 * 3,
}


def tiny(folder: Path) -> MllamaForConditionalGeneration:
    """Write a checkpoint; return the model in transformers, with the mask of the release."""
    torch.manual_seed(0)
    config = MllamaConfig(vision_config=VISION, text_config=TEXT, image_token_index=IMAGE)
    model = MllamaForConditionalGeneration(config).eval()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            mean = float("norm" in name and name.endswith("weight"))
            std = 0.5 if weight.numel() == 1 else 0.08
            weight.copy_(mean + std * torch.randn_like(weight))
    model.save_pretrained(folder, max_shard_size="200KB")
    written = json.loads((folder / "config.json").read_text())
    written["vision_config"]["intermediate_layers_indices"] = list(KEPT)
    (folder / "config.json").write_text(json.dumps(written))
    (folder / "tokenizer.json").write_bytes(byte_level_json(MARKERS))
    pictures = processor().to_dict()
    (folder / "preprocessor_config.json").write_text(json.dumps(pictures))
    mask_attention(model)
    return model


def mask_attention(model: MllamaForConditionalGeneration) -> None:
    """Multiply the result of attention to pictures by the mask that the MLP is multiplied by."""
    for number in TEXT["cross_attention_layers"]:
        layer: Any = model.model.language_model.layers[number]
        layer.register_forward_pre_hook(_remember, with_kwargs=True)
        layer.cross_attn.register_forward_hook(_masked)


def _remember(layer: Any, args: Any, kwargs: dict[str, Any]) -> None:
    layer.cross_attn.rows = kwargs["full_text_row_masked_out_mask"]


def _masked(attention: Any, args: Any, result: tuple[torch.Tensor, Any]) -> Any:
    rows = attention.rows
    return result if rows is None else (result[0] * rows[:, 0], *result[1:])


def processor() -> MllamaImageProcessorPil:
    size = {"height": SIDE, "width": SIDE}
    return MllamaImageProcessorPil(size=size, max_image_tiles=TILES, image_mean=MEAN, image_std=STD)


def picture(width: int, height: int, seed: int = 0) -> Image.Image:
    noise = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    return Image.fromarray(noise)


def vision_entry() -> VisionEntry:
    """As the manifest has it."""
    return VisionEntry(
        image_size=SIDE,
        patch_size=VISION["patch_size"],
        mean=tuple(MEAN),
        std=tuple(STD),
        slicing=MethodEntry(TILED, {"max_tiles": TILES}),
        positions=MethodEntry(TILED, {}),
        query_num=1,
    )


def inputs(ids: Sequence[int], pictures: Sequence[Image.Image]) -> dict[str, torch.Tensor]:
    """The arguments of the model in transformers for tokens and the pictures among them."""
    given = {"input_ids": torch.tensor([list(ids)])}
    given["attention_mask"] = torch.ones_like(given["input_ids"])
    if not pictures:
        return given
    made = processor()([list(pictures)], return_tensors="pt")
    spans = [get_cross_attention_token_mask(list(ids), IMAGE)]
    mask = convert_sparse_cross_attention_mask_to_dense(spans, made["num_tiles"], TILES, len(ids))
    names = ("pixel_values", "aspect_ratio_ids", "aspect_ratio_mask")
    return {
        **given,
        **{name: made[name] for name in names},
        "cross_attention_mask": torch.tensor(mask),
    }
