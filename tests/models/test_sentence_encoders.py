"""BERT as sentence-transformers saves it (MiniLM, e5, bge), against transformers' class."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nearest_texts
import numpy as np
import pytest
from deployed import deployed
from safetensors.numpy import load_file, save_file
from single_checkpoints import LENGTH, TEXTS, WORDS, Sentences, sentences
from tolerance import FLOAT32

from handglass.compiler.build import compile_model
from handglass.compiler.checkpoints.opening import open_checkpoint
from handglass.compiler.models import read_config
from handglass.compiler.packing.describe import Inputs, read_inputs
from handglass.compiler.parity.reference import sentence_encoder
from handglass.compiler.verify import verify
from handglass.errors import InputError, UsageError
from handglass.runtime.bundle.reader import Bundle
from handglass.runtime.prompt.texts import TextInput, ids_of
from handglass.runtime.search.encoder import Encoder

SPECIAL = "a [SEP] b"


@dataclass(frozen=True)
class Written:
    folder: Path
    made: Sentences
    bundle: Path


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Written:
    folder = tmp_path_factory.mktemp("sentences") / "checkpoint"
    made = sentences(folder)
    compile_model(folder, folder.parent / "bundle", quantization="f32")
    return Written(folder, made, folder.parent / "bundle")


@pytest.fixture
def copy(written: Written, tmp_path: Path) -> Path:
    """The checkpoint, to be changed."""
    return Path(shutil.copytree(written.folder, tmp_path / "copy"))


def inputs_of(folder: Path) -> Inputs:
    checkpoint = open_checkpoint(folder)
    return read_inputs(checkpoint, *read_config(checkpoint.config))


def texts_of(folder: Path) -> TextInput:
    checkpoint, inputs = open_checkpoint(folder), inputs_of(folder)
    assert inputs.encoders is not None and inputs.encoders.text is not None and inputs.tokenizer
    entry, data = inputs.encoders.text, checkpoint.tokenizer_content(inputs.tokenizer.file)
    assert data is not None
    return TextInput(entry, ids_of(inputs.tokenizer, data, inputs.tokenizer.file, entry))


def change(path: Path, values: dict[str, Any]) -> None:
    given = json.loads(path.read_text("utf-8")) if path.is_file() else {}
    path.write_text(json.dumps(given | values), "utf-8")


@pytest.mark.parametrize("has_json", [True, False])
def test_ids_are_those_of_the_reference(written: Written, copy: Path, has_json: bool) -> None:
    """Of a text with a special token, too, which stays text."""
    if not has_json:
        (copy / "tokenizer.json").unlink()
    ids_of_text, names = texts_of(copy), {word: id for id, word in enumerate(WORDS)}
    for text in TEXTS:
        if text != SPECIAL:
            assert ids_of_text(text).tolist() == written.made.ids(text)[0].tolist(), text
    assert ids_of_text.cut == 1
    found = ids_of_text(SPECIAL).tolist()
    assert found == [names[w] for w in ("[CLS]", "a", "[", "sep", "]", "b", "[SEP]")]


def test_rows_are_those_of_the_reference(written: Written) -> None:
    encoder, ids_of_text = Encoder.load(written.bundle), texts_of(written.folder)
    for text in TEXTS:
        row = encoder.text(text, is_raw=True)
        FLOAT32.check(row, written.made.row(ids_of_text(text)))
        np.testing.assert_allclose(encoder.text(text), row / np.linalg.norm(row), rtol=1e-5)
    assert encoder.texts_cut == 2 and Bundle.open(written.bundle).manifest.vision is None


def test_the_row_of_the_first_token(tmp_path: Path) -> None:
    made = sentences(tmp_path, "cls")
    checkpoint, ids = open_checkpoint(tmp_path), texts_of(tmp_path)(TEXTS[0])
    _, config = read_config(checkpoint.config)
    reference = sentence_encoder.reference(config, None, checkpoint)
    row = reference.encode_text(checkpoint, reference.embed(checkpoint, ids))
    FLOAT32.check(row, made.row(ids))


@pytest.mark.large
@pytest.mark.parametrize("scheme", ["f32", "w8a8", "w4a8"])
def test_verify_holds_of_the_first_token(scheme: str, tmp_path: Path) -> None:
    sentences(tmp_path / "checkpoint", "cls")
    compile_model(tmp_path / "checkpoint", tmp_path / "bundle", quantization=scheme)
    stages = verify(tmp_path / "bundle", tmp_path / "checkpoint")
    assert [stage.stage for stage in stages if not stage.ok] == []


def test_verify_holds(written: Written) -> None:
    stages = verify(written.bundle, written.folder)
    assert [stage.stage for stage in stages] == ["weights", "encode_text"]
    assert all(stage.ok for stage in stages)
    with pytest.raises(UsageError, match="takes no pictures"):
        verify(written.bundle, written.folder, images=[np.zeros((9, 9, 3), np.uint8)])


def test_the_verbs(written: Written, handglass: Any, tmp_path: Path) -> None:
    lines, bundle = tmp_path / "lines.txt", written.bundle
    lines.write_bytes("two cats\r\n\na cat, playing\n\u4e00\u732b".encode())
    out = tmp_path / "rows.npy"
    assert handglass("embed", bundle, "--text", "a", "--input", lines, "-o", out).code == 0
    rows = np.load(out)
    assert rows.shape == (5, 48) and rows.dtype == np.float32
    encoder = Encoder.load(bundle)
    texts = ("a", "two cats", "", "a cat, playing", "\u4e00\u732b")
    for row, text in zip(rows, texts, strict=True):
        np.testing.assert_array_equal(row, encoder.text(text))
    printed = handglass("embed", bundle, "--input", lines).out.splitlines()
    assert [json.loads(line)["text"] for line in printed][1:3] == ["", "a cat, playing"]
    np.testing.assert_array_equal(np.float32(json.loads(printed[0])["embedding"]), rows[1])
    tensors = tmp_path / "rows.safetensors"
    assert handglass("embed", bundle, "--input", lines, "-o", tensors, "--json").json["rows"] == 4
    np.testing.assert_array_equal(load_file(tensors)["rows"], rows[1:])
    long = handglass("embed", bundle, "--text", TEXTS[-1])
    assert long.code == 0 and "1 of the texts are too long" in long.err
    found = handglass("search", tensors, "Two cats", "--json").json["found"]
    assert found[0]["name"] == "two cats" and found[0]["cosine"] > 0.9999 and len(found) == 4
    assert handglass("search", tensors, "x", "--html", tmp_path / "a.html").code == 2
    assert handglass("embed", bundle, "--input", lines, "-o", tensors, "--raw").code == 0
    raw = handglass("search", tensors, "x")
    assert raw.code == 3 and "embed without --raw" in raw.err
    run = handglass("run", "-m", bundle, "-p", "x")
    assert run.code == 3 and "an encoder, which answers no questions" in run.err
    for arguments in (["--image", __file__], ["--input", tmp_path / "none"]):
        assert handglass("embed", bundle, *arguments).code == 3
    lines.write_bytes(b"\xff\xfe")
    assert handglass("embed", bundle, "--input", lines).code == 3


@pytest.mark.large
def test_it_is_deployed_without_a_question(
    written: Written, handglass: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = deployed(handglass, monkeypatch, written.bundle, tmp_path / "there", "-p", "two cats")
    assert done.trial == "tried there: one row, encoded"
    row = json.loads(done.run())
    assert row["text"] == "two cats"
    truth = Encoder.load(written.bundle).text("two cats")
    np.testing.assert_allclose(row["embedding"], truth, atol=1e-6)
    refused = handglass("deploy", written.bundle, "--to", tmp_path / "no", "--image", __file__)
    assert refused.code == 2 and "takes no pictures" in refused.err


def test_the_example(written: Written, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "lines.txt").write_text("a cat\ntwo cats playing\n", "utf-8")
    nearest_texts.main(str(written.bundle), str(tmp_path / "lines.txt"), "Two cats playing")
    assert capsys.readouterr().out.startswith("1.000  two cats playing\n")


POOLING, PROMPTS = "1_Pooling/config.json", "config_sentence_transformers.json"
CHANGES: dict[str, tuple[str, dict[str, Any], str]] = {
    "two modes": (POOLING, {"pooling_mode_cls_token": True}, "pools by cls, mean"),
    "unknown mode": (POOLING, {"pooling_mode_max_tokens": True}, "pooling_mode_max_tokens"),
    "no mode": (POOLING, {"pooling_mode_mean_tokens": False}, "pools by none"),
    "mode": (POOLING, {"pooling_mode": "lasttoken"}, "pools by lasttoken"),
    "prompt": (PROMPTS, {"default_prompt_name": "q", "prompts": {"q": "q: "}}, "before every text"),
    "dot": (PROMPTS, {"similarity_fn_name": "dot"}, "similarity_fn_name is 'dot'"),
    "length": ("sentence_bert_config.json", {"max_seq_length": 2}, "no room for a text"),
    "positions": ("config.json", {"position_embedding_type": "relative_key"}, "relative_key"),
    "decoder": ("config.json", {"is_decoder": True}, "is_decoder is True"),
    "vocabulary": ("config.json", {"vocab_size": 9}, "vocab_size 9"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_what_is_not_supported_is_refused(name: str, copy: Path) -> None:
    file, values, message = CHANGES[name]
    change(copy / file, values)
    with pytest.raises(InputError, match=message):
        inputs_of(copy)


@pytest.mark.parametrize(
    ("module", "message"),
    [
        ({"type": "sentence_transformers.models.Dense", "path": "2_Dense"}, "module 'Dense'"),
        ({"type": "sentence_transformers.models.Pooling", "path": "../1_Pooling"}, "not the name"),
    ],
)
def test_modules_are_read_with_care(module: dict[str, str], message: str, copy: Path) -> None:
    (copy / "modules.json").write_text(json.dumps([module]), "utf-8")
    with pytest.raises(InputError, match=message):
        inputs_of(copy)


def test_a_bare_model_is_averaged(
    written: Written, copy: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (copy / "modules.json").unlink()
    entry = inputs_of(copy).encoders
    assert entry is not None and entry.text is not None and entry.text.length == 32 > LENGTH
    assert "the rows of all tokens are averaged" in caplog.text


VOCABULARIES = {
    "twice": (lambda words: [*words, "cats"], "line 23 repeats 'cats'"),
    "no unknown": (lambda words: [w for w in words if w != "[UNK]"], r"has no token \[UNK\]"),
    "no separator": (lambda words: [w for w in words if w != "[SEP]"], r"has no token \[SEP\]"),
    "empty": (lambda words: [], "has no tokens"),
}


@pytest.mark.parametrize("name", VOCABULARIES)
def test_a_damaged_vocabulary_is_refused(name: str, copy: Path) -> None:
    damage, message = VOCABULARIES[name]
    (copy / "tokenizer.json").unlink()
    (copy / "vocab.txt").write_text("".join(f"{word}\n" for word in damage(WORDS)), "utf-8")
    with pytest.raises(InputError, match=message):
        inputs_of(copy)


def test_a_damaged_tokenizer_json_is_refused(copy: Path) -> None:
    path = copy / "tokenizer.json"
    table = json.loads(path.read_text("utf-8"))
    broken: list[Any] = [table | {"model": {"type": "WordPiece"}}, {}, []]
    for damaged in broken:
        path.write_text(json.dumps(damaged), "utf-8")
        with pytest.raises(InputError, match="not a tokenizer.json, or a damaged one"):
            inputs_of(copy)


def test_a_weight_that_is_no_number_is_refused(copy: Path, tmp_path: Path) -> None:
    tensors = load_file(copy / "model.safetensors")
    tensors["embeddings.LayerNorm.weight"][3] = np.nan
    save_file(tensors, copy / "model.safetensors")
    with pytest.raises(InputError, match="embeddings.LayerNorm.weight"):
        compile_model(copy, tmp_path / "bundle", quantization="f32")
