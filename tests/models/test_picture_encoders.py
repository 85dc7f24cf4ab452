"""ViT, DeiT, DINO and DINOv2, from folders that transformers wrote, against its classes."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from deployed import deployed
from PIL import Image
from single_checkpoints import LABELS, PICTURES, Pictures
from tolerance import FLOAT32

from handglass.compiler.build import compile_model
from handglass.compiler.checkpoints.opening import open_checkpoint
from handglass.compiler.models import read_config
from handglass.compiler.models.token_rows import resized
from handglass.compiler.packing.describe import Inputs, read_inputs
from handglass.compiler.parity.reference import picture_encoder
from handglass.compiler.verify import verify
from handglass.errors import InputError, UsageError
from handglass.runtime.bundle.reader import Bundle
from handglass.runtime.prompt.preprocess import Preprocessor
from handglass.runtime.search.encoder import Encoder, unit
from handglass.targets.deploy.trial import encoder_words

SIZES = ((35, 35), (64, 47), (201, 36), (7, 9))
LARGE = pytest.mark.large
COMPILED = ("registers", "vit-labels")
"""Together they have every kernel but that of gated layers and of the mean of all patches."""


@dataclass(frozen=True)
class Written:
    """A checkpoint, and what a bundle of it would say about pictures."""

    folder: Path
    made: Pictures
    inputs: Inputs


@lru_cache
def written_once(kind: str, folder: Path) -> Written:
    made = PICTURES[kind](folder)
    return Written(folder, made, inputs_of(folder))


def inputs_of(folder: Path) -> Inputs:
    checkpoint = open_checkpoint(folder)
    return read_inputs(checkpoint, *read_config(checkpoint.config))


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("pictures")


@pytest.fixture(params=list(PICTURES))
def written(request: pytest.FixtureRequest, root: Path) -> Written:
    return written_once(request.param, root / request.param)


@pytest.fixture(
    scope="module",
    params=[k if k in COMPILED else pytest.param(k, marks=LARGE) for k in PICTURES],
)
def compiled(request: pytest.FixtureRequest, root: Path) -> tuple[Written, Path]:
    bundle = root / f"{request.param}-f32"
    written = written_once(request.param, root / request.param)
    if not bundle.exists():
        compile_model(written.folder, bundle, quantization="f32")
    return written, bundle


def noise(size: tuple[int, int]) -> Image.Image:
    rng = np.random.default_rng(size)
    return Image.fromarray(rng.integers(0, 256, (size[1], size[0], 3), np.uint8))


def test_pixels_are_those_of_the_reference(written: Written) -> None:
    vision = written.inputs.vision
    assert vision is not None
    p, side = vision.patch_size, vision.image_size // vision.patch_size
    for size in SIZES:
        (tile,) = Preprocessor(vision).tiles(noise(size))
        patches = tile.strip.reshape(3, p, side, side, p).transpose(0, 2, 1, 3, 4)
        expected = written.made.pixels(noise(size))[0].numpy()
        np.testing.assert_array_equal(patches.reshape(3, side * p, side * p), expected)


def test_the_numpy_reference_is_right(written: Written) -> None:
    """That of `handglass verify`, for models that are not compiled here."""
    checkpoint, vision = open_checkpoint(written.folder), written.inputs.vision
    assert vision is not None
    _, config = read_config(checkpoint.config)
    reference = picture_encoder.reference(config, vision, checkpoint)
    picture = noise(SIZES[1])
    row = reference.encode_image(checkpoint, reference.pixels(picture).strip)
    if config.labels:
        FLOAT32.check(reference.classify(checkpoint, row), written.made.scores(picture))
    else:
        FLOAT32.check(row, written.made.row(picture))


@pytest.mark.parametrize("antialias", [False, True])
@pytest.mark.parametrize("side", [3, 5, 7])
def test_positions_are_resized_as_torch_does(side: int, antialias: bool) -> None:
    table = np.random.default_rng(side).standard_normal((25, 6), np.float32)
    square = torch.from_numpy(table.T.reshape(1, 6, 5, 5).copy())
    options: dict[str, Any] = {"mode": "bicubic", "align_corners": False, "antialias": antialias}
    expected = torch.nn.functional.interpolate(square, size=(side, side), **options)
    FLOAT32.check(resized(table, side, antialias), expected[0].reshape(6, -1).numpy().T)


def test_rows_are_those_of_the_reference(compiled: tuple[Written, Path]) -> None:
    written, bundle = compiled
    encoder = Encoder.load(bundle)
    for size in SIZES:
        if encoder.own_labels:
            assert encoder.own_labels == tuple(LABELS.values())
            FLOAT32.check(encoder.own_scores(noise(size)), written.made.scores(noise(size)))
        else:
            FLOAT32.check(encoder.picture(noise(size), is_raw=True), written.made.row(noise(size)))


def test_verify_holds(compiled: tuple[Written, Path]) -> None:
    written, bundle = compiled
    stages = verify(bundle, written.folder)
    labels = ["classify"] if "labels" in bundle.name or "deit" in bundle.name else []
    assert [stage.stage for stage in stages] == ["weights", "pixels", "encode_image", *labels]
    assert [stage.stage for stage in stages if not stage.ok] == []


@pytest.mark.large
@pytest.mark.parametrize("kind", PICTURES)
def test_verify_holds_in_w8a8(kind: str, root: Path) -> None:
    folder = written_once(kind, root / kind).folder
    compile_model(folder, root / f"{kind}-w8a8", quantization="w8a8")
    stages = verify(root / f"{kind}-w8a8", folder)
    assert [stage.stage for stage in stages if not stage.ok] == []


@pytest.fixture
def labelled(root: Path) -> tuple[Written, Path]:
    """Compiled once, by whichever test comes first."""
    written, bundle = written_once("vit-labels", root / "vit-labels"), root / "vit-labels-f32"
    if not bundle.exists():
        compile_model(written.folder, bundle, quantization="f32")
    return written, bundle


@LARGE
def test_it_is_deployed_without_a_question(
    labelled: tuple[Written, Path], handglass: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It names its own labels; without labels, it would embed."""
    bundle = labelled[1]
    noise(SIZES[0]).save(tmp_path / "a.png")
    arguments = (bundle, tmp_path / "there", "--image", tmp_path / "a.png")
    done = deployed(handglass, monkeypatch, *arguments)
    assert done.trial == "tried there: one row, encoded"
    (picture,) = json.loads(done.run("--json"))["pictures"]
    truth = handglass("classify", bundle, "--image", tmp_path / "a.png", "--json").json
    assert picture["labels"] == truth["pictures"][0]["labels"]
    assert handglass("deploy", *arguments[:1], "--to", tmp_path / "no", "-p", "x").code == 2
    manifest = Bundle.open(bundle).manifest
    assert manifest.encoders is not None
    bare = replace(manifest, encoders=replace(manifest.encoders, labels=()))
    assert encoder_words(bare, None, []) == ["embed", "bundle", "--image", "PICTURE"]


