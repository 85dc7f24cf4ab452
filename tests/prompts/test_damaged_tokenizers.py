"""Damaged and hostile tokenizer files: an InputError when they are opened, or soon after."""

import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from vocabularies import byte_fallback_json, byte_level_json, sentencepiece_model

from handglass.errors import InputError
from handglass.runtime.prompt import foreign_calls
from handglass.runtime.prompt.foreign_calls import foreign, within
from handglass.runtime.prompt.patterns import check_patterns
from handglass.runtime.prompt.tokenizer import Tokenizer, open_tokenizer


def opened(folder: Path, kind: str, data: bytes) -> Tokenizer:
    (folder / "tokenizer").write_bytes(data)
    return open_tokenizer(kind, folder / "tokenizer")


def changed(data: bytes, change: Callable[[Any], object]) -> bytes:
    table = json.loads(data)
    change(table)
    return json.dumps(table).encode()


def with_pattern(pattern: str) -> bytes:
    split = {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated"}
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True}
    steps = [{**split, "invert": False}, {**level, "use_regex": False}]
    entry = {"type": "Sequence", "pretokenizers": steps}
    return changed(byte_level_json(), lambda table: table.update(pre_tokenizer=entry))


CATASTROPHIC = [
    r"^(([a-z])+.)+[A-Z]([a-z])+$",
    r"(?:a*)*b",
    r"(x+x+)+y",
    r"((a|b)*c{2,})+",
    r"(a{1,50}){1,50}$",
    r"(\w+)\1",
]


@pytest.mark.parametrize("pattern", CATASTROPHIC)
def test_patterns_of_exponential_time_are_refused(tmp_path: Path, pattern: str) -> None:
    with pytest.raises(InputError, match="tokenizer: pre_tokenizer: .*") as caught:
        opened(tmp_path, "tokenizers", with_pattern(pattern))
    assert repr(pattern) in str(caught.value)


IN_USE = [
    r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{M}]*[\p{Ll}\p{M}]+(?i:'s|'t|'re)?| ?[^\s\p{L}]+[\r\n/]*|\s+",
    r" ?[^(\s|[.,!?…。，、।۔،])]+",
    r"[!-/:-~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+|\s+",
    r"\s?\p{L}+|\(\[+\)*|\d{1,3}(?=(?:\d{3})*\b)",
]


@pytest.mark.parametrize("pattern", IN_USE)
def test_patterns_of_tokenizers_in_use_are_accepted(pattern: str) -> None:
    check_patterns({"pre_tokenizer": {"pattern": {"Regex": pattern}}}, "x")


