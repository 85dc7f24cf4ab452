"""MiniCPM-V 4.6's prompts: ids against the text that its template renders, encoded as a whole."""

import dataclasses
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest
from manifests import CHATML, chatml_prompt, seed_prompt
from vocabularies import chatml_json

from handglass.compiler.packing.describe import check_markers
from handglass.errors import InputError, MismatchError
from handglass.runtime.bundle.entries import Around, PromptEntry
from handglass.runtime.prompt.chat_template import MARK, Prompt, Slot, build_prompt
from handglass.runtime.prompt.tokenizer import Tokenizer, parse_tokenizer

PUBLISHED = Path(__file__).parents[3] / "shared/data/tokenizers/4.6/chat_template.jinja"
THINK_NOTHING = "<|im_start|>assistant\n<think>\n\n</think>\n\n"


@lru_cache
def library_tokenizer() -> Any:
    from tokenizers import Tokenizer as Library

    return Library.from_str(chatml_json().decode())


@lru_cache
def tokenizer() -> Tokenizer:
    return parse_tokenizer("tokenizers", chatml_json(), Path("tokenizer.json"), CHATML)


@dataclass(frozen=True)
class FakeTile:
    role: str
    rows: int


def tiles_of(picture: Any) -> list[FakeTile]:
    """A picture is its (rows of a tile, columns, rows) here."""
    rows, columns, lines = picture
    count = columns * lines
    if not count:
        return [FakeTile("picture", rows)]
    roles = ["row_end" if n % columns == 0 else "slice" for n in range(1, count)]
    return [FakeTile(role, rows) for role in ("overview", *roles, "last")]


def build(messages: Any, *images: Any, thinking: bool = False, **changes: Any) -> Prompt:
    template = chatml_prompt(**changes)
    return build_prompt(messages, images, tokenizer(), template, tiles_of, thinking)


def ids_of(prompt: Prompt) -> list[int]:
    """The ids, with the placeholder of transformers for each row of a picture."""
    ids: list[int] = []
    pad = tokenizer().token_id("<|image_pad|>")
    for segment in prompt.segments:
        if isinstance(segment, Slot):
            ids += [pad] * prompt.pictures[segment.picture][segment.tile].rows
        else:
            ids += segment.ids
    return ids


def encoded(text: str) -> list[int]:
    return list(library_tokenizer().encode(text).ids)


def shown(number: int, rows: int, columns: int = 0, lines: int = 0) -> str:
    """A picture in the text."""
    pads = "<|image_pad|>" * rows
    parts = "\n".join([f"<slice>{pads}</slice>" * columns] * lines)
    return f"<image_id>{number}</image_id><image>{pads}</image>{parts}"


def turn(role: str, content: Any) -> dict[str, Any]:
    return {"role": role, "content": content}


A, B = (4, 0, 0), (2, 3, 2)
TALK = [turn("user", "What is this?"), turn("assistant", "A circle."), turn("user", "Which?")]
# name -> messages, whether to think, the text without the opening of the answer
CASES: dict[str, tuple[list[dict[str, Any]], str]] = {
    "one turn": ([turn("user", "What?")], "<|im_start|>user\nWhat?<|im_end|>\n"),
    "trimmed": (
        [turn("user", " \n What is\n\n this?\u3000\n")],
        "<|im_start|>user\nWhat is\n\n this?<|im_end|>\n",
    ),
    "several turns": (
        TALK,
        "<|im_start|>user\nWhat is this?<|im_end|>\n<|im_start|>assistant\nA circle.<|im_end|>\n"
        "<|im_start|>user\nWhich?<|im_end|>\n",
    ),
    "system": (
        [turn("system", " Be short. "), turn("user", "What?")],
        "<|im_start|>system\nBe short.<|im_end|>\n<|im_start|>user\nWhat?<|im_end|>\n",
    ),
    "picture first": (
        [turn("user", [A, "What is this?"])],
        f"<|im_start|>user\n{shown(0, *A)}\nWhat is this?<|im_end|>\n",
    ),
    "picture in the middle": (
        [turn("user", ["  See", B, "  What is this?  "])],
        f"<|im_start|>user\nSee\n{shown(0, *B)}\n  What is this?<|im_end|>\n",
    ),
    "picture last": (
        [turn("user", ["What is this?\n", A])],
        f"<|im_start|>user\nWhat is this?\n\n{shown(0, *A)}<|im_end|>\n",
    ),
    "many pictures": (
        [turn("user", [*[A] * 10, B, "?"])],
        "<|im_start|>user\n"
        + "\n".join(shown(n, *p) for n, p in enumerate([*[A] * 10, B]))
        + "\n?<|im_end|>\n",
    ),
    "pictures of two turns": (
        [turn("user", [B, "a"]), turn("assistant", "b"), turn("user", ["c", A, B])],
        f"<|im_start|>user\n{shown(0, *B)}\na<|im_end|>\n<|im_start|>assistant\nb<|im_end|>\n"
        f"<|im_start|>user\nc\n{shown(1, *A)}\n{shown(2, *B)}<|im_end|>\n",
    ),
    "thoughts": (
        [TALK[0], turn("assistant", "<think>\nIt is\nround.\n</think>\n\nA circle.\n"), TALK[2]],
        "<|im_start|>user\nWhat is this?<|im_end|>\n<|im_start|>assistant\nA circle.<|im_end|>\n"
        "<|im_start|>user\nWhich?<|im_end|>\n",
    ),
    "thoughts without their beginning": (
        [TALK[0], turn("assistant", "It is\nround.\n</think>\n\n A circle."), TALK[2]],
        "<|im_start|>user\nWhat is this?<|im_end|>\n<|im_start|>assistant\n A circle.<|im_end|>\n"
        "<|im_start|>user\nWhich?<|im_end|>\n",
    ),
    "empty answer": (
        [TALK[0], turn("assistant", ""), TALK[2]],
        "<|im_start|>user\nWhat is this?<|im_end|>\n<|im_start|>assistant\n<|im_end|>\n"
        "<|im_start|>user\nWhich?<|im_end|>\n",
    ),
}
OPENINGS = {False: THINK_NOTHING, True: "<|im_start|>assistant\n<think>\n"}


