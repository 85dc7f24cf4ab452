"""Models that think before they answer, and pictures in slices, with a fake session."""

import dataclasses
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fake_session import FakeSession
from manifests import CHATML, chatml_prompt, grid_vision
from PIL import Image
from scripted_model import MANIFEST
from test_reuse import Recurrent
from vocabularies import chatml_json

from handglass.errors import InputError, UsageError
from handglass.runtime.answer.generate import ContextFullError
from handglass.runtime.answer.model import Model
from handglass.runtime.answer.stream import TextStream
from handglass.runtime.answer.thoughts import Thought, Thoughts
from handglass.runtime.bundle.entries import Around
from handglass.runtime.bundle.manifest import Manifest
from handglass.runtime.prompt.tokenizer import parse_tokenizer

AROUND = Around("<think>", "</think>")
OPEN, CLOSED, HEADER = "a\n<think>\n", "a\n<think>\n\n</think>\n\n", "a\n"
TOKENIZER = parse_tokenizer("tokenizers", chatml_json(), Path("tokenizer.json"), CHATML)
PROMPT = chatml_prompt()
MODEL = dataclasses.replace(
    MANIFEST, vision=grid_vision(), prompt=PROMPT, vocab_size=TOKENIZER.vocab_size
)


# --- the text ---

# opening, what the model writes -> thoughts, text
TEXTS: dict[str, tuple[str, str, str, str]] = {
    "inside": (OPEN, "It is\nred.\n</think>\n\nRed.\n", "It is\nred.\n", "Red.\n"),
    "no thoughts": (CLOSED, "Red.", "", "Red."),
    "begins itself": (HEADER, "<think>\nHm.\n</think>\n\nRed.", "Hm.\n", "Red."),
    "begins after space": (HEADER, "\n <think>Hm.</think>Red.", "Hm.", "Red."),
    "does not begin": (HEADER, " \n<thin air", "", " \n<thin air"),
    "space only": (HEADER, " \n", "", " \n"),
    "cut": (OPEN, "It is</thi", "It is</thi", ""),
    "cut after the end": (OPEN, "Hm.</think>\n\n", "Hm.", ""),
    "nothing": (OPEN, "", "", ""),
    "empty thoughts": (OPEN, "\n</think>\n\nRed.", "", "Red."),
    "quoted later": (OPEN, "a</think>b</think><think>c", "a", "b</think><think>c"),
    "stop in thoughts": (OPEN, "a STOP b</think>Red. STOP no", "a STOP b", "Red. "),
}


@pytest.mark.parametrize("case", TEXTS)
def test_any_cutting_separates_the_same(case: str) -> None:
    opening, written, thoughts, text = TEXTS[case]
    rng = random.Random(case)
    for _ in range(30):
        stream = TextStream(["STOP"], Thoughts(AROUND, opening))
        data = written.encode()
        cuts = sorted(rng.choices(range(len(data) + 1), k=rng.randrange(9)))
        parts = [data[a:b] for a, b in zip([0, *cuts], [*cuts, len(data)], strict=True)]
        said = fetched = ""
        for part in [*parts, b""]:
            said += stream.feed(part)
            fetched += stream.thoughts.fetch()
        said += stream.finish()
        fetched += stream.thoughts.fetch()
        assert (fetched, said) == (thoughts, text) == (stream.thoughts.text, stream.text)


def test_without_markers_everything_is_the_answer() -> None:
    stream = TextStream((), Thoughts(Around(""), OPEN))
    assert stream.feed(b"<think>a</think>") + stream.finish() == "<think>a</think>"


# --- the model ---


def says(thoughts: str, text: str) -> list[int]:
    """A script of tokens: thoughts if there are any, the text, the end."""
    end = TOKENIZER.token_id("</think>")
    before = [*TOKENIZER.encode(thoughts), end, *TOKENIZER.encode("\n\n")] if thoughts else []
    return [*before, *TOKENIZER.encode(text), TOKENIZER.token_id("<|im_end|>")]


def model(script: list[int] | None = None, manifest: Manifest = MODEL, **options: Any) -> Any:
    session = FakeSession(TOKENIZER.vocab_size, query_num=0, script=script or (), **options)
    return Model(session, TOKENIZER, manifest)


