"""SigLIP and CLIP, compiled from folders that transformers wrote, against its classes."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from dual_checkpoints import LENGTH, MAKERS, TEXTS, Made, clip
from PIL import Image
from thinned import only
from tolerance import FLOAT32

from handglass.compiler.build import compile_model
from handglass.compiler.checkpoints.opening import open_checkpoint
from handglass.compiler.models import read_config
from handglass.compiler.packing.describe import Inputs, read_inputs
from handglass.compiler.verify import verify
from handglass.errors import InputError, UsageError
from handglass.runtime.bundle.reader import Bundle
from handglass.runtime.bundle.report import read_report
from handglass.runtime.engine.encoders import EncoderSession
from handglass.runtime.engine.session import Session
from handglass.runtime.measure.encoder_bench import EncoderBenchmark
from handglass.runtime.measure.kernels import KernelBenchmark
from handglass.runtime.measure.rows import Row
from handglass.runtime.prompt.preprocess import Preprocessor
from handglass.runtime.prompt.texts import TextInput, ids_of, open_texts
from handglass.runtime.search.encoder import Encoder

pytestmark = pytest.mark.slow

SIZES = ((35, 35), (64, 47), (33, 90), (201, 36), (7, 9))
STAGES = ["weights", "pixels", "encode_image", "encode_text"]
LARGE = pytest.mark.large
KINDS = ["siglip", "clip", "siglip2"]
"""What is compiled; SigLIP 2 differs in its tokenizer alone."""


@dataclass(frozen=True)
class Written:
    """A checkpoint, and what a bundle of it would say about pictures and texts."""

    folder: Path
    made: Made
    inputs: Inputs

    def texts(self) -> TextInput:
        assert self.inputs.encoders is not None
        tokenizer, entry = self.inputs.tokenizer, self.inputs.encoders.text
        assert tokenizer is not None and entry is not None
        data = (self.folder / tokenizer.file).read_bytes()
        return TextInput(entry, ids_of(tokenizer, data, tokenizer.file, entry))


@dataclass(frozen=True)
class Compiled:
    written: Written
    bundle: Bundle


def inputs_of(folder: Path) -> Inputs:
    checkpoint = open_checkpoint(folder)
    return read_inputs(checkpoint, *read_config(checkpoint.config))


@lru_cache
def written_once(kind: str, folder: Path) -> Written:
    made = MAKERS[kind](folder)
    return Written(folder, made, inputs_of(folder))


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("dual")


@pytest.fixture(params=list(MAKERS))
def written(request: pytest.FixtureRequest, root: Path) -> Written:
    return written_once(request.param, root / request.param)


# The demo encoder, which other tests compile, is a SigLIP.
@pytest.fixture(scope="module", params=only(["clip"], KINDS))
def compiled(request: pytest.FixtureRequest, root: Path) -> Compiled:
    written = written_once(request.param, root / request.param)
    bundle = root / f"{request.param}-f32"
    compile_model(written.folder, bundle, quantization="f32")
    return Compiled(written, Bundle.open(bundle))


def noise(size: tuple[int, int]) -> Image.Image:
    rng = np.random.default_rng(size)
    return Image.fromarray(rng.integers(0, 256, (size[1], size[0], 3), np.uint8))


def pixels_of(written: Written, picture: Image.Image) -> np.ndarray:
    """The strip of the runtime as (3, h, w)."""
    vision = written.inputs.vision
    assert vision is not None
    (tile,) = Preprocessor(vision).tiles(picture)
    p, side = vision.patch_size, vision.image_size // vision.patch_size
    patches = tile.strip.reshape(3, p, side, side, p)  # (c, y, row, column, x)
    return patches.transpose(0, 2, 1, 3, 4).reshape(3, side * p, side * p)


def test_pixels_are_those_of_the_reference(written: Written) -> None:
    for size in SIZES:
        picture = noise(size)
        expected = written.made.pixels(picture)[0].numpy()
        np.testing.assert_array_equal(pixels_of(written, picture), expected)


def test_ids_are_those_of_the_reference(written: Written) -> None:
    texts_of = written.texts()
    for text in TEXTS:
        ids, expected = texts_of(text).tolist(), written.made.ids(text)[0].tolist()
        assert ids == expected[: len(ids)], text
        assert set(expected[len(ids) :]) <= {expected[-1]} and len(ids) <= LENGTH


def test_a_special_token_in_a_text_is_text(written: Written) -> None:
    texts_of = written.texts()
    (end,) = texts_of.entry.after
    with_end = texts_of(f"x {written.made.tokenizer.eos_token}").tolist()
    assert with_end.index(end) > texts_of("x").tolist().index(end) + 1 or len(with_end) == LENGTH


def test_clip_with_the_two_files_alone(tmp_path: Path) -> None:
    made = clip(tmp_path)
    table = json.loads((tmp_path / "tokenizer.json").read_text("utf-8"))["model"]
    whole = Written(tmp_path, made, inputs_of(tmp_path)).texts()
    (tmp_path / "tokenizer.json").rename(tmp_path / "elsewhere")
    (tmp_path / "vocab.json").write_text(json.dumps(table["vocab"]), "utf-8")
    merges = "\n".join(" ".join(pair) for pair in table["merges"])
    (tmp_path / "merges.txt").write_text(f"#version: 0.2\n{merges}\n", "utf-8")
    checkpoint, inputs = open_checkpoint(tmp_path), inputs_of(tmp_path)
    data = checkpoint.tokenizer_content("tokenizer.json")
    assert data is not None and inputs.encoders is not None
    entry = inputs.encoders.text
    assert entry is not None and entry == whole.entry and inputs.tokenizer is not None
    texts_of = TextInput(entry, ids_of(inputs.tokenizer, data, "made", entry))
    for text in TEXTS:
        assert texts_of(text).tolist() == whole(text).tolist()


CHANGES: dict[str, tuple[str, dict[str, Any], str]] = {
    "filter": ("preprocessor_config.json", {"resample": 0}, "resample is 0; supported"),
    "size": ("preprocessor_config.json", {"crop_size": 34}, "34 x 34 pixels, but config.json"),
    "no resize": ("preprocessor_config.json", {"do_resize": False}, "do_resize is False"),
    "factor": ("preprocessor_config.json", {"rescale_factor": 0.5}, "rescale_factor is 0.5"),
    "small": ("preprocessor_config.json", {"size": {"shortest_edge": 9}}, "less than crop_size"),
    "length": ("tokenizer_config.json", {"model_max_length": 2}, "no room for a text"),
    "vocabulary": ("config.json", {"text_config": {"vocab_size": 9}}, "vocab_size 9"),
    "activation": ("config.json", {"vision_config": {"hidden_act": "relu"}}, "is 'relu'; known"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_is_not_supported_is_refused(change: str, tmp_path: Path) -> None:
    clip(tmp_path)
    name, values, message = CHANGES[change]
    given = json.loads((tmp_path / name).read_text("utf-8"))
    for key, value in values.items():
        is_section = isinstance(given.get(key), dict) and key.endswith("config")
        given[key] = {**given[key], **value} if is_section else value
    (tmp_path / name).write_text(json.dumps(given), "utf-8")
    with pytest.raises(InputError, match=message):
        inputs_of(tmp_path)


def test_rows_are_those_of_the_reference(compiled: Compiled) -> None:
    session, made = EncoderSession(compiled.bundle), compiled.written.made
    texts_of = open_texts(compiled.bundle)
    assert session.vision is not None
    with torch.no_grad():
        for size in SIZES:
            (tile,) = Preprocessor(session.vision).tiles(noise(size))
            expected = made.model.get_image_features(made.pixels(noise(size)))
            row = session.encode_image(tile.strip, tile.position_ids)
            FLOAT32.check(row, expected.pooler_output[0].numpy())
        for text in TEXTS:
            expected = made.model.get_text_features(made.ids(text))
            FLOAT32.check(session.encode_text(texts_of(text)), expected.pooler_output[0].numpy())


def test_the_manifest_says_how_rows_are_compared(compiled: Compiled) -> None:
    encoders, model = compiled.bundle.manifest.encoders, compiled.written.made.model
    assert encoders is not None
    has_bias = hasattr(model, "logit_bias")
    np.testing.assert_allclose(encoders.scale, np.exp(1.5), rtol=1e-6)
    assert encoders.bias == (1.5 if has_bias else 0.0)
    assert encoders.score == ("sigmoid" if has_bias else "softmax")


def test_verify_holds(compiled: Compiled) -> None:
    stages = verify(compiled.bundle.path, compiled.written.folder)
    assert [stage.stage for stage in stages] == STAGES
    assert [stage.stage for stage in stages if not stage.ok] == []


@LARGE
@pytest.mark.parametrize("kind", ["siglip", "clip"])
def test_verify_holds_in_w8a8(kind: str, root: Path) -> None:
    checkpoint = written_once(kind, root / kind).folder
    compile_model(checkpoint, root / f"{kind}-w8a8", quantization="w8a8")
    stages = verify(root / f"{kind}-w8a8", checkpoint)
    assert [stage.stage for stage in stages if not stage.ok] == []


def test_its_steps_are_measured(compiled: Compiled) -> None:
    session, bundle = EncoderSession(compiled.bundle), compiled.bundle
    rows = EncoderBenchmark(session, bundle.path, None, quick=True)
    names = ["picture", "file", "text", "load", "peak_memory"]
    assert [line.name for line in rows.lines] == names
    rows.prepare()
    for line in rows.lines[:3]:
        assert isinstance(line, Row)
        rows.sample(line)
        assert line.figures()[0] > 0 and (line.fraction() is None) == (line.name == "file")
    profile = KernelBenchmark(session, read_report(bundle))
    profile.run(1, lambda *_: None)
    phases = {phase["phase"]: phase["kernels"] for phase in profile.report()}
    assert list(phases) == ["encode", f"text {LENGTH}"]
    for kernels in phases.values():
        assert sum(kernel["operations"] or 0 for kernel in kernels) > 0
        assert any(kernel["limit_fraction"] for kernel in kernels)


def test_it_answers_no_questions(compiled: Compiled) -> None:
    with pytest.raises(InputError, match="an encoder, which answers no"):
        Session(compiled.bundle)
    with pytest.raises(UsageError, match="generates no text"):
        compile_model(compiled.written.folder, "/nowhere", context=9)


def test_the_verbs(compiled: Compiled, handglass: Any, tmp_path: Path) -> None:
    """Labels and pictures in the order of the reference."""
    made, bundle, labels = compiled.written.made, compiled.bundle.path, ("cat", "dog", "a")
    for number, size in enumerate(SIZES[:3]):
        noise(size).save(tmp_path / f"{number}.png")
    ids = torch.cat([made.ids(label) for label in labels])
    pixels = torch.cat([made.pixels(noise(size)) for size in SIZES[:3]])
    with torch.no_grad():
        truth = made.model(input_ids=ids, pixel_values=pixels).logits_per_image.numpy()
    chosen = [f"--label={label}" for label in labels]
    result = handglass("classify", bundle, "--image", tmp_path / "0.png", *chosen, "--json").json
    found = {row["label"]: row["score"] for row in result["pictures"][0]["labels"]}
    np.testing.assert_allclose([found[label] for label in labels], truth[0], atol=1e-3)
    total = sum(row["probability"] for row in result["pictures"][0]["labels"])
    assert not result["exclusive"] or abs(total - 1) < 1e-5
    assert handglass("index", bundle, tmp_path, "-o", tmp_path / "index").code == 0
    page = tmp_path / "page.html"
    out = handglass("search", tmp_path / "index", "dog", "--html", page, "--json").json
    order = [int(Path(one["name"]).stem) for one in out["found"]]
    assert order == np.argsort(-truth[:, 1]).tolist()
    assert page.read_text("utf-8").count("data:image/jpeg") == 3
    assert handglass("run", "-m", bundle, "-p", "x").code == 3
    rows = handglass("embed", bundle, "--image", tmp_path / "0.png", "--text", "cat").out
    pair = [np.array(json.loads(line)["embedding"]) for line in rows.splitlines()]
    encoder = Encoder.load(bundle)
    np.testing.assert_allclose(pair[0], encoder.picture(tmp_path / "0.png"), atol=1e-6)
    np.testing.assert_allclose(pair[1], encoder.text("cat"), atol=1e-6)
    near = handglass("search", tmp_path / "index", "--image", tmp_path / "1.png", "--json").json
    assert near["found"][0]["name"] == "1.png"
    assert handglass("classify", bundle, "--image", tmp_path / "0.png").code == 2
    assert handglass("search", tmp_path / "index", " ").code == 2
    checks = handglass("doctor", bundle, "--json").json["checks"]
    assert [c["value"] for c in checks if c["name"] == "one row"] == ["encoded"]
    assert "texts" in handglass("inspect", bundle).out
    plan = handglass("compile", "-m", compiled.written.folder, "--dry-run").out
    assert "becomes one row" in plan and "keys and values" not in plan
    assert handglass("bench", bundle, "--share", tmp_path / "x.md").code == 2
    report = handglass("report", bundle, "--no-measure", "--json").json
    assert report["bundle"]["functions"] == ["encode_image", "encode_text"]
    one = handglass("classify", bundle, "--image", tmp_path / "0.png", "--label", "x", "--template")
    assert one.code == 2