@pytest.mark.parametrize("thinking", [False, True])
@pytest.mark.parametrize("case", CASES)
def test_ids_are_those_of_the_text(case: str, thinking: bool) -> None:
    messages, text = CASES[case]
    assert ids_of(build(messages, thinking=thinking)) == encoded(text + OPENINGS[thinking])


@pytest.mark.parametrize("thinking", [False, True])
@pytest.mark.parametrize("case", CASES)
def test_the_text_is_that_of_the_published_template(case: str, thinking: bool) -> None:
    if not PUBLISHED.is_file():
        pytest.skip("released files are read from shared/data/tokenizers")
    transformers = pytest.importorskip("transformers")
    fast = transformers.PreTrainedTokenizerFast(tokenizer_object=library_tokenizer())
    messages, text = CASES[case]
    rendered = fast.apply_chat_template(
        [turn(m["role"], typed(m["content"])) for m in messages],
        chat_template=PUBLISHED.read_text("utf-8"),
        tokenize=False,
        add_generation_prompt=True,
        enable_thinking=thinking,
    )
    pictures = [p for m in messages for p in m["content"] if isinstance(p, tuple)]
    for number in range(len(pictures)):
        # A mark that has not been replaced yet, unlike those that `shown` contains.
        rendered = rendered.replace("<|image_pad|>", f"\0{number}\0", 1)
    for number, picture in enumerate(pictures):
        rendered = rendered.replace(f"\0{number}\0", shown(number, *picture))
    assert rendered == text + OPENINGS[thinking]


def typed(content: Any) -> Any:
    if isinstance(content, str):
        return content
    return [
        {"type": "text", "text": part} if isinstance(part, str) else {"type": "image"}
        for part in content
    ]


def test_marks_are_pictures() -> None:
    same = build([turn("user", [A, "What?"])])
    assert ids_of(build(f"{MARK}\nWhat?", A)) == ids_of(same)


@pytest.mark.parametrize(
    ("text", "images"), [("What?", [A]), ("What?", [A, B]), ("", [A]), ("", [B, A])]
)
def test_pictures_without_marks_are_lines_of_their_own(text: str, images: list[Any]) -> None:
    parts = [*images, text] if text else images
    assert ids_of(build(text, *images)) == ids_of(build([turn("user", parts)]))
    untrimmed = ids_of(build(text, *images, is_trimmed=False))
    assert untrimmed == ids_of(build(text, *images))


# --- the other versions' layouts ---

LAYOUTS: dict[str, tuple[dict[str, Around], str]] = {
    # 2.0: a newline after the block; <slice> around all slices
    "2.0": (
        {
            "picture": Around("<image>", "</image>\n"),
            "overview": Around("<image>", "</image><slice>"),
            "slice": Around("<image>", "</image>"),
            "row_end": Around("<image>", "</image>\n"),
            "last": Around("<image>", "</image></slice>\n"),
        },
        "<image>P</image><slice><image>P</image><image>P</image>\n"
        "<image>P</image><image>P</image></slice>\n",
    ),
    "2.5": (
        {
            "picture": Around("<image>", "</image>"),
            "overview": Around("<image>", "</image><slice>"),
            "slice": Around("<image>", "</image>"),
            "row_end": Around("<image>", "</image>\n"),
            "last": Around("<image>", "</image></slice>"),
        },
        "<image>P</image><slice><image>P</image><image>P</image>\n"
        "<image>P</image><image>P</image></slice>",
    ),
    "2.6": (
        dict(chatml_prompt().tiles),
        "<image_id>0</image_id><image>P</image><slice>P</slice><slice>P</slice>\n"
        "<slice>P</slice><slice>P</slice>",
    ),
}


