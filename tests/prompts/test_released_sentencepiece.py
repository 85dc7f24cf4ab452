"""The released SentencePiece models of MiniCPM-2B and MiniCPM-V 1.0 and 2.0: known token ids.

Skipped where the files are not at hand.
"""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest
import sentencepiece
from published import CONFIGS, released_file

from handglass.compiler.checkpoints.checkpoint import Checkpoint
from handglass.compiler.models.model_config import ModelConfig
from handglass.compiler.packing.describe import find_tokenizer
from handglass.errors import InputError
from handglass.runtime.bundle.entries import PromptEntry
from handglass.runtime.prompt.chat_template import Slot, build_prompt
from handglass.runtime.prompt.tokenizer import Tokenizer, parse_tokenizer

USER, AI = [95396, 4194, 95388], [95396, 10850, 95388]
QUESTION = [5856, 1410, 1536, 7537, 74]
TEXTS = {
    "<用户>": USER,
    "<AI>": AI,
    "\n": [5],
    "What is this picture?": QUESTION,
    "你好": [23523],
    "123 45": [95345, 95349, 95362, 95320, 95370, 95367],
    "Hello  world\n\n  x": [15934, 1345, 11262, 5, 5, 1345, 95356],
}
SPECIAL = {"<image>": 101, "</image>": 102, "<slice>": 111, "</slice>": 112}


FILES = ["minicpm-2b.model", "minicpm-v-1.0.model"]
PLAIN = [
    "1 + 1 = 2; `x`",
    "左边有一个红色的圆。🙂",
    "def f(x):\n\treturn x",
    "  two  ",
    "e\u0301é 👩🏽‍🚀 한국어",
]


@dataclass(frozen=True)
class Tile:
    role: str


@pytest.fixture(scope="module", params=["1.0", "2.0"])
def released(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, Tokenizer, PromptEntry]:
    """2.0 has the model of 1.0, and names for spare pieces in another file."""
    folder = tmp_path_factory.mktemp("released")
    shutil.copy(released_file("minicpm-v-1.0.model"), folder / "tokenizer.model")
    if request.param == "2.0":
        shutil.copy(released_file("2.0/tokenizer_config.json"), folder)
    prompt = ModelConfig.from_dict(CONFIGS[request.param]).prompt
    entry, tokenizer = find_tokenizer(Checkpoint(folder, {}, {}), prompt, 122753)
    assert entry.kind == "sentencepiece"
    return request.param, tokenizer, prompt


@pytest.mark.parametrize("text", TEXTS)
def test_known_texts(released: tuple[str, Tokenizer, PromptEntry], text: str) -> None:
    _, tokenizer, _ = released
    assert list(tokenizer.marker_ids(text)) == TEXTS[text]
    assert tokenizer.decode(TEXTS[text]).decode() == text


@pytest.mark.parametrize("text", PLAIN)
@pytest.mark.parametrize("name", FILES)
def test_texts_are_split_as_by_the_library(name: str, text: str) -> None:
    tokenizer, library = both(name)
    assert tokenizer.encode(text) == library.encode(text)
    assert tokenizer.decode(tokenizer.encode(text)).decode() == text


@pytest.mark.parametrize("name", FILES)
def test_special_pieces_are_one_token_for_the_prompt_only(name: str) -> None:
    tokenizer, library = both(name)
    special = [n for n in range(len(library)) if library.IsControl(n)]
    assert special
    for id_ in special:
        piece = library.id_to_piece(id_)
        assert tokenizer.marker_ids(piece) == (id_,)
        assert id_ not in tokenizer.encode(piece)


@pytest.mark.parametrize("name", FILES)
def test_pieces_of_the_model_are_decoded_as_by_the_library(name: str) -> None:
    """Every user-defined piece, and a sample of the others."""
    tokenizer, library = both(name)
    plain = [n for n in range(len(library)) if not (library.IsControl(n) or library.IsUnknown(n))]
    for id_ in plain[:400] + plain[400::97]:
        assert (
            tokenizer.decode([id_]).decode(errors="replace").strip()
            == library.decode([id_]).strip()
        )


