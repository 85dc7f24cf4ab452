"""Files of rows, read with care; an encoder whose model gives no numbers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from handglass.errors import InputError, UsageError
from handglass.runtime.bundle.entries import (
    COSINE,
    EncodersEntry,
    MethodEntry,
    TextEntry,
    VisionEntry,
)
from handglass.runtime.prompt.texts import TextInput
from handglass.runtime.search.encoder import Encoder
from handglass.runtime.search.index_file import About
from handglass.runtime.search.nearest import nearest
from handglass.runtime.search.rows_file import (
    FORMAT,
    TEXT,
    Input,
    check_output,
    open_index,
    split_lines,
    write_rows,
)

ABOUT = About(FORMAT, "/bundle", "b" * 64, "")
INPUTS = [Input(TEXT, "one"), Input(TEXT, "\u4e00\ntwo"), Input(TEXT, "")]
ROWS = np.eye(3, 4, dtype=np.float32)


def test_what_is_written_can_be_searched(tmp_path: Path) -> None:
    path = tmp_path / "rows.safetensors"
    write_rows(path, ABOUT, INPUTS, ROWS)
    index = open_index(path)
    assert index.about == ABOUT
    assert [one.name for one in nearest(index, ROWS[1], 2)] == ["\u4e00\ntwo", "one"]
    write_rows(tmp_path / "rows.jsonl", ABOUT, INPUTS, ROWS)
    lines = (tmp_path / "rows.jsonl").read_text("ascii").splitlines()
    assert [json.loads(line)["text"] for line in lines] == [one.value for one in INPUTS]


def parts(**changes: Any) -> dict[str, np.ndarray]:
    """The tensors of a file, of which some are others."""
    about = {"format": FORMAT, "bundle": "/b", "manifest_sha256": "b" * 64, "folder": ""}
    values = {"about": about, "inputs": [one.value for one in INPUTS], "rows": ROWS} | changes
    return {
        name: value
        if isinstance(value, np.ndarray)
        else np.frombuffer(json.dumps(value).encode(), np.uint8)
        for name, value in values.items()
    }


DAMAGED = {
    "no list": (parts(inputs={"one": 1}), "not what handglass embed writes"),
    "no texts": (parts(inputs=["one", 2, "three"]), "not what handglass embed writes"),
    "fewer": (parts(inputs=["one"]), "one for each of inputs"),
    "another type": (parts(rows=ROWS.astype(np.float64)), "rows must be float32"),
    "flat": (parts(rows=ROWS[0, :3]), "rows must be float32"),
    "NaN": (parts(rows=ROWS * np.float32(np.nan)), "other lengths than 1"),
    "raw": (parts(rows=2 * ROWS), "embed without --raw"),
    "version": (parts(about=json.loads(parts()["about"].tobytes()) | {"format": "x"}), "version"),
    "about": (parts(about=[]), "about"),
    "no JSON": (parts(inputs=np.frombuffer(b"[", np.uint8)), "inputs"),
    "another file": ({"rows": ROWS}, "not an index"),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_a_damaged_file_is_refused(name: str, tmp_path: Path) -> None:
    tensors, message = DAMAGED[name]
    save_file(tensors, tmp_path / "rows.safetensors")
    with pytest.raises(InputError, match=message):
        open_index(tmp_path / "rows.safetensors")


def test_lines() -> None:
    assert split_lines(b"", "x") == []
    assert split_lines(b"\xef\xbb\xbfa\r\n\nb", "x") == ["a", "", "b"]
    with pytest.raises(InputError, match="not UTF-8 at byte 1"):
        split_lines(b"a\xff", "x")


def test_another_suffix_is_refused() -> None:
    with pytest.raises(UsageError, match="must end in .npy, .safetensors, .jsonl"):
        check_output(Path("rows.txt"))


class NoNumbers:
    """A model whose rows are NaN."""

    encoders = EncodersEntry(
        COSINE, 1.0, 0.0, 0, TextEntry(4, (), (), MethodEntry("words", {"is_lowered": False}))
    )
    vision: VisionEntry | None = None

    def encode_text(self, ids: np.ndarray) -> np.ndarray:
        return np.full(4, np.nan, np.float32)

    def encode_image(self, strip: np.ndarray, position_ids: np.ndarray) -> np.ndarray:
        raise AssertionError("it takes no pictures")

    def classify(self, row: np.ndarray) -> np.ndarray:
        raise AssertionError("it has no labels")


@pytest.mark.parametrize(
    ("is_raw", "message"), [(True, "NaN or infinity"), (False, "without a direction")]
)
def test_rows_that_are_no_numbers(is_raw: bool, message: str) -> None:
    model = NoNumbers()
    assert model.encoders.text is not None
    encoder = Encoder(model, TextInput(model.encoders.text, lambda text: [1] * len(text)))
    with pytest.raises(InputError, match=message):
        encoder.text("a", is_raw)
    with pytest.raises(InputError, match="encodes texts, no pictures"):
        encoder.picture("a.png")
    with pytest.raises(UsageError, match="does not compare pictures with texts"):
        encoder.labels(["a", "b"])