def noise(width: int, height: int) -> Image.Image:
    pixels = np.random.default_rng(width).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def test_thoughts_are_apart_from_the_answer() -> None:
    answer = model(says("It is round.", "A circle.")).chat("What?", thinking=True)
    assert (answer.thinking, answer.text) == ("It is round.", "A circle.")
    assert len(answer.tokens) == len(says("It is round.", "A circle.")) - 1


def test_a_stream_gives_the_answer_or_both() -> None:
    script = says("It is round.", "A circle.")
    assert "".join(model(script).chat("What?", thinking=True, stream=True)) == "A circle."
    pieces = list(model(script).chat("What?", thinking=True, stream=True).with_thoughts())
    is_thought = [isinstance(piece, Thought) for piece in pieces]
    assert "".join(pieces) == "It is round.A circle."
    assert is_thought == sorted(is_thought, reverse=True) and len(set(is_thought)) == 2


def test_without_thinking_there_are_no_thoughts() -> None:
    for thinking in (None, False):
        answer = model(says("", "A circle.")).chat("What?", thinking=thinking)
        assert (answer.thinking, answer.text) == ("", "A circle.")


def test_special_tokens_of_thoughts_are_seen() -> None:
    """Some vocabularies mark them special, so that they have no bytes."""
    around = Around("<|endoftext|>", "<|image_pad|>")
    answer = {"thinking": "<|im_start|>assistant\n<|endoftext|>"}
    prompt = dataclasses.replace(PROMPT, thoughts=around, answer=answer, stop=("<|im_end|>",))
    script = [
        *TOKENIZER.encode("Hm."), TOKENIZER.token_id("<|image_pad|>"), *says("", "Red."),
    ]  # fmt: skip
    manifest = dataclasses.replace(MODEL, prompt=prompt)
    told = model(script, manifest).chat("What?", thinking=True)
    assert (told.thinking, told.text) == ("Hm.", "Red.")


@pytest.mark.parametrize("thinking", [True, False])
def test_a_model_that_cannot_think_refuses(thinking: bool) -> None:
    manifest = dataclasses.replace(MODEL, prompt=chatml_prompt(answer={}))
    with pytest.raises(UsageError, match=f"thinking={thinking}: this model has no thinking mode"):
        model(manifest=manifest).chat("What?", thinking=thinking)


def test_the_bundle_may_think_by_default() -> None:
    manifest = dataclasses.replace(MODEL, prompt=chatml_prompt(defaults={"thinking": 1.0}))
    script = says("Hm.", "Red.")
    assert model(script, manifest).chat("What?").thinking == "Hm."
    assert model(says("", "Red."), manifest).chat("What?", thinking=False).text == "Red."


def test_openbmbs_names() -> None:
    msgs = [{"role": "user", "content": [noise(900, 900), "What?"]}]
    asked = model(says("Hm.", "Red."), context=3000)
    text = asked.chat(msgs=msgs, sampling=False, enable_thinking=True, max_slice_nums=2)
    assert text == "Red." and asked.session.images == 3


# --- reuse ---


class Remembering(Recurrent):
    """A recurrent session with the interface of a model's."""

    def __init__(self, script: list[int]) -> None:
        super().__init__()
        self.fake = FakeSession(TOKENIZER.vocab_size, 4096, 0, script)
        self.context, self.worker = 4096, self.fake.worker
        self.prefilled: list[tuple[int, int]] = []

    def embed(self, ids: Any) -> np.ndarray:
        return np.asarray(self.fake.table[list(ids)][:, :6])

    def device_peak(self) -> None:
        return None

    def prefill(self, x: np.ndarray, pos: int, positions: np.ndarray | None = None) -> np.ndarray:
        self.prefilled.append((len(x), pos))
        self.said = 0
        return self._logits(x)

    def decode(self, token: int, pos: int, position: int | None = None) -> np.ndarray:
        self.said += 1
        return self._logits(self.embed([token]))

    def _logits(self, x: np.ndarray) -> np.ndarray:
        super().prefill(x, 0)
        script = self.fake.script
        logits = np.zeros(TOKENIZER.vocab_size, np.float32)
        logits[script[self.said % len(script)]] = 1 + abs(self.state[0])
        return logits


