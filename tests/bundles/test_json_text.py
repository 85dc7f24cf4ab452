"""JSON from strangers: parsed within limits, printed whole and escaped."""

import json
from typing import Any

import pytest

from handglass.errors import InputError
from handglass.runtime.system.json_text import DEPTH, parse_json
from handglass.runtime.system.printable import json_text, printable


def parse(data: bytes, limit: int = 10_000) -> Any:
    return parse_json(data, "x.json", limit)


def nested(depth: int) -> bytes:
    return b"[" * depth + b"1" + b"]" * depth


def test_what_is_read() -> None:
    assert parse(b'\xef\xbb\xbf{"a": 1}') == {"a": 1}  # with a byte-order mark
    assert parse(f"[{2**63 - 1}, {-(2**63)}, 1.5e300]".encode()) == [2**63 - 1, -(2**63), 1.5e300]
    assert parse(nested(DEPTH - 1)) == json.loads(nested(DEPTH - 1))
    assert parse(rb'"\ud83d\ude00"') == "\U0001f600"


REFUSED = {
    "too large": (b" " * 10_001, "10000"),
    "deep": (nested(DEPTH + 1), str(DEPTH)),
    "very deep": (nested(4000), str(DEPTH)),
    "64 bits": (b"[9223372036854775808]", "9223372036854775808"),
    "5,000 digits": (b"1" * 5000, "11111"),
    "infinite": (b"[1e999]", "1e999"),
    "no number": (b"[NaN]", "NaN"),
    "twice": (b'{"a": 1, "a": 2}', "'a'"),
    "surrogate": (rb'{"a": "\udfff"}', "udfff"),
    "surrogate in a key": (rb'{"\ud800": 1}', "ud800"),
    "UTF-16": ('{"a": 1}'.encode("utf-16"), "utf-8"),
    "pointer": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n", "lfs pull"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_refused(case: str) -> None:
    data, message = REFUSED[case]
    with pytest.raises(InputError, match=message) as caught:
        parse(data)
    assert str(caught.value).startswith("x.json: ") and len(str(caught.value)) < 300


HOSTILE = "a\x1b[31m\x07\x9b2J\u202e\ud800\x7f\n\u200b\U000e0001b"


def test_text_is_printed_escaped() -> None:
    shown = printable(HOSTILE)
    assert shown.isprintable() and shown.startswith(r"a\x1b[31m\x07\x9b2J\u202e\ud800\x7f\n")
    assert printable("图 1/2 é") == "图 1/2 é"
    assert printable("a\nb\r", lines=True) == "a\nb\\r"


def test_json_is_printed_escaped_and_comes_back() -> None:
    text = json_text({HOSTILE: [HOSTILE, "图"]})
    assert text.isprintable() and "图" in text
    assert json.loads(text) == {HOSTILE: [HOSTILE, "图"]}