def test_the_verbs(labelled: tuple[Written, Path], handglass: Any, tmp_path: Path) -> None:
    written, bundle = labelled
    files = [tmp_path / f"{number}.png" for number in range(3)]
    for file, size in zip(files, SIZES, strict=False):
        noise(size).save(file)
    result = handglass("classify", bundle, "--image", files[0], "--json").json
    found = {row["label"]: row for row in result["pictures"][0]["labels"]}
    scores = written.made.scores(noise(SIZES[0]))
    for label, score in zip(LABELS.values(), scores, strict=True):
        assert abs(found[label]["score"] - score) < 1e-3 * np.abs(scores).max()
    assert result["exclusive"] and abs(sum(r["probability"] for r in found.values()) - 1) < 1e-5
    one = handglass("classify", bundle, "--image", files[0], "-k", 1)
    assert len(one.out.splitlines()) == 2
    assert handglass("classify", bundle, "--image", files[0], "--label", "x").code == 2
    assert handglass("index", bundle, tmp_path, "-o", tmp_path / "index").code == 0
    near = handglass("search", tmp_path / "index", "--image", files[1], "--json").json["found"]
    assert near[0]["name"] == "1.png" and near[0]["cosine"] > 0.9999
    assert handglass("search", tmp_path / "index", "a text").code == 3
    assert handglass("search", tmp_path / "index").code == 2
    assert "it takes no texts" in handglass("inspect", bundle).out
    run = handglass("run", "-m", bundle, "-p", "x")
    assert run.code == 3 and "an encoder, which answers no questions" in run.err
    plan = handglass("compile", "--dry-run", "-m", written.folder)
    assert plan.code == 0 and "tokenizer" not in plan.out


