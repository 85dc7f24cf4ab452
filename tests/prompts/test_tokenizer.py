"""Tokenizers: exact round trips of bytes; user text never becomes a special token."""

import random
from pathlib import Path

import pytest
from vocabularies import (
    CORPUS,
    MARKERS,
    SPECIAL,
    byte_fallback_json,
    byte_level_json,
    sentencepiece_model,
)

from handglass.errors import InputError
from handglass.runtime.prompt.tokenizer import Tokenizer, open_tokenizer
from handglass.runtime.prompt.vocabularies import byte_alphabet

KINDS = {
    "sentencepiece": ("sentencepiece", sentencepiece_model),
    "spelled tags": ("sentencepiece", lambda: sentencepiece_model(("<image>", "</image>", "\n"))),
    "byte level": ("tokenizers", byte_level_json),
    "byte fallback": ("tokenizers", byte_fallback_json),
}


@pytest.fixture(params=KINDS)
def tokenizer(request: pytest.FixtureRequest, tmp_path: Path) -> Tokenizer:
    return make(request.param, tmp_path)


def make(kind: str, folder: Path) -> Tokenizer:
    name, data = KINDS[kind]
    (folder / "tokenizer").write_bytes(data())
    return open_tokenizer(name, folder / "tokenizer", MARKERS)


TEXTS = [
    *CORPUS,
    "",
    " ",
    "  leading and trailing  ",
    "\t\r\n\x00\x7f",
    "🙂🏽 e\u0301 é ﷺ",
    "0123456789",
    "<b>bold</b> < s > a<b",
    "<think> is text",
    "><",
    "<0x41> is no byte",
    "ünïcödé\u00a0nbsp\u200bzero",
]


@pytest.mark.parametrize("text", TEXTS)
def test_text_comes_back_to_the_byte(tokenizer: Tokenizer, text: str) -> None:
    ids = tokenizer.encode(text)
    assert all(0 <= i < tokenizer.vocab_size for i in ids)
    assert tokenizer.decode(ids) == text.encode()
    assert b"".join(map(tokenizer.surface, ids)) == text.encode()


def test_random_text_comes_back_to_the_byte(tokenizer: Tokenizer) -> None:
    rng = random.Random(3)
    alphabet = "ab \n<>/ 你好é🙂1.?_" + "".join(chr(i) for i in range(0x20, 0x7F))
    for _ in range(200):
        text = "".join(rng.choices(alphabet, k=rng.randrange(30)))
        assert tokenizer.decode(tokenizer.encode(text)) == text.encode()


@pytest.mark.parametrize("marker", SPECIAL)
@pytest.mark.parametrize("frame", ["{}", "a {} b", "{0}{0}", "<{}>", "{}\n", "</ima{}ge>"])
def test_special_strings_stay_text(tokenizer: Tokenizer, marker: str, frame: str) -> None:
    text = frame.format(marker)
    ids = tokenizer.encode(text)
    assert tokenizer.decode(ids) == text.encode()
    for special in SPECIAL:
        found = tokenizer._vocabulary.find(special)
        assert found is None or found not in ids


def test_ordinary_text_is_encoded_in_one_go(tmp_path: Path) -> None:
    import sentencepiece

    model = sentencepiece.SentencePieceProcessor(model_proto=sentencepiece_model())
    tokenizer = make("sentencepiece", tmp_path)
    for text in CORPUS:
        assert tokenizer.encode(text) == model.encode(text)


@pytest.mark.parametrize("tag", ["<用户>", "<AI>"])
def test_tags_with_a_piece_of_their_own_are_spelled_out(tmp_path: Path, tag: str) -> None:
    for kind in ("sentencepiece", "byte level"):
        tokenizer = make(kind, tmp_path)
        ids = tokenizer.encode(f"I say {tag} to you")
        assert len(tokenizer.marker_ids(tag)) == 1
        assert tokenizer.marker_ids(tag)[0] not in ids
        assert tokenizer.decode(ids) == f"I say {tag} to you".encode()


@pytest.mark.parametrize("tag", ["<用户>", "<AI>"])
def test_tags_with_one_spelling_only_are_refused(tmp_path: Path, tag: str) -> None:
    tokenizer = make("spelled tags", tmp_path)
    assert len(tokenizer.marker_ids(tag)) > 1
    for text in (tag, f"I say:{tag}to you"):
        with pytest.raises(InputError, match=f"'{tag}'"):
            tokenizer.encode(text)
    assert tokenizer.decode(tokenizer.encode("<A I>")) == b"<A I>"