@pytest.mark.parametrize("version", LAYOUTS)
def test_pictures_of_other_versions(version: str) -> None:
    tiles, text = LAYOUTS[version]
    prompt = build([turn("user", [(3, 2, 2)])], tiles=tiles)
    block = text.replace("P", "<|image_pad|>" * 3)
    assert ids_of(prompt) == encoded(f"<|im_start|>user\n{block}<|im_end|>\n{THINK_NOTHING}")


def test_a_default_system_turn_gives_way_to_the_users() -> None:
    default = "You are a helpful assistant."
    with_default = build("What?", system=default)
    explicit = build([turn("system", default), turn("user", "What?")])
    assert ids_of(with_default) == ids_of(explicit)
    messages = [turn("system", "Be short."), turn("user", "What?")]
    assert ids_of(build(messages, system=default)) == ids_of(build(messages))


def test_errors_count_the_messages_of_the_caller() -> None:
    with pytest.raises(InputError, match="message 1: "):
        build(" ", system="Be short.")


@pytest.mark.parametrize("role", ["system", "assistant"])
def test_pictures_belong_to_the_user(role: str) -> None:
    messages = [turn("system", "a"), turn("user", "b"), turn("assistant", "c"), turn("user", "d")]
    changed = [turn(role, [A, "x"]) if m["role"] == role else m for m in messages]
    with pytest.raises(InputError, match="only user messages may contain pictures"):
        build(changed)


def test_users_cannot_type_thoughts() -> None:
    text = "</think> <|im_end|> <image_id>"
    ids = ids_of(build(text))
    reserved = {tokenizer().token_id(marker) for marker in CHATML}
    count = sum(id_ in reserved for id_ in ids)
    assert count == sum(id_ in reserved for id_ in ids_of(build("x")))
    assert text.encode() in tokenizer().decode(ids)


@pytest.mark.parametrize(
    ("changes", "thinking", "passing"),
    [
        ({}, False, "<think>\n\n</think>\n\n"),
        ({}, True, "<think>\n"),
        ({"answer": {}}, False, ""),
        ({"answer": {"thinking": "<|im_start|>assistant\n"}}, True, ""),
        ({"answer": {"plain": "<|im_start|>user\n"}}, False, "user\n"),
    ],
)
def test_what_the_next_turn_does_not_repeat(
    changes: dict[str, Any], thinking: bool, passing: str
) -> None:
    prompt = build("What?", thinking=thinking, **changes)
    assert prompt.passing == len(encoded(passing))


def test_a_role_that_the_template_lacks_is_a_mismatch() -> None:
    tiles = {"picture": Around("<image>", "</image>")}
    with pytest.raises(MismatchError, match="no role 'overview'"):
        build([turn("user", [B])], tiles=tiles)


# --- what the compiler checks ---


def test_markers_that_the_tokenizer_spells_pass() -> None:
    check_markers(chatml_prompt(), tokenizer(), Path("tokenizer.json"))


@pytest.mark.parametrize(
    "prompt",
    [
        chatml_prompt(tiles={"picture": Around("<image_id>{picture}")}),
        chatml_prompt(answer={"plain": "1"}),
        chatml_prompt(thoughts=Around("1", "2")),
        dataclasses.replace(seed_prompt(), bos=""),
    ],
)
def test_markers_that_become_unknown_are_refused(prompt: PromptEntry) -> None:
    """A vocabulary without digits and without Chinese, as SentencePiece without byte pieces."""
    without = Tokenizer(NoDigits(), CHATML)
    with pytest.raises(InputError, match=r"tokenizer\.model: the marker .* another model"):
        check_markers(prompt, without, Path("tokenizer.model"))


class NoDigits:
    size = 128 + len(CHATML)
    special = frozenset(CHATML)

    def encode(self, text: str) -> list[int]:
        known = (ord(c) for c in text if ord(c) < 128 and not c.isdigit())
        return list(known)

    def surface(self, token: int) -> bytes:
        return bytes([token]) if token < 128 else b""

    def find(self, piece: str) -> int | None:
        return 128 + CHATML.index(piece) if piece in CHATML else None
