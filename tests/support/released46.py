"""A tiny checkpoint of MiniCPM-V 4.6, 4.7 or MiniCPM-OCR written by the classes of transformers.

Pictures go through the image processor of transformers, the prompt through the tokenizers library
as one text; neither shares code with the product.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from greedy import QUESTION, ask, check_greedy, pictures
from manifests import CHATML
from PIL import Image
from test_chatml import library_tokenizer
from transformers import (
    MiniCPMOcrConfig,
    MiniCPMOcrForConditionalGeneration,
    MiniCPMV4_6Config,
    MiniCPMV4_6ForConditionalGeneration,
    MiniCPMV4_7Config,
    MiniCPMV4_7ForConditionalGeneration,
)
from transformers.models.minicpmv4_6.image_processing_pil_minicpmv4_6 import (
    MiniCPMV4_6ImageProcessorPil,
)

TEXT = {
    "vocab_size": library_tokenizer().get_vocab_size(),
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 32,
    "full_attention_interval": 4,
    "linear_num_key_heads": 2,
    "linear_key_head_dim": 16,
    "linear_num_value_heads": 4,
    "linear_value_head_dim": 16,
    "max_position_embeddings": 4096,
    "rope_parameters": {
        "rope_type": "default",
        "rope_theta": 1e7,
        "partial_rotary_factor": 0.25,
    },
    "tie_word_embeddings": True,
    "eos_token_id": None,
}
EXPERTS = {
    "num_experts": 8,
    "num_experts_per_tok": 3,
    "moe_intermediate_size": 40,
    "shared_expert_intermediate_size": 56,
}
"""The text model of 4.7 35B-A3B, a mixture of experts, has these in addition."""
VISION = {
    "hidden_size": 48,
    "intermediate_size": 72,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "image_size": 980,
    "patch_size": 14,
}
PAD = "<|image_pad|>"
NO_THOUGHTS = "<think>\n\n</think>\n\n"
AXES = {"mrope_section": [2, 1, 1], "mrope_interleaved": True}
MARKERS = {
    "image_start_id": "<image>",
    "image_end_id": "</image>",
    "slice_start_id": "<slice>",
    "slice_end_id": "</slice>",
    "newline_id": "Ċ",
}
CLASSES: dict[str, tuple[Any, Any]] = {
    "4.6": (MiniCPMV4_6Config, MiniCPMV4_6ForConditionalGeneration),
    "4.7": (MiniCPMV4_7Config, MiniCPMV4_7ForConditionalGeneration),
    "OCR": (MiniCPMOcrConfig, MiniCPMOcrForConditionalGeneration),
}


def random_model(
    downsample: str = "16x", version: str = "4.6", tied: bool = True, has_experts: bool = False
) -> Any:
    """A model whose logits depend on everything: weights of a size that keeps rows alive."""
    text, more = {**TEXT, "model_type": "qwen3_5_text", "tie_word_embeddings": tied}, {}
    if has_experts:
        text |= EXPERTS | {"model_type": "qwen3_5_moe_text"}
    if version == "4.7":
        text["rope_parameters"] = text["rope_parameters"] | AXES
        more = {key: library_tokenizer().token_to_id(token) for key, token in MARKERS.items()}
        assert None not in more.values()
    make_config, make_model = CLASSES[version]
    config = make_config(
        text_config=text,
        vision_config=VISION,
        insert_layer_id=1,
        image_token_id=library_tokenizer().token_to_id(PAD),
        downsample_mode=downsample,
        tie_word_embeddings=tied,
        **more,
    )
    torch.manual_seed(1)
    model = make_model(config).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            is_norm = name.endswith("weight") and "norm" in name
            if is_norm and "language_model" in name and "linear_attn.norm" not in name:
                parameter.normal_(0, 0.2)  # stored minus one
            elif is_norm:
                parameter.normal_(1, 0.2)
            elif parameter.dim() > 1 and "embed" not in name:
                inputs = parameter.shape[-1] if ".experts." in name else parameter[0].numel()
                parameter.normal_(0, 1.2 / inputs**0.5)
            else:
                parameter.normal_(0, 0.3)
    return model


def write_checkpoint(
    folder: Path,
    downsample: str = "16x",
    version: str = "4.6",
    tied: bool = True,
    has_experts: bool = False,
) -> Any:
    """Save model, configuration and tokenizer as they are released; returns the model."""
    model = random_model(downsample, version, tied, has_experts)
    model.save_pretrained(folder)
    (folder / "tokenizer.json").write_text(library_tokenizer().to_str(), "utf-8")
    preprocessor = {"max_slice_nums": 9, "scale_resolution": 448, "patch_size": 14}
    (folder / "preprocessor_config.json").write_text(json.dumps(preprocessor))
    return model


@dataclass(frozen=True)
class Asked:
    """The inputs of the reference for one prompt."""

    ids: list[int]
    pixels: torch.Tensor | None
    sizes: torch.Tensor | None


class Reference:
    """Answers of transformers' own model."""

    def __init__(self, model: Any) -> None:
        self.model = model
        self.version = next(v for v, (_, kind) in CLASSES.items() if type(model) is kind)
        self.downsample = model.config.downsample_mode
        self.processor = MiniCPMV4_6ImageProcessorPil(downsample_mode=self.downsample)

    def check(self, model: Any, name: str, max_tokens: int = 64) -> None:
        """Ask `model` about the pictures `name`: prompt, logits and greedy tokens."""
        shown = pictures(name)
        answer, logits = ask(model, shown, max_tokens)
        asked = self.ask(QUESTION, shown)
        truth = self.logits(asked, self.before_pads(answer.tokens))
        check_greedy(answer, len(asked.ids), truth, max_tokens, logits)

    def ask(self, question: str, pictures: Sequence[Image.Image]) -> Asked:
        """One user turn with the pictures before the question, as content parts."""
        blocks, pixels, sizes = [], None, None
        if pictures:
            found = self.processor(list(pictures), return_tensors="pt")
            pixels, sizes = found["pixel_values"], torch.as_tensor(found["target_sizes"])
            counts = np.cumsum([0, *found["num_patches_per_image"]])
            for number, grid in enumerate(found["grids"]):
                tiles = sizes[counts[number] : counts[number + 1]]
                blocks.append(self._block(number, [int(s) for s in grid], tiles))
        text = "\n".join([*blocks, question])
        prompt = f"<|im_start|>user\n{text}<|im_end|>\n<|im_start|>assistant\n"
        prompt += NO_THOUGHTS
        return Asked(library_tokenizer().encode(prompt).ids, pixels, sizes)

    def ask_about_video(self, question: str, frames: Sequence[Image.Image]) -> Asked:
        """One user turn with the frames of a video: not sliced, without numbers or separators."""
        found = self.processor(list(frames), return_tensors="pt", max_slice_nums=1)
        sizes, share = torch.as_tensor(found["target_sizes"]), 4 if self.downsample == "4x" else 16
        blocks = (f"<image>{PAD * (int(h) * int(w) // share)}</image>" for h, w in sizes)
        turn = f"<|im_start|>user\n{''.join(blocks)}\n{question}<|im_end|>\n"
        ids = library_tokenizer().encode(f"{turn}<|im_start|>assistant\n{NO_THOUGHTS}").ids
        return Asked(ids, found["pixel_values"], sizes)

    def _block(self, number: int, grid: list[int], sizes: torch.Tensor) -> str:
        share = 4 if self.downsample == "4x" else 16
        first, *others = (PAD * (int(h) * int(w) // share) for h, w in sizes)
        block = f"<image_id>{number}</image_id><image>{first}</image>"
        rows, columns = grid
        slices = [f"<slice>{pads}</slice>" for pads in others]
        parts = (slices[row * columns : (row + 1) * columns] for row in range(rows))
        return block + "\n".join("".join(part) for part in parts)

    def before_pads(self, tokens: Sequence[int]) -> list[int]:
        """The tokens before the first one that the model would take for a place in a picture."""
        pad = self.model.config.image_token_id
        return list(tokens[: tokens.index(pad)] if pad in tokens else tokens)

    def logits(self, asked: Asked, tokens: Sequence[int] = (), plain: bool = False) -> np.ndarray:
        """After the prompt and after each token: (len(tokens) + 1, vocab_size).

        `plain`: with the positions of text only.
        """
        ids = torch.tensor([[*asked.ids, *tokens]])
        kinds = {"mm_token_type_ids": self._kinds(ids)} if self.version == "4.7" else {}
        if plain:
            kinds["position_ids"] = torch.arange(ids.shape[1]).expand(3, 1, -1)
        with torch.no_grad():
            out = self.model(
                input_ids=ids, pixel_values=asked.pixels, target_sizes=asked.sizes, **kinds
            ).logits[0]
        rows: np.ndarray = out[len(asked.ids) - 1 :].numpy()
        return rows

    def positions(self, asked: Asked) -> tuple[np.ndarray, int]:
        """The rotary positions of a prompt with pictures (tokens, 3), and the next one."""
        ids = torch.tensor([asked.ids])
        kinds = {"mm_token_type_ids": self._kinds(ids), "target_sizes": asked.sizes}
        found, delta = self.model.model.get_rope_index(ids, **kinds)
        return found[:, 0].T.numpy(), len(asked.ids) + int(delta)

    def _kinds(self, ids: torch.Tensor) -> torch.Tensor:
        return (ids == self.model.config.image_token_id).int()


__all__ = ["CHATML", "Asked", "Reference", "write_checkpoint"]
