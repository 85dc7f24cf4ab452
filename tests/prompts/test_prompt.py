"""Prompts against a template written out by hand, with one id per character."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from manifests import seed_prompt
from PIL import Image

from handglass.errors import InputError
from handglass.runtime.prompt.chat_template import MARK, Prompt, Slot, Tokens, build_prompt
from handglass.runtime.prompt.tokenizer import Tokenizer

TEMPLATE = seed_prompt()
PIECES = ["<s>", "</s>", "<unk>", "<image>", "</image>", "<AI>"]  # <用户> is spelled


class Characters:
    """One id per character, and a few whole pieces from id 0x110000 up."""

    size = 0x110000 + len(PIECES)
    special = frozenset(PIECES)

    def encode(self, text: str) -> list[int]:
        return [ord(c) for c in text]

    def surface(self, token: int) -> bytes:
        return chr(token).encode()

    def find(self, piece: str) -> int | None:
        return 0x110000 + PIECES.index(piece) if piece in PIECES else None


TOKENIZER = Tokenizer(Characters(), TEMPLATE.reserved)


def shown(prompt: Prompt) -> str:
    """The prompt as text, with [k] for picture k."""
    out = ""
    for segment in prompt.segments:
        if isinstance(segment, Slot):
            out += f"[{segment.picture}]"
            continue
        assert isinstance(segment, Tokens)
        out += "".join(PIECES[i - 0x110000] if i >= 0x110000 else chr(i) for i in segment.ids)
    return out


@dataclass(frozen=True)
class FakeTile:
    picture: Any
    role: str = "picture"


def one_tile(picture: Any) -> list[FakeTile]:
    return [FakeTile(picture)]


def pictures(prompt: Prompt) -> list[Any]:
    return [tile.picture for (tile,) in prompt.pictures]


def build(messages: Any, *images: Any) -> Prompt:
    return build_prompt(messages, images, TOKENIZER, TEMPLATE, one_tile)


def user(content: Any) -> dict[str, Any]:
    return {"role": "user", "content": content}


def assistant(content: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": content}


A, B, C = (Image.new("RGB", (size, size)) for size in (1, 2, 3))
P0, P1, P2 = ("<image>[0]</image>", "<image>[1]</image>", "<image>[2]</image>")
CASES = {
    "text": ("Hello", (), "<s><用户>Hello<AI>"),
    "text as typed": ("  Hello \n\n", (), "<s><用户>  Hello \n\n<AI>"),
    "seed form": (MARK + "What is this picture?", (A,), f"<s><用户>{P0}What is this picture?<AI>"),
    "2.0 form": (MARK + "\nWhat?", (A,), f"<s><用户>{P0}\nWhat?<AI>"),
    "no mark": ("What?", (A,), f"<s><用户>{P0}What?<AI>"),
    "no mark, two": ("Which?", (A, B), f"<s><用户>{P0}{P1}Which?<AI>"),
    "marks between": (f"x{MARK}y {MARK}", (A, B), f"<s><用户>x{P0}y {P1}<AI>"),
    "marks in a row": (MARK * 3, (A, B, C), f"<s><用户>{P0}{P1}{P2}<AI>"),
    "picture only": ("", (A,), f"<s><用户>{P0}<AI>"),
    "turns": (
        [user("a"), assistant("b"), user("c")],
        (),
        "<s><用户>a<AI>b<用户>c<AI>",
    ),
    "turns, no mark": (
        [user("a"), assistant("b"), user("c")],
        (A,),
        f"<s><用户>{P0}a<AI>b<用户>c<AI>",
    ),
    "marks in two turns": (
        [user(f"{MARK}a"), assistant("b"), user(f"c{MARK}")],
        (A, B),
        f"<s><用户>{P0}a<AI>b<用户>c{P1}<AI>",
    ),
    "list content": ([user([A, "What?"])], (), f"<s><用户>{P0}\nWhat?<AI>"),
    "list of texts": ([user(["a", "b"])], (), "<s><用户>a\nb<AI>"),
    "list in later turn": (
        [user([A, "a"]), assistant("b"), user([B, C, "c"])],
        (),
        f"<s><用户>{P0}\na<AI>b<用户>{P1}\n{P2}\nc<AI>",
    ),
    "typed parts": (
        [user([{"type": "image", "image": A}, {"type": "text", "text": "a"}])],
        (),
        f"<s><用户>{P0}\na<AI>",
    ),
    "assistant list": (
        [user("a"), assistant(["b", "c"]), user("d")],
        (),
        "<s><用户>a<AI>b\nc<用户>d<AI>",
    ),
    "empty answer": ([user("a"), assistant(""), user("b")], (), "<s><用户>a<AI><用户>b<AI>"),
    "inline and marked": ([user([B, f"a{MARK}b"])], (A,), f"<s><用户>{P0}\na{P1}b<AI>"),
    "a mark of the assistant": (
        [user("a"), assistant(f"use {MARK}"), user("b")],
        (),
        f"<s><用户>a<AI>use {MARK}<用户>b<AI>",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_prompts_are_the_template_filled_in(case: str) -> None:
    messages, images, expected = CASES[case]
    assert shown(build(messages, *images)) == expected


def test_pictures_come_in_the_order_of_their_slots() -> None:
    assert pictures(build(f"{MARK}x{MARK}", A, B)) == [A, B]
    assert pictures(build([user([B, f"a{MARK}b"])], A)) == [B, A]
    array = np.zeros((2, 2, 3), np.uint8)
    assert pictures(build([user([array, "x"])]))[0] is array
    assert pictures(build([user([{"type": "image", "image": "c.png"}, "x"])])) == ["c.png"]


def test_special_strings_in_text_are_no_special_tokens() -> None:
    prompt = build("a </image><unk> <s> <AI>", A)
    ids = [i for s in prompt.segments if isinstance(s, Tokens) for i in s.ids]
    assert [i - 0x110000 for i in ids if i >= 0x110000] == [0, 3, 4, 5]  # <s> <image> </image> <AI>


def test_a_tag_that_cannot_be_spelled_otherwise_is_refused() -> None:
    with pytest.raises(InputError, match="'<用户>'"):
        build("a<用户>b")


@pytest.mark.parametrize(("marks", "pictures"), [(1, 0), (2, 1), (1, 2), (3, 2)])
def test_marks_and_pictures_must_agree(marks: int, pictures: int) -> None:
    with pytest.raises(InputError, match=f"{marks}, .*{pictures};"):
        build("x" + MARK * marks, *[A] * pictures)


REFUSED = {
    "empty text": ("", "message 1: .*empty"),
    "blank text": (" \n ", "message 1: .*empty"),
    "no messages": ([], "the prompt is empty"),
    "none": (None, "the prompt is empty"),
    "number": (7, "the prompt is empty"),
    "no dict": (["hello"], "message 1 .*dict"),
    "no content": ([{"role": "user"}], "message 1 .*role and content"),
    "no role": ([{"content": "a"}], "message 1 .*role and content"),
    "unknown role": ([{"role": "system", "content": "a"}], "role 'system'"),
    "role no text": ([{"role": ["user"], "content": "a"}], r"role \['user'\]"),
    "two users": ([user("a"), user("b")], "message 2: .*'user', .*'assistant'"),
    "assistant first": ([assistant("a")], "message 1: .*'assistant', .*'user'"),
    "assistant last": ([user("a"), assistant("b")], "message 2: .*'user'"),
    "empty later": ([user("a"), assistant("b"), user([])], "message 3: .*empty"),
    "content number": ([user(3)], "message 1: content"),
    "content bytes": ([user(b"x")], "message 1: content"),
    "content null": ([user(None)], "message 1: content"),
    "unknown part": ([user([{"type": "audio", "audio": "x"}])], "message 1: .*'type'"),
    "part without type": ([user([{"text": "x"}])], "message 1: .*'type'"),
    "part without text": ([user([{"type": "text"}])], "message 1: .*'type'"),
    "picture of the assistant": (
        [user("a"), assistant([A]), user("b")],
        "message 2: .*pictures",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_bad_messages_are_one_clear_error(case: str) -> None:
    messages, message = REFUSED[case]
    with pytest.raises(InputError, match=message) as caught:
        build(messages)
    assert "\n" not in str(caught.value)


def test_the_callers_messages_are_left_as_they_were() -> None:
    messages = [user(["a"]), assistant("b"), user([A, "c"])]
    build(messages)
    build(messages)
    assert messages == [user(["a"]), assistant("b"), user([A, "c"])]


def test_a_template_without_begin_token() -> None:
    template = seed_prompt("")
    assert shown(build_prompt("a", [], TOKENIZER, template, one_tile)) == "<用户>a<AI>"
