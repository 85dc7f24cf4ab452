"""Small encoders of pictures or of texts with random weights, as transformers writes them."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from dual_checkpoints import randomize
from PIL import Image

LAYERS = {"num_hidden_layers": 2, "num_attention_heads": 4}
TOWER = {**LAYERS, "hidden_size": 64, "intermediate_size": 112, "image_size": 35, "patch_size": 7}
LABELS = {0: "a cat", 1: "no cat", 2: "\u732b"}
LENGTH = 24
TEXT = {**LAYERS, "hidden_size": 48, "intermediate_size": 80, "max_position_embeddings": 32}
TEXTS = (
    "Two cats, playing.",
    "",
    "a [SEP] b",
    "na\u00efve \u03a3\u0391\u03a3 \U0001f642 unknownword",
    "\u4e00\u53ea\u732b  \u548c \u72d7",
    "cats playing " * 40,
)
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "two", "cats", "cat", "##s", "play"]
WORDS += ["##ing", ",", ".", "a", "b", "[", "]", "na", "##ive", "sep", "\u4e00", "\u732b"]


@dataclass(frozen=True)
class Pictures:
    """The reference: its model and its processor."""

    model: Any
    processor: Any

    def pixels(self, picture: Image.Image) -> torch.Tensor:
        made = self.processor(picture, return_tensors="pt")["pixel_values"]
        assert isinstance(made, torch.Tensor)
        return made

    def row(self, picture: Image.Image) -> np.ndarray:
        """What the model's pooler gives, or the row of the class token."""
        with torch.no_grad():
            out = self.model(self.pixels(picture))
        pooled = out.pooler_output
        return np.asarray((out.last_hidden_state[:, 0] if pooled is None else pooled)[0])

    def scores(self, picture: Image.Image) -> np.ndarray:
        with torch.no_grad():
            return np.asarray(self.model(self.pixels(picture)).logits[0])


@dataclass(frozen=True)
class Sentences:
    """The reference: its model, its tokenizer, and how rows are pooled."""

    model: Any
    tokenizer: Any
    is_mean: bool

    def ids(self, text: str) -> torch.Tensor:
        options = {"truncation": True, "max_length": LENGTH}
        made = self.tokenizer([text], return_tensors="pt", **options)["input_ids"]
        assert isinstance(made, torch.Tensor)
        return made

    def row(self, ids: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            rows = self.model(torch.as_tensor(ids[None].astype(np.int64))).last_hidden_state[0]
        return np.asarray(rows.mean(0) if self.is_mean else rows[0])


def vit(folder: Path) -> Pictures:
    """With a pooler."""
    from transformers import ViTConfig, ViTModel

    return _pictures(folder, ViTModel(ViTConfig(**TOWER, pooler_output_size=40)), _vit_processor())


def dino(folder: Path) -> Pictures:
    """Version 1: a ViT without a pooler."""
    from transformers import ViTConfig, ViTModel

    model = ViTModel(ViTConfig(**TOWER), add_pooling_layer=False)
    return _pictures(folder, model, _vit_processor())


def vit_labels(folder: Path) -> Pictures:
    """With a head; pictures as DeiT resizes them."""
    from transformers import ViTConfig, ViTForImageClassification
    from transformers.models.deit.image_processing_pil_deit import DeiTImageProcessorPil

    model = ViTForImageClassification(ViTConfig(**TOWER, id2label=LABELS))
    processor = DeiTImageProcessorPil(size={"height": 41, "width": 41}, crop_size=35)
    return _pictures(folder, model, processor)


def deit(folder: Path) -> Pictures:
    """With a second token."""
    from transformers import DeiTConfig, DeiTForImageClassification

    model = DeiTForImageClassification(DeiTConfig(**TOWER, id2label=LABELS))
    return _pictures(folder, model, _vit_processor())


def deit_teacher(folder: Path) -> Pictures:
    """With two heads."""
    from transformers import DeiTConfig, DeiTForImageClassificationWithTeacher

    model = DeiTForImageClassificationWithTeacher(DeiTConfig(**TOWER, id2label=LABELS))
    return _pictures(folder, model, _vit_processor())


def dinov2(folder: Path) -> Pictures:
    """Version 2, pictures smaller than the positions."""
    from transformers import Dinov2Config, Dinov2Model

    return _pictures(folder, Dinov2Model(Dinov2Config(**TOWER)), _bit_processor(21))


def dinov2_labels(folder: Path) -> Pictures:
    """Gated layers and a head, pictures larger than the positions."""
    from transformers import Dinov2Config, Dinov2ForImageClassification

    config = Dinov2Config(**TOWER, use_swiglu_ffn=True, id2label=LABELS)
    return _pictures(folder, Dinov2ForImageClassification(config), _bit_processor(49))


def registers(folder: Path) -> Pictures:
    """With registers, pictures smaller than the positions."""
    from transformers import Dinov2WithRegistersConfig, Dinov2WithRegistersModel

    config = Dinov2WithRegistersConfig(**TOWER, num_register_tokens=3)
    return _pictures(folder, Dinov2WithRegistersModel(config), _bit_processor(21))


def sentences(folder: Path, mode: str = "mean") -> Sentences:
    """BERT as sentence-transformers saves it."""
    from transformers import BertConfig, BertModel, BertTokenizer

    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.txt").write_text("".join(f"{word}\n" for word in WORDS), "utf-8")
    tokenizer = BertTokenizer({word: id for id, word in enumerate(WORDS)})
    model = BertModel(BertConfig(**TEXT, vocab_size=len(WORDS) + 3)).eval()
    _randomized(model).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    modules = [("", "Transformer"), ("1_Pooling", "Pooling"), ("2_Normalize", "Normalize")]
    kinds = [{"path": path, "type": f"sentence_transformers.models.{n}"} for path, n in modules]
    flags = {"pooling_mode_cls_token": mode == "cls", "pooling_mode_mean_tokens": mode == "mean"}
    for name, value in (
        ("modules.json", kinds),
        ("1_Pooling/config.json", {"word_embedding_dimension": 48, **flags}),
        ("sentence_bert_config.json", {"max_seq_length": LENGTH, "do_lower_case": False}),
    ):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(json.dumps(value), "utf-8")
    return Sentences(model, tokenizer, mode == "mean")


PICTURES: dict[str, Callable[[Path], Pictures]] = {
    "vit": vit,
    "dino": dino,
    "vit-labels": vit_labels,
    "deit": deit,
    "deit-teacher": deit_teacher,
    "dinov2": dinov2,
    "dinov2-labels": dinov2_labels,
    "registers": registers,
}


def _pictures(folder: Path, model: Any, processor: Any) -> Pictures:
    _randomized(model.eval()).save_pretrained(folder)
    processor.save_pretrained(folder)
    return Pictures(model, processor)


def _randomized(model: Any) -> Any:
    torch.manual_seed(5)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            randomize(name, parameter)
    return model


def _vit_processor() -> Any:
    from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

    return ViTImageProcessorPil(size={"height": 35, "width": 35})


def _bit_processor(side: int) -> Any:
    from transformers.models.bit.image_processing_pil_bit import BitImageProcessorPil

    size = {"shortest_edge": side + 4}
    return BitImageProcessorPil(size=size, crop_size={"height": side, "width": side})