def both(name: str) -> tuple[Tokenizer, sentencepiece.SentencePieceProcessor]:
    path = released_file(name)
    library = sentencepiece.SentencePieceProcessor(model_file=str(path))
    return parse_tokenizer("sentencepiece", path.read_bytes(), path), library


def test_prompt_of_a_picture(released: tuple[str, Tokenizer, PromptEntry]) -> None:
    _, tokenizer, template = released
    ids = prompt_ids(tokenizer, template, ["picture"])
    assert ids == [1, *USER, 101, *[0] * 64, 102, 5, *QUESTION, *AI]
    assert len(ids) == 79 and ids[5:69] == [0] * 64


def test_prompt_of_slices(released: tuple[str, Tokenizer, PromptEntry]) -> None:
    version, tokenizer, template = released
    if version == "1.0":
        assert set(template.tiles) == {"picture"}
        return
    tile = [101, *[0] * 64, 102]
    roles = ["overview", "slice", "row_end", "slice", "last"]
    slices = [111, *tile, *tile, 5, *tile, *tile, 112]
    assert prompt_ids(tokenizer, template, roles) == [
        *[1, *USER, *tile, *slices, 5],
        *[*QUESTION, *AI],
    ]


def prompt_ids(tokenizer: Tokenizer, template: PromptEntry, roles: list[str]) -> list[int]:
    """With 64 unknown tokens in the place of each tile."""
    tiles = [Tile(role) for role in roles]
    prompt = build_prompt("What is this picture?", [object()], tokenizer, template, lambda _: tiles)
    parts = ([0] * 64 if isinstance(s, Slot) else list(s.ids) for s in prompt.segments)
    return [id_ for part in parts for id_ in part]


def test_special_strings_of_users_stay_text(
    released: tuple[str, Tokenizer, PromptEntry],
) -> None:
    version, tokenizer, _ = released
    for text, id_ in SPECIAL.items():
        if version == "2.0" or id_ < 109:
            assert tokenizer.marker_ids(text) == (id_,)
            assert id_ not in tokenizer.encode(text)


# --- renaming ---


def folder_with(folder: Path, data: bytes, names: dict[str, str]) -> Checkpoint:
    (folder / "tokenizer.model").write_bytes(data)
    added = {key: {"content": text, "special": True} for key, text in names.items()}
    (folder / "tokenizer_config.json").write_text(json.dumps({"added_tokens_decoder": added}))
    return Checkpoint(folder, {}, {})


def test_only_spare_pieces_are_renamed(tmp_path: Path) -> None:
    data = spm()
    model = sentencepiece.SentencePieceProcessor(model_proto=data)
    spare, other = model.piece_to_id("<reserved_2>"), model.piece_to_id("<AI>")
    names = {str(spare): "<a name of its own>" * 20, str(other): "<other>", "9999": "<beyond>"}
    source = folder_with(tmp_path, data, names).tokenizer("tokenizer.model")
    assert isinstance(source, bytes)
    changed = sentencepiece.SentencePieceProcessor(model_proto=source)
    before, after = ([m.id_to_piece(i) for i in range(len(m))] for m in (model, changed))
    assert [(i, b) for i, (a, b) in enumerate(zip(before, after, strict=True)) if a != b] == [
        (spare, "<a name of its own>" * 20)
    ]


def test_a_file_without_names_is_not_changed(tmp_path: Path) -> None:
    assert folder_with(tmp_path, spm(), {}).tokenizer("tokenizer.model") == (
        tmp_path / "tokenizer.model"
    )


@pytest.mark.parametrize("length", [1, 7, 100, 1001])
def test_damaged_models(tmp_path: Path, length: int) -> None:
    with pytest.raises(InputError, match="damaged"):
        folder_with(tmp_path, spm()[:length], {"3": "<x>"}).tokenizer("tokenizer.model")


def spm() -> bytes:
    from random_checkpoint import TOKENIZER_PIECES, tokenizer_model

    return tokenizer_model(TOKENIZER_PIECES + 8)
