"""Readers of what becomes a prompt: tokenizers, pictures, conversations and their templates."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from .bundle_readers import manifests
from .reader import CHECKPOINT, Reader, demo_tokenizer, written

QUESTION = "What is this picture?\n12 红色 <image> \U0001f642"


def read_tokenizer(kind: str) -> Callable[[bytes, Path], None]:
    def read(data: bytes, folder: Path) -> None:
        from handglass.runtime.prompt.tokenizer import open_tokenizer

        tokenizer = open_tokenizer(kind, written(folder, kind, data), ["<image>"])
        tokenizer.decode(tokenizer.encode("What is this? 12 红色 \U0001f642"))
        for token in range(min(tokenizer.vocab_size, 2000)):
            tokenizer.surface(token)
        tokenizer.marker_ids("<image>")

    return read


@cache
def sentencepieces() -> list[bytes]:
    from vocabularies import sentencepiece_model

    return [sentencepiece_model(), (CHECKPOINT / "tokenizer.model").read_bytes()]


@cache
def json_tokenizers() -> list[bytes]:
    from vocabularies import byte_fallback_json, byte_level_json

    return [byte_fallback_json(), byte_level_json()]


@cache
def pictures() -> list[bytes]:
    from PIL import Image

    pixels = np.arange(24 * 20 * 3, dtype=np.uint32).reshape(24, 20, 3) * 37 % 251
    image = Image.fromarray(pixels.astype(np.uint8))
    made = []
    for kind in ("PNG", "JPEG", "WEBP", "GIF", "BMP"):
        image.save(out := io.BytesIO(), kind)
        made.append(out.getvalue())
    return made


def read_picture(data: bytes, folder: Path) -> None:
    preprocessor()(written(folder, "picture", data))


@cache
def preprocessor() -> Callable[[Any], Any]:
    from handglass.runtime.bundle.manifest import Manifest
    from handglass.runtime.prompt.preprocess import open_preprocessor

    return open_preprocessor(Manifest.parse(manifests()[0], "seed"))


@cache
def animations() -> list[bytes]:
    from PIL import Image

    random = np.random.default_rng(5)
    pixels = random.integers(0, 256, (4, 20, 24, 3), dtype=np.uint8)
    frames, made = [Image.fromarray(frame) for frame in pixels], []
    for kind in ("GIF", "PNG", "WEBP"):
        out = io.BytesIO()
        frames[0].save(out, kind, save_all=True, append_images=frames[1:], duration=120)
        made.append(out.getvalue())
    return made


def read_animation(data: bytes, folder: Path) -> None:
    from handglass.runtime.prompt.pictures.read import reading
    from handglass.runtime.prompt.video.source import open_video

    with reading("video"), open_video(written(folder, "video", data)) as source:
        for frame in source.frames(range(0, min(source.count, 6), 2)):
            preprocessor()(frame)


def read_messages(data: bytes, folder: Path) -> None:
    """A conversation, as `Model.chat` and a file of `chat` give it."""
    from handglass.runtime.bundle.manifest import Manifest
    from handglass.runtime.prompt.chat_template import build_prompt
    from handglass.runtime.system.json_text import parse_json

    prompt = Manifest.parse(manifests()[0], "seed").prompt
    messages = parse_json(data, "messages", 1 << 20)
    build_prompt(messages, (), demo_tokenizer(), prompt, preprocessor())


@cache
def messages() -> list[bytes]:
    turns = [
        {"role": "user", "content": "Hello"},
        {"role": "assistant", "content": "Hi"},
        {"role": "user", "content": [{"type": "text", "text": "What?"}, QUESTION]},
    ]
    return [json.dumps(turns[:1]).encode(), json.dumps(turns).encode()]


def read_template(data: bytes, folder: Path) -> None:
    """The chat template of a manifest, rendered with the demo tokenizer."""
    from handglass.runtime.bundle.manifest import Manifest
    from handglass.runtime.prompt.chat_template import build_prompt

    rest = {**json.loads(manifests()[0])}
    del rest["prompt"]
    text = b'{"prompt": ' + data + b", " + json.dumps(rest).encode()[1:]
    template = Manifest.parse(text, "manifest.json").prompt
    picture = np.zeros((30, 20, 3), np.uint8)
    for thinking in (False, True):
        build_prompt(
            "What is this?", [picture], demo_tokenizer(), template, preprocessor(), thinking
        )


@cache
def templates() -> list[bytes]:
    return [json.dumps(json.loads(manifest)["prompt"]).encode() for manifest in manifests()]


READERS = {
    "sentencepiece": Reader(sentencepieces, read_tokenizer("sentencepiece")),
    "tokenizer-json": Reader(json_tokenizers, read_tokenizer("tokenizers")),
    "picture": Reader(pictures, read_picture),
    "animation": Reader(animations, read_animation),
    "messages": Reader(messages, read_messages),
    "template": Reader(templates, read_template),
}
