"""The host side of the native runner: writing requests and reading its output."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("tvm", reason="compiles with the TVM compiler")

from handglass.errors import InputError, MismatchError, UsageError
from handglass.runtime.answer.native_request import RequestWriter, main
from handglass.runtime.bundle.tensors import TensorFile
from handglass.runtime.prompt.preprocess import Preprocessor

pytestmark = pytest.mark.compiler

FOOTER = {
    "finish_reason": "stop",
    "tokens": 2,
    "thinking": False,
    "timings": {
        "load_s": 0.5,
        "encode_ms": [1.0],
        "image_tokens": [4],
        "prefill_tokens": 7,
        "reused_tokens": 0,
        "prefill_tok_s": 100.0,
        "decode_tokens": 2,
        "decode_tok_s": 10.0,
        "ttft_ms": 70.0,
        "peak_mb": 20.0,
    },
}


GREEDY = {"temp": 0.0, "top_k": 0, "top_p": 1.0, "repeat_penalty": 1.0, "seed": 0}
WHOLE = {"role": "picture", "left": 0, "top": 0, "right": 1, "bottom": 1}


@pytest.fixture(scope="module")
def writer(small_bundle: Path) -> RequestWriter:
    return RequestWriter(small_bundle)


@pytest.fixture
def halving(small_bundle: Path, tmp_path: Path) -> RequestWriter:
    """A bundle with two tiles per picture, the whole and its left half, without a library."""
    bundle = tmp_path / "halving"
    bundle.mkdir()
    manifest = json.loads((small_bundle / "manifest.json").read_text("utf-8"))
    manifest["vision"]["slicing"]["parameters"]["boxes"] = [WHOLE, WHOLE | {"right": 0.5}]
    (bundle / "manifest.json").write_text(json.dumps(manifest), "utf-8")
    tokenizer = manifest["tokenizer"]["file"]
    shutil.copy(small_bundle / tokenizer, bundle / tokenizer)
    return RequestWriter(bundle)


def noise(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (20, 30, 3), np.uint8)


def places(request: Path) -> list[int]:
    """The tiles, in prompt order."""
    segments = json.loads(request.read_text("utf-8"))["prompt"]
    return [segment["tile"] for segment in segments if isinstance(segment, dict)]


def test_a_request_holds_ids_and_places_of_tiles(writer: RequestWriter, tmp_path: Path) -> None:
    pictures = [noise(0), noise(1)]
    written = writer.write(tmp_path / "q", "What?", pictures, max_tokens=9, repeat_penalty=1.5)
    request = json.loads(written.request.read_text("utf-8"))
    stop = [writer.tokenizer.token_id(token) for token in writer.manifest.prompt.stop]
    assert request.pop("prompt")[1::2][:2] == [{"tile": 0}, {"tile": 1}]
    assert request == {
        "format": "handglass-request",
        "version": 3,
        "pictures": [1, 1],
        "positions": [],
        "stop": stop,
        "max_tokens": 9,
        "thinking": False,
        "sampling": GREEDY | {"repeat_penalty": 1.5},
    }
    words = ["program", "run", "b", "--ids", str(written.request)]
    pixels = [word for path in written.tiles for word in ("--pixels", str(path))]
    assert written.command("program", "b") == words + pixels


def test_videos_are_refused_by_name(writer: RequestWriter, tmp_path: Path) -> None:
    part = {"type": "video", "video": "a.gif"}
    with pytest.raises(InputError, match="takes no videos; use 'handglass run --video'"):
        writer.write(tmp_path / "q", [{"role": "user", "content": [part, "What?"]}])


def test_equal_pictures_are_encoded_once(writer: RequestWriter, tmp_path: Path) -> None:
    written = writer.write(tmp_path, "What?", [noise(0), noise(1), noise(0)])
    assert places(written.request) == [0, 1, 0] and len(written.tiles) == 3


def test_the_tiles_of_a_picture_follow_each_other(halving: RequestWriter, tmp_path: Path) -> None:
    written = halving.write(tmp_path, "What?", [noise(0), noise(1), noise(0)])
    assert json.loads(written.request.read_text("utf-8"))["pictures"] == [2, 2, 2]
    assert places(written.request) == [0, 1, 2, 3, 0, 1]
    assert [path.name for path in written.tiles] == [f"tile-{n}.safetensors" for n in range(6)]


def test_a_tile_is_what_encode_image_takes(writer: RequestWriter, tmp_path: Path) -> None:
    assert writer.manifest.vision is not None
    file = TensorFile.open(writer.write(tmp_path, "What?", [noise(0)]).tiles[0])
    (tile,) = Preprocessor(writer.manifest.vision).tiles(noise(0))
    np.testing.assert_array_equal(file.array("pixels"), tile.strip)
    np.testing.assert_array_equal(file.array("grid"), tile.grid)
    np.testing.assert_array_equal(file.array("position_ids"), tile.position_ids)


def test_ids_become_text_again(writer: RequestWriter) -> None:
    ids = writer.tokenizer.encode("ab")
    answer = writer.read([*(f"{id}\n" for id in ids), json.dumps(FOOTER), "\n"])
    assert answer.tokens == tuple(ids)
    assert answer.text.strip() == "ab" and answer.finish_reason == "stop"
    assert answer.timings.encode_ms == (1.0,) and answer.timings.image_tokens == (4,)
    assert answer.timings.decode_tok_s == 10.0


@pytest.mark.parametrize("lines", [[], ["1"], ["x", json.dumps(FOOTER)], ["{}"], ["1", "[]"]])
def test_what_the_runner_did_not_print(writer: RequestWriter, lines: list[str]) -> None:
    with pytest.raises(InputError, match="handglass-native run"):
        writer.read(lines)


def test_the_command_line(small_bundle: Path, tmp_path: Path) -> None:
    (command,) = main([str(small_bundle), str(tmp_path / "q"), "-p", "What?"])
    assert command.startswith(
        f"handglass-native run {small_bundle} --ids {tmp_path}/q/request.json"
    )
    (tmp_path / "out").write_text(f"5\n{json.dumps(FOOTER)}\n")
    assert len(list(main([str(small_bundle), "--read", str(tmp_path / "out")]))) == 1
    with pytest.raises(UsageError, match="FOLDER"):
        list(main([str(small_bundle)]))


def test_the_tokenizer_is_opened_like_any_file_of_a_bundle(
    small_bundle: Path, tmp_path: Path
) -> None:
    bundle = tmp_path / "bundle"
    bundle.mkdir()
    manifest = json.loads((small_bundle / "manifest.json").read_text("utf-8"))
    name = manifest["tokenizer"]["file"]
    shutil.copy(small_bundle / name, tmp_path / "outside")
    manifest["files"]["../outside"] = manifest["files"][name]
    manifest["tokenizer"]["file"] = "../outside"
    (bundle / "manifest.json").write_text(json.dumps(manifest), "utf-8")
    with pytest.raises(MismatchError, match=r"'\.\./outside'"):
        RequestWriter(bundle)
    manifest["tokenizer"]["file"] = name
    (bundle / "manifest.json").write_text(json.dumps(manifest), "utf-8")
    (bundle / name).write_bytes((small_bundle / name).read_bytes() + b" ")
    with pytest.raises(MismatchError, match=name):
        RequestWriter(bundle)
