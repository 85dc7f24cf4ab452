"""Trains the demo dual encoder from scratch: drawings, and what they show.

    python examples/train_search.py --minutes 17 --out examples/search-checkpoint

It is SigLIP in the released layout, with its loss: each pair of a drawing and a text is a yes or a
no. The learning rate follows the clock, so a run ends on time on any machine. `recall` measures how
often the first picture found for a text is the one it describes.
"""

from __future__ import annotations

import argparse
import io
import json
import random
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from scenes import Scene, draw, every_shape, random_scene
from torch import Tensor

from handglass.runtime.bundle.entries import CANONICAL, MethodEntry, TextEntry, TokenizerEntry
from handglass.runtime.prompt.preprocess import normalise
from handglass.runtime.prompt.texts import TextInput, ids_of

SIDE, PATCH, LENGTH, WIDTH = 56, 14, 16, 96
HALF = (0.5, 0.5, 0.5)
BATCH = 96
PEAK = 2e-3
LAYERS = {"num_hidden_layers": 3, "num_attention_heads": 3}
VISION = LAYERS | {"hidden_size": WIDTH, "intermediate_size": 2 * WIDTH}
TEXT = {"num_hidden_layers": 2, "num_attention_heads": 2, "hidden_size": 64}


def caption(scene: Scene) -> str:
    """`a big red circle and a small blue star`."""
    return " and ".join(f"a {shape.noun('en', size=True)}" for shape in scene.shapes)


def pieces() -> bytes:
    """A SentencePiece model of the words of all captions, with the settings of SigLIP's."""
    import sentencepiece

    rng, out = random.Random(1), io.BytesIO()
    lines = [caption(random_scene(rng, rng.randint(1, 2))) for _ in range(4000)]
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines),
        model_writer=out,
        vocab_size=96,
        hard_vocab_limit=False,
        pad_id=0,
        eos_id=1,
        unk_id=2,
        bos_id=-1,
        minloglevel=3,
    )
    return out.getvalue()


def text_input(data: bytes) -> TextInput:
    cleaning = MethodEntry(CANONICAL, {"is_lowered": True})
    entry = TextEntry(LENGTH, (), (1,), cleaning, padding=1)
    return TextInput(entry, ids_of(TokenizerEntry("sentencepiece", ""), data, "pieces", entry))


def seen(image: Image.Image) -> np.ndarray:
    """A drawing as the model takes it, (3, SIDE, SIDE) float32."""
    small = image.resize((SIDE, SIDE), Image.Resampling.BICUBIC)
    return normalise(np.asarray(small), HALF, HALF)


def batch(rng: random.Random, texts_of: TextInput) -> tuple[Tensor, Tensor]:
    """Drawings and their captions, which are all different: others are a no."""
    scenes: dict[str, Scene] = {}
    while len(scenes) < BATCH:
        scene = random_scene(rng, 1 if rng.random() < 0.6 else 2)
        scenes.setdefault(caption(scene), scene)
    pixels = np.stack([seen(draw(scene, 112)) for scene in scenes.values()])
    ids = np.stack([texts_of(text) for text in scenes])
    return torch.from_numpy(pixels), torch.from_numpy(ids).long()


def make_model(vocab_size: int) -> Any:
    from transformers import SiglipConfig, SiglipModel

    text = TEXT | {"intermediate_size": 128, "vocab_size": vocab_size, "projection_size": WIDTH}
    config = SiglipConfig(
        text_config=text | {"max_position_embeddings": LENGTH},
        vision_config=VISION | {"image_size": SIDE, "patch_size": PATCH},
    )
    model = SiglipModel(config)
    with torch.no_grad():
        model.logit_scale.fill_(np.log(10))
        model.logit_bias.fill_(-4)
    return model


def train(model: Any, texts_of: TextInput, minutes: float) -> None:
    rng, start, end = random.Random(2), time.monotonic(), 60 * minutes
    optimizer = torch.optim.AdamW(model.parameters(), PEAK, betas=(0.9, 0.98), weight_decay=0.02)
    step = 0
    while (elapsed := time.monotonic() - start) < end:
        rate = min(1.0, 20 * elapsed / end, 1.5 * (1 - elapsed / end))
        optimizer.param_groups[0]["lr"] = PEAK * rate
        pixels, ids = batch(rng, texts_of)
        loss = model(input_ids=ids, pixel_values=pixels, return_loss=True).loss
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        step += 1
        if step % 25 == 0:
            found = recall(model, texts_of)
            print(
                f"step {step}, {elapsed:.0f} s: loss {loss:.3f}, recall@1 {found:.1%}", flush=True
            )


@torch.no_grad()
def recall(model: Any, texts_of: TextInput) -> float:
    """Of all texts about one shape, the share whose drawing is found first."""
    scenes = list(every_shape().values())
    pixels = torch.from_numpy(np.stack([seen(draw(scene, 112)) for scene in scenes]))
    ids = torch.from_numpy(np.stack([texts_of(caption(scene)) for scene in scenes])).long()
    logits = model(input_ids=ids, pixel_values=pixels).logits_per_text
    return float((logits.argmax(1) == torch.arange(len(scenes))).float().mean())


def save(model: Any, data: bytes, folder: Path) -> None:
    """The released layout, in float16."""
    folder.mkdir(parents=True, exist_ok=True)
    model.half().save_pretrained(folder)
    (folder / "spiece.model").write_bytes(data)
    tokenizer = {"tokenizer_class": "SiglipTokenizer", "model_max_length": LENGTH}
    pictures = {"size": {"height": SIDE, "width": SIDE}, "resample": 3, "do_resize": True}
    texts = {"tokenizer_config.json": tokenizer, "preprocessor_config.json": pictures}
    for name, values in texts.items():
        (folder / name).write_text(json.dumps(values, indent=1) + "\n", "utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description="train the demo dual encoder")
    parser.add_argument("--minutes", type=float, default=17)
    parser.add_argument("--out", type=Path, required=True, help="folder to write to")
    args = parser.parse_args()
    torch.manual_seed(3)
    data = pieces()
    texts_of = text_input(data)
    model = make_model(96)
    train(model, texts_of, args.minutes)
    print(f"recall@1 {recall(model, texts_of):.1%}")
    save(model, data, args.out)


if __name__ == "__main__":
    main()
