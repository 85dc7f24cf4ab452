"""A model with everything but the compiled library: a fake session answers as it was told."""

from typing import Any

from fake_session import FakeSession
from manifests import seed_prompt, square
from PIL import Image
from vocabularies import sentencepiece_model

from handglass.runtime.answer.model import Model
from handglass.runtime.bundle.entries import ModelEntry, StateEntry, TargetEntry, TokenizerEntry
from handglass.runtime.bundle.reader import Manifest
from handglass.runtime.prompt.tokenizer import Tokenizer
from handglass.runtime.prompt.vocabularies import SentencePieceVocabulary

PROMPT = seed_prompt()
MANIFEST = Manifest(
    model=ModelEntry("MiniCPMV", {}),
    target=TargetEntry("host", "x86_64-linux-gnu", "x86-64-v3", ()),
    scheme={},
    versions={},
    functions={},
    params=(),
    state=StateEntry(200, ()),
    vision=square(28, 14, 4, 2),
    prompt=PROMPT,
    tokenizer=TokenizerEntry("sentencepiece", "tokenizer.model"),
    vocab_size=420,
    hidden_size=8,
)
TOKENIZER = Tokenizer(SentencePieceVocabulary(sentencepiece_model(), "test"), PROMPT.reserved)
EOS = TOKENIZER.token_id("</s>")


def says(text: str) -> list[int]:
    return [*TOKENIZER.encode(text), EOS]


def model(script: list[int] | None = None, context: int = 200) -> Model:
    session = FakeSession(TOKENIZER.vocab_size, context, 4, script or ())
    return Model(session, TOKENIZER, MANIFEST, load_s=1.5)


def picture(shade: int) -> Image.Image:
    return Image.new("RGB", (20, 30), (shade, 10, 20))


def prompt_ids(text: str, pictures: int = 0) -> int:
    tags = len(TOKENIZER.marker_ids("<用户>")) + len(TOKENIZER.marker_ids("<AI>"))
    return 1 + tags + len(TOKENIZER.encode(text)) + pictures * (4 + 2)


def turns(*texts: Any) -> list[dict[str, Any]]:
    roles = ("user", "assistant")
    return [{"role": roles[i % 2], "content": text} for i, text in enumerate(texts)]
