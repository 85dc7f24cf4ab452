"""Text that arrives byte by byte: only whole characters are emitted, and none are lost."""

import random

import pytest

from handglass.errors import UsageError
from handglass.runtime.answer.stream import TextStream

TEXTS = ["", "plain", "é你好🙂🏽", "a\u0000b\r\n", "e\u0301 combining", "\ufeffstart", "𝔘𝔫𝔦"]


def pieces(data: bytes, rng: random.Random) -> list[bytes]:
    cuts = sorted(rng.choices(range(len(data) + 1), k=rng.randrange(6)))
    return [data[a:b] for a, b in zip([0, *cuts], [*cuts, len(data)], strict=True)]


def feed(parts: list[bytes], stop: tuple[str, ...] = ()) -> tuple[TextStream, list[str]]:
    stream = TextStream(stop)
    chunks = [stream.feed(part) for part in parts]
    return stream, [*chunks, stream.finish()]


@pytest.mark.parametrize("text", TEXTS)
def test_any_cutting_gives_the_text_in_whole_characters(text: str) -> None:
    rng = random.Random(text)
    data = text.encode()
    for parts in [
        [data[i : i + 1] for i in range(len(data))],
        *(pieces(data, rng) for _ in "x" * 20),
    ]:
        stream, chunks = feed(parts)
        assert "".join(chunks) == stream.text == text
        assert "\ufffd" not in stream.text


def test_a_character_is_held_until_it_is_whole() -> None:
    stream = TextStream()
    assert [stream.feed(bytes([b])) for b in "🙂".encode()] == ["", "", "", "🙂"]


@pytest.mark.parametrize(
    ("data", "chunks"),
    [
        (b"a\xff", ["a", "\ufffd", ""]),  # cannot begin a character: replaced at once
        (b"\xe4\xbd", ["", "", "\ufffd"]),  # could become a character until the end
        (b"\xe4a", ["", "\ufffda", ""]),  # invalid after the next byte
        (b"\x80", ["\ufffd", ""]),
    ],
)
def test_wrong_bytes_are_replaced_when_proven_wrong(data: bytes, chunks: list[str]) -> None:
    assert feed([data[i : i + 1] for i in range(len(data))])[1] == chunks


def test_random_bytes_decode_as_python_does() -> None:
    rng = random.Random(1)
    for _ in range(300):
        data = bytes(rng.choices([0x20, 0x41, 0x80, 0xBF, 0xC3, 0xE4, 0xED, 0xF0, 0xFF], k=9))
        assert "".join(feed(pieces(data, rng))[1]) == data.decode("utf-8", "replace")


@pytest.mark.parametrize(
    ("text", "stop", "expected"),
    [
        ("hello world", ("wor",), "hello "),
        ("aaab", ("aab",), "a"),
        ("ababac", ("abac",), "ab"),
        ("no stop here", ("xyz",), "no stop here"),
        ("ends with half a sto", ("stop",), "ends with half a sto"),
        ("one two", ("two", "one"), ""),
        ("问题？答案", ("？",), "问题"),
        ("abc", ("bcd", "bc"), "a"),
    ],
)
def test_stop_strings_end_the_text(text: str, stop: tuple[str, ...], expected: str) -> None:
    data = text.encode()
    rng = random.Random(text)
    for parts in [[data], [data[i : i + 1] for i in range(len(data))], pieces(data, rng)]:
        stream, chunks = feed(parts, stop)
        assert "".join(chunks) == stream.text == expected
        assert stream.stopped is (expected != text)


def test_only_a_possible_beginning_of_a_stop_is_held() -> None:
    stream = TextStream(["STOP"])
    assert [stream.feed(b) for b in (b"a", b"bS", b"TO", b"x", b"S")] == ["a", "b", "", "STOx", ""]
    assert stream.finish() == "S"


def test_after_a_stop_nothing_comes() -> None:
    stream = TextStream(["."])
    assert stream.feed(b"one. two") == "one"
    assert stream.feed(b"three") == stream.finish() == ""


@pytest.mark.parametrize("stop", ["text", [""], [3], [None]])
def test_stop_must_be_a_list_of_texts(stop: object) -> None:
    with pytest.raises(UsageError, match="stop="):
        TextStream(stop)  # type: ignore[arg-type]