def test_a_pattern_of_polynomial_time_ends_with_an_error(tmp_path: Path) -> None:
    pattern = r"\s*\s*\s*\s*[0-9][a-z]|\w+"
    (tmp_path / "tokenizer.json").write_bytes(with_pattern(pattern))
    program = (
        "import sys, pathlib\n"
        "from handglass.errors import InputError\n"
        "from handglass.runtime.prompt.tokenizer import open_tokenizer\n"
        "tokenizer = open_tokenizer('tokenizers', pathlib.Path(sys.argv[1]))\n"
        "try: tokenizer.encode(' ' * 500 + '1 z 1')\n"
        "except InputError as error: sys.exit(str(error))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "tokenizer.json")],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 1
    assert "tokenizer.json" in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr


def test_a_call_that_does_not_end_is_an_error() -> None:
    with pytest.raises(InputError, match="x.json"):
        within(0.01, lambda: time.sleep(1), "x.json")
    assert within(1, lambda: 7, "x.json") == 7


def test_every_kind_of_exception_is_an_input_error() -> None:
    class Panic(BaseException):
        pass

    for error in (
        Panic("a\nb\x1b[31m"),
        KeyError("x"),
        UnicodeDecodeError("utf-8", b"", 0, 1, "no"),
    ):
        with (
            pytest.raises(InputError, match=r"file: opening: .*") as caught,
            foreign("file", "opening"),
        ):
            raise error
        assert str(caught.value).isprintable()
    with pytest.raises(KeyboardInterrupt), foreign("file", "opening"):
        raise KeyboardInterrupt


def drop(piece: str) -> Callable[[Any], object]:
    return lambda table: table["model"]["vocab"].pop(piece)


DAMAGED = {
    "no piece for a byte": (byte_level_json, drop("!"), "'!'"),
    "no fallback for a byte": (byte_fallback_json, drop("<0x41>"), "<0x41>"),
    "foreign character": (
        byte_level_json,
        lambda table: table["model"]["vocab"].update({"\x1b[31m": 9000}),
        r"x1b",
    ),
    "huge id": (
        byte_level_json,
        lambda table: table["model"]["vocab"].update({"!!!!!": (1 << 32) - 1}),
        str((1 << 32) - 1),
    ),
    "no vocabulary": (byte_level_json, lambda table: table["model"].pop("vocab"), "damaged"),
    "upper case": (
        byte_level_json,
        lambda table: table.update(normalizer={"type": "Lowercase"}),
        "comes back as",
    ),
    "nested": (
        byte_level_json,
        lambda table: table.update(pre_tokenizer=json.loads('{"a":' * 200 + "1" + "}" * 200)),
        "nested",
    ),
}


@pytest.mark.parametrize("case", DAMAGED)
def test_damaged_files_are_refused_when_opened(tmp_path: Path, case: str) -> None:
    data, change, message = DAMAGED[case]
    with pytest.raises(InputError, match=message) as caught:
        opened(tmp_path, "tokenizers", changed(data(), change))
    assert str(tmp_path) in str(caught.value) and "\n" not in str(caught.value)


def test_a_panic_is_one_line_of_ours(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    prefix = lambda table: table["model"].update(continuing_subword_prefix="#########")  # noqa: E731
    with pytest.raises(InputError) as caught:
        opened(tmp_path, "tokenizers", changed(byte_level_json(), prefix))
    assert str(tmp_path) in str(caught.value)
    os.write(2, b"visible again")
    assert capfd.readouterr().err == "visible again"


def test_ids_may_have_gaps(tmp_path: Path) -> None:
    data = changed(byte_level_json(), lambda t: t["model"]["vocab"].update({"ĠĠĠĠĠĠ": 5000}))
    assert opened(tmp_path, "tokenizers", data).surface(5000) == b" " * 6


@pytest.mark.parametrize("kind", ["sentencepiece", "tokenizers"])
def test_random_damage_is_never_another_error(tmp_path: Path, kind: str) -> None:
    data = sentencepiece_model() if kind == "sentencepiece" else byte_level_json()
    rng = random.Random(4)
    for _ in range(150):
        damaged = bytearray(data)
        for _ in range(rng.randrange(1, 6)):
            damaged[rng.randrange(len(data))] = rng.randrange(256)
        try:
            tokenizer = opened(tmp_path, kind, bytes(damaged))
            tokenizer.encode("What is this? é")
            tokenizer.marker_ids("<AI>")
            for token in range(tokenizer.vocab_size):
                tokenizer.surface(token)
        except InputError as error:
            assert "\n" not in str(error)


CASES = ["tokenizer-regex.json", "tokenizer-bytes.json"]
CASES += ["sentencepiece-1.model", "sentencepiece-2.model"]


@pytest.mark.parametrize("name", CASES)
def test_known_cases_are_refused(name: str) -> None:
    path = Path(__file__).parents[3] / "shared" / "cases" / name
    if not path.exists():
        pytest.skip("damaged files of users are read from ../shared/cases")
    kind = "tokenizers" if path.suffix == ".json" else "sentencepiece"
    with pytest.raises(InputError, match=name):
        open_tokenizer(kind, path)


def test_the_time_grows_with_the_text() -> None:
    assert foreign_calls.seconds_for("x" * 1_000_000) > 10