def test_embed(labelled: tuple[Written, Path], handglass: Any, tmp_path: Path) -> None:
    _, bundle = labelled
    noise(SIZES[0]).save(tmp_path / "a.png")
    image = ("--image", tmp_path / "a.png")
    encoder = Encoder.load(bundle)
    row = encoder.picture(noise(SIZES[0]), is_raw=True)
    for raw in ((), ("--raw",)):
        expected = row if raw else unit(row)
        out = tmp_path / "rows.npy"
        assert handglass("embed", bundle, *image, *image, "-o", out, *raw).code == 0
        np.testing.assert_allclose(np.load(out), np.stack([expected, expected]), rtol=1e-5)
        line = json.loads(handglass("embed", bundle, *image, *raw).out)
        np.testing.assert_array_equal(np.float32(line["embedding"]), np.load(out)[0])
    assert handglass("embed", bundle, "--text", "x").code == 3
    assert handglass("embed", bundle).code == 2
    assert handglass("embed", bundle, *image, "-o", tmp_path / "rows.txt").code == 2
    (tmp_path / "bad.png").write_bytes(b"no picture")
    assert handglass("embed", bundle, "--image", tmp_path / "bad.png").code == 3


CHANGES: dict[str, tuple[str, dict[str, Any], str]] = {
    "bias": ("config.json", {"qkv_bias": False}, "qkv_bias is False, but only True"),
    "activation": ("config.json", {"hidden_act": "relu"}, "is 'relu'; known"),
    "not square": ("config.json", {"image_size": [35, 42]}, "image_size"),
    "labels": ("config.json", {"id2label": {"0": "a", "2": "b"}}, "None for 1"),
    "no labels": ("config.json", {"id2label": {}}, "must have 1 to"),
    "problem": ("config.json", {"problem_type": "regression"}, "problem_type is 'regression'"),
    "crop": ("preprocessor_config.json", {"crop_pct": 0.9}, "crop_pct is 0.9"),
    "small": ("preprocessor_config.json", {"size": {"height": 20, "width": 20}}, "20 x 20 pixels"),
    "long": ("preprocessor_config.json", {"size": {"height": 41, "width": 50}}, "50 x 41 pixels"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_is_not_supported_is_refused(change: str, root: Path, tmp_path: Path) -> None:
    written_once("vit-labels", root / "vit-labels")
    name, values, message = CHANGES[change]
    for file in (root / "vit-labels").iterdir():
        if file.suffix == ".json":
            (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / "model.safetensors").symlink_to(root / "vit-labels" / "model.safetensors")
    given = json.loads((tmp_path / name).read_text("utf-8"))
    (tmp_path / name).write_text(json.dumps(given | values), "utf-8")
    with pytest.raises(InputError, match=message):
        inputs_of(tmp_path)


def test_a_size_that_is_no_number_of_patches(root: Path, tmp_path: Path) -> None:
    written_once("registers", root / "registers")
    for file in (root / "registers").iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    path = tmp_path / "preprocessor_config.json"
    given = json.loads(path.read_text("utf-8")) | {"crop_size": {"height": 22, "width": 22}}
    path.write_text(json.dumps(given), "utf-8")
    with pytest.raises(InputError, match="22 x 22 pixels are not a whole number of patches of 7"):
        inputs_of(tmp_path)


def test_it_answers_no_questions_and_takes_no_texts(labelled: tuple[Written, Path]) -> None:
    written, bundle = labelled
    manifest = Bundle.open(bundle).manifest
    assert manifest.tokenizer is None and manifest.vocab_size == 0
    assert list(manifest.scheme) == ["vision"]
    with pytest.raises(UsageError, match="generates no text"):
        compile_model(written.folder, "/nowhere", context=9)
