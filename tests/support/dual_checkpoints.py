"""Small dual encoders with random weights and tokenizers, as transformers writes them."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from PIL import Image

LENGTH = 16
"""Tokens of a text at most."""
LAYERS = {"num_hidden_layers": 2, "num_attention_heads": 4}
VISION = {**LAYERS, "hidden_size": 64, "intermediate_size": 112, "image_size": 35, "patch_size": 7}
TEXT = {**LAYERS, "hidden_size": 48, "intermediate_size": 80, "max_position_embeddings": LENGTH}
TEXTS = (
    "a photo of two Cats",
    "",
    "A dog's life -- isn't it, </s>?",
    "\u4e00\u53ea\u732b  \u548c \u72d7",
    "\U0001f642 na\u00efve \u03a3\u0391\u03a3",
    "\u03a3\u0391\u03a3",
    "\u0130I",
    " \tmuch longer than sixteen tokens, " * 9,
)
CORPUS = ["a photo of two cats", "a dog's life isn't it", "much longer than tokens", "naive"]


@dataclass(frozen=True)
class Made:
    """The reference: its model, and its processors of texts and of pictures."""

    model: Any
    tokenizer: Any
    pictures: Any

    def ids(self, text: str) -> Any:
        """(1, LENGTH) as the processor makes them."""
        options = {"padding": "max_length", "truncation": True, "max_length": LENGTH}
        return self.tokenizer([text], return_tensors="pt", **options)["input_ids"]

    def pixels(self, picture: Image.Image) -> Any:
        return self.pictures(picture, return_tensors="pt")["pixel_values"]


def siglip(folder: Path) -> Made:
    """SigLIP: SentencePiece, pictures as bilinear squares."""
    return _siglip(folder, _siglip_tokenizer(folder), resample=2)


def siglip2(folder: Path) -> Made:
    """SigLIP 2 of a fixed resolution: the same class with Gemma's kind of tokenizer."""
    return _siglip(folder, _siglip2_tokenizer(), resample=3)


def clip(folder: Path) -> Made:
    """CLIP: byte-level BPE, the middle of a picture."""
    from transformers import CLIPConfig, CLIPModel
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    tokenizer = clip_tokenizer()
    text = TEXT | {"vocab_size": len(tokenizer), "eos_token_id": tokenizer.eos_token_id}
    config = CLIPConfig(text_config=text, vision_config=VISION, projection_dim=40)
    pictures = CLIPImageProcessorPil(size={"shortest_edge": 41}, crop_size=35)
    return _saved(folder, CLIPModel, config, tokenizer, pictures)


MAKERS: dict[str, Callable[[Path], Made]] = {"siglip": siglip, "siglip2": siglip2, "clip": clip}


def _siglip(folder: Path, tokenizer: Any, resample: int) -> Made:
    from transformers import SiglipConfig, SiglipModel
    from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil

    text = TEXT | {"vocab_size": len(tokenizer) + 3, "projection_size": VISION["hidden_size"]}
    config = SiglipConfig(text_config=text, vision_config=VISION)
    pictures = SiglipImageProcessorPil(size={"height": 35, "width": 35}, resample=resample)
    return _saved(folder, SiglipModel, config, tokenizer, pictures)


def _saved(folder: Path, kind: Any, config: Any, tokenizer: Any, pictures: Any) -> Made:
    torch.manual_seed(5)
    model = kind(config).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            randomize(name, parameter)
    for part in (model, tokenizer, pictures):
        part.save_pretrained(folder)
    return Made(model, tokenizer, pictures)


def randomize(name: str, parameter: Any) -> None:
    """Weights whose layers change their input about as trained ones do."""
    if "norm" in name and name.endswith("weight"):
        parameter.normal_(1, 0.2)
    elif "logit" in name:
        parameter.fill_(1.5)
    elif parameter.dim() > 1 and "embedding" not in name:
        parameter.normal_(0, 1.2 / parameter[0].numel() ** 0.5)
    else:
        parameter.normal_(0, 0.3)


def _siglip_tokenizer(folder: Path) -> Any:
    from transformers.models.siglip import tokenization_siglip

    folder.mkdir(parents=True, exist_ok=True)
    (folder / "spiece.model").write_bytes(pieces())
    # It asks for protobuf, which it only uses for options that it does not have here.
    tokenization_siglip.requires_backends = lambda *_: None
    return tokenization_siglip.SiglipTokenizer(
        str(folder / "spiece.model"), model_max_length=LENGTH
    )


@lru_cache
def pieces() -> bytes:
    """A SentencePiece model with the settings of SigLIP's, without pieces for bytes."""
    import sentencepiece

    out = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(CORPUS * 20),
        model_writer=out,
        vocab_size=60,
        pad_id=0,
        eos_id=1,
        unk_id=2,
        bos_id=-1,
        hard_vocab_limit=False,
        minloglevel=3,
    )
    return out.getvalue()


def _siglip2_tokenizer() -> Any:
    from tokenizers.processors import TemplateProcessing
    from transformers import Siglip2Tokenizer

    names = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>", *(f"<0x{i:02X}>" for i in range(256))]
    letters = [*sorted({*"".join(CORPUS)} - {" "}), "▁", "at", "cat", "ph"]
    merges: Any = [("a", "t"), ("c", "at"), ("p", "h")]
    vocabulary = {name: id for id, name in enumerate([*names, *letters])}
    tokenizer = Siglip2Tokenizer(vocabulary, merges, padding_side="right")
    # Released files end a text so; the class alone would not.
    end = TemplateProcessing(single="$A <eos>", special_tokens=[("<eos>", 1)])
    tokenizer.backend_tokenizer.post_processor = end
    return tokenizer


def clip_tokenizer() -> Any:
    """All bytes, alone and at the end of a word, and a few merges."""
    from transformers import CLIPTokenizer

    from handglass.runtime.prompt.vocabularies import byte_alphabet

    letters = list(byte_alphabet())
    merges: Any = [("c", "a"), ("ca", "t"), ("o", "f</w>"), ("t", "s</w>"), ("ca", "ts</w>")]
    words = [*letters, *(f"{c}</w>" for c in letters), *(a + b for a, b in merges)]
    words += ["<|startoftext|>", "<|endoftext|>"]
    return CLIPTokenizer({word: id for id, word in enumerate(words)}, merges)