def test_special_tokens_have_ids_and_no_bytes(tmp_path: Path) -> None:
    for kind in ("sentencepiece", "byte level"):
        tokenizer = make(kind, tmp_path)
        for token in ("<s>", "</s>", "<unk>"):
            assert tokenizer.surface(tokenizer.token_id(token)) == b""
        assert tokenizer.token_id("<image>") != tokenizer.token_id("</image>")


def test_ids_of_the_control_tokens_are_the_models(tmp_path: Path) -> None:
    tokenizer = make("sentencepiece", tmp_path)
    assert [tokenizer.token_id(t) for t in ("<unk>", "<s>", "</s>")] == [0, 1, 2]


def test_an_unknown_token_is_named(tokenizer: Tokenizer) -> None:
    with pytest.raises(InputError, match="'<nope>'"):
        tokenizer.token_id("<nope>")


def test_bytes_of_a_character_come_one_by_one(tmp_path: Path) -> None:
    for kind in ("sentencepiece", "byte fallback"):
        tokenizer = make(kind, tmp_path)
        parts = [tokenizer.surface(i) for i in tokenizer.encode("🙂")]
        assert parts == [bytes([b]) for b in "🙂".encode()]


def test_negative_ids_are_refused(tokenizer: Tokenizer) -> None:
    with pytest.raises(InputError, match="token id -1 "):
        tokenizer.decode([-1])


def test_rows_of_the_embedding_without_a_token_have_no_text(tokenizer: Tokenizer) -> None:
    """Tables are padded; the session refuses ids beyond the table."""
    assert tokenizer.decode([tokenizer.vocab_size, 10**6]) == b""


def test_half_a_surrogate_pair_is_refused(tokenizer: Tokenizer) -> None:
    with pytest.raises(InputError, match="not valid Unicode"):
        tokenizer.encode("a\ud83d")


@pytest.mark.parametrize("data", [b"", b"garbage", b"{}", b"[]", b"null", b"\x0a\xff\xff\xff"])
@pytest.mark.parametrize("kind", ["sentencepiece", "tokenizers"])
def test_files_that_are_no_tokenizer_are_refused(tmp_path: Path, kind: str, data: bytes) -> None:
    path = tmp_path / "tokenizer.model"
    path.write_bytes(data)
    with pytest.raises(InputError, match=r"tokenizer\.model: ") as caught:
        open_tokenizer(kind, path)
    assert "\n" not in str(caught.value)


def test_an_unknown_kind_and_a_missing_file_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        open_tokenizer("sentencepiece", tmp_path / "none")
    (tmp_path / "x").write_bytes(b"x")
    with pytest.raises(InputError, match="'words'"):
        open_tokenizer("words", tmp_path / "x")


def test_a_decoder_we_do_not_know_is_refused(tmp_path: Path) -> None:
    data = byte_fallback_json().replace(b'"ByteFallback"', b'"WordPiece"')
    (tmp_path / "x").write_bytes(data)
    with pytest.raises(InputError, match="WordPiece"):
        open_tokenizer("tokenizers", tmp_path / "x")


def test_the_byte_alphabet_is_that_of_the_library() -> None:
    from tokenizers import pre_tokenizers

    assert set(byte_alphabet()) == set(pre_tokenizers.ByteLevel.alphabet())
    assert sorted(byte_alphabet().values()) == list(range(256))


def test_without_reserved_strings_text_is_text() -> None:
    class Letters:
        size = 128
        special: frozenset[str] = frozenset()

        def encode(self, text: str) -> list[int]:
            return [ord(c) for c in text]

        def surface(self, token: int) -> bytes:
            return bytes([token])

        def find(self, piece: str) -> int | None:
            return ord(piece) if len(piece) == 1 else None

    tokenizer = Tokenizer(Letters())
    assert tokenizer.decode(tokenizer.encode("<s>")) == b"<s>"
    with pytest.raises(InputError, match="'#'"):  # a single character cannot be split
        Tokenizer(Letters(), ["#"]).encode("a#b")