@pytest.mark.parametrize("thinking", [False, True])
def test_the_next_turn_continues_before_the_opening(thinking: bool) -> None:
    session = Remembering(says("Hm." if thinking else "", "A circle."))
    asked = Model(session, TOKENIZER, MODEL)  # type: ignore[arg-type]
    first = [{"role": "user", "content": "What is this?"}]
    answer = asked.chat(first, thinking=thinking)
    (start, _), (opening, branch) = session.prefilled
    assert branch == start and opening == (2 if thinking else 4)
    second = [*first, {"role": "assistant", "content": answer.text}, *first]
    later = asked.chat(second, thinking=thinking)
    assert later.timings.reused_tokens == branch
    fresh = Remembering(session.fake.script)
    again = Model(fresh, TOKENIZER, MODEL).chat(second, thinking=thinking)  # type: ignore[arg-type]
    assert np.array_equal(fresh.state, session.state) and again.tokens == later.tokens


def test_the_other_way_to_answer_shares_the_question() -> None:
    session = Remembering(says("", "A circle."))
    asked = Model(session, TOKENIZER, MODEL)  # type: ignore[arg-type]
    asked.chat("What is this?")
    again = asked.chat("What is this?", thinking=True)
    assert again.timings.reused_tokens == session.prefilled[0][0]


# --- slices and the context ---


def test_slices_are_tiles_of_a_picture() -> None:
    asked = model(says("", "A circle."), context=3000)
    answer = asked.chat("What?", [noise(1000, 1000)])
    assert answer.timings.image_tokens == (5 * 64,) and asked.session.images == 5
    answer = asked.chat("What?", [noise(1000, 1000)], max_slices=1)
    assert answer.timings.image_tokens == (64,)
    assert asked.session.images == 5, "the same as the overview"


def test_a_file_is_cut_again_for_another_number_of_slices(tmp_path: Path) -> None:
    path = tmp_path / "x.png"
    noise(1000, 1000).save(path)
    asked = model(says("", "A circle."), context=3000)
    for most, tiles in ((None, 5), (1, 1), (2, 3), (None, 5)):
        tokens = asked.chat("What?", [path], max_slices=most).timings.image_tokens[0]
        assert len(asked.prepare(path, most).tiles) == tiles
        assert tokens == sum(tile.rows for tile in asked.prepare(path, most).tiles)


def test_a_picture_that_cannot_fit_is_refused_before_it_is_encoded() -> None:
    asked = model(context=200)
    message = (
        r"the prompt has \d+ tokens \(320 of them for 1 picture\), the context of this bundle has "
        r"200 positions; lower --max-slices \(1 leaves at most \d+ tokens\), or compile with a "
        r"larger"
    )
    with pytest.raises(ContextFullError, match=message):
        asked.chat("What?", [noise(1000, 1000)])
    with pytest.raises(
        InputError, match=r"320 tokens \(320 of them for 1 picture\).*1 leaves at most 64"
    ):
        asked.prepare(noise(1000, 1000))
    assert asked.session.images == 0 and asked.session.prefilled == []
    assert asked.chat("What?", [noise(1000, 1000)], max_slices=1, max_tokens=1).tokens


def test_fewer_slices_are_not_proposed_where_they_do_not_help() -> None:
    with pytest.raises(ContextFullError, match=r"2 pictures\).*; shorten the prompt, or"):
        model(context=100).chat("What?", [noise(1000, 1000)] * 2)


@pytest.mark.parametrize("vision", [None, MANIFEST.vision])
def test_a_model_without_slices_refuses_the_option(vision: Any) -> None:
    asked = model(manifest=dataclasses.replace(MODEL, vision=vision))
    message = "max_slices=2: this model does not slice pictures"
    with pytest.raises(UsageError, match=message):
        asked.chat("What?", max_slices=2)
    with pytest.raises(UsageError, match=message):
        asked.prepare(noise(9, 9), 2)
