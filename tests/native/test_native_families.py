"""handglass-native run on every family: the tokens of the Python runtime, for pictures with and
without slices."""

from __future__ import annotations

import json
import platform
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("tvm", reason="compiles with the TVM compiler")

from native_bundles import TARGETS, asked
from native_program import NativeProgram
from PIL import Image
from released import write_release
from released46 import write_checkpoint
from released_early import write_early
from shared import made_once
from test_minicpm_ocr import add_rule
from test_native_question import write_arrays
from test_text_only import KINDS, write, write_minicpm

from handglass.compiler.build import compile_model
from handglass.runtime.answer.answer import Answer
from handglass.runtime.answer.model import Model
from handglass.runtime.answer.native_request import RequestWriter
from handglass.runtime.bundle.tensors import TensorFile

pytestmark = [pytest.mark.compiler, pytest.mark.slow]

WRITERS: dict[str, Callable[[Path], object]] = {
    "1.0": lambda folder: write_early(folder, "1.0"),
    "2.0": lambda folder: write_early(folder, "2.0"),
    "2.5": lambda folder: write_release(folder, "2.5"),
    "2.6": lambda folder: write_release(folder, "2.6"),
    "4.0": lambda folder: write_release(folder, "4.0"),
    "4.5": lambda folder: write_release(folder, "4.5"),
    "4.6": write_checkpoint,
    "4.7": lambda folder: write_checkpoint(folder, version="4.7", tied=False),
    "OCR": lambda folder: write_ocr(folder, "adaptive"),
}


def write_ocr(folder: Path, rule: str) -> None:
    write_checkpoint(folder, "4x", "OCR")
    add_rule(folder, rule)


TEXT_ONLY: dict[str, Callable[[Path], object]] = {
    "Llama": lambda folder: write(folder, KINDS[0]),
    "Qwen2": lambda folder: write(folder, KINDS[2]),
    "Qwen3": lambda folder: write(folder, KINDS[3]),
    "Qwen3.5": lambda folder: write(folder, KINDS[-1]),
    "MiniCPM": write_minicpm,
}
EXPERTS = {"4.7 experts": lambda folder: write_checkpoint(folder, "16x", "4.7", False, True)}
SHORT = (*TEXT_ONLY, "1.0", "2.0")
"""Their longest contexts have less than 2048 positions."""
MADE = WRITERS | TEXT_ONLY | EXPERTS
SIZES: dict[str, list[tuple[int, int]]] = {
    "none": [],
    "whole": [(301, 203)],
    "sliced": [(733, 911)],
    "two": [(97, 310), (450, 902)],
}
QUESTION = "What is in this picture?"
COUNT = 12
Bundles = Callable[[str, str], Path]


def pictures(name: str) -> list[Image.Image]:
    random = np.random.default_rng(len(name))
    return [Image.fromarray(random.integers(0, 256, (h, w, 3), np.uint8)) for w, h in SIZES[name]]


@pytest.fixture(scope="module")
def released(tmp_path_factory: pytest.TempPathFactory) -> Bundles:
    """A tiny random checkpoint of a version, compiled for a target in float32."""

    def bundle(version: str, target: str) -> Path:
        checkpoint = made_once(
            tmp_path_factory, f"checkpoint-{version}", lambda f: MADE[version](f / "model")
        )

        def make(folder: Path) -> None:
            compile_model(
                checkpoint / "model",
                folder / "bundle",
                target=target,
                quantization="f32",
                context=512 if version in SHORT else 2048,
                bundle_runtime=False,
            )

        return made_once(tmp_path_factory, f"native-{version}-{target}", make) / "bundle"

    return bundle


@pytest.fixture(scope="module")
def models(released: Bundles) -> Callable[[str], Model]:
    """The Python runtime, loaded once per version."""
    loaded: dict[str, Model] = {}

    def model(version: str) -> Model:
        if version not in loaded:
            loaded[version] = Model.load(released(version, TARGETS[platform.machine()]))
        return loaded[version]

    return model


class Both:
    """The native program and the Python runtime with one checkpoint."""

    def __init__(self, program: NativeProgram, bundle: Path, model: Model, folder: Path) -> None:
        self._program = program
        self._bundle = bundle
        self._model = model
        self._folder = folder

    def agree(self, images: list[Image.Image], **options: Any) -> Answer:
        """Ask both; returns the common answer."""
        options = {"temp": 0, "max_tokens": COUNT} | options
        content = [{"role": "user", "content": [*images, QUESTION]}]
        expected: Answer = self._model.chat(content, **options)
        writer = RequestWriter(self._bundle)
        written = writer.write(self._folder, content, **options)
        done = self._program.run(*asked(written, self._bundle))
        assert done.returncode == 0, done.stderr
        answer = writer.read(done.stdout.splitlines())
        assert answer.tokens == expected.tokens
        assert (answer.text, answer.thinking) == (expected.text, expected.thinking)
        assert answer.finish_reason == expected.finish_reason
        assert answer.timings.image_tokens == expected.timings.image_tokens
        return answer


@pytest.fixture
def both(
    program: NativeProgram,
    released: Bundles,
    models: Callable[[str], Model],
    tmp_path: Path,
) -> Callable[[str], Both]:
    target = TARGETS[program.machine]
    return lambda version: Both(program, released(version, target), models(version), tmp_path)


@pytest.mark.parametrize("version", WRITERS)
@pytest.mark.parametrize("name", SIZES)
def test_tokens(both: Callable[[str], Both], version: str, name: str) -> None:
    answer = both(version).agree(pictures(name))
    assert len(answer.timings.image_tokens) == len(SIZES[name])


@pytest.mark.parametrize("name", [*TEXT_ONLY, *EXPERTS])
def test_tokens_without_a_picture(both: Callable[[str], Both], name: str) -> None:
    assert both(name).agree([]).timings.image_tokens == ()


def test_experts_with_slices(both: Callable[[str], Both]) -> None:
    assert len(both("4.7 experts").agree(pictures("sliced")).timings.image_tokens) == 1


def test_small_pictures_that_keep_their_size(both: Callable[[str], Both]) -> None:
    small = Image.new("RGB", (200, 120), (250, 250, 250))
    assert both("OCR").agree([small]).timings.image_tokens == (28,)


def test_fewer_slices(both: Callable[[str], Both]) -> None:
    counts = [
        both("4.7").agree(pictures("sliced"), max_slices=most).timings.image_tokens[0]
        for most in (1, 2, 4)
    ]
    assert counts == sorted(set(counts))


@pytest.mark.parametrize("version", ["4.6", "4.7"])
def test_thoughts(both: Callable[[str], Both], version: str) -> None:
    """Their marker opens the answer; without it, random weights do not think."""
    assert both(version).agree(pictures("whole"), thinking=True).thinking
    assert not both(version).agree(pictures("whole"), thinking=False).thinking


SAMPLED = [
    {"temp": 1.0},
    {"temp": 0.7, "top_p": 0.8, "top_k": 100, "repeat_penalty": 1.05},
    {"temp": 1.5, "top_k": 7, "seed": 2**63 - 1},
    {"temp": 3.0, "top_p": 0.95},
    {"temp": 1e-300},
]


@pytest.mark.parametrize("options", SAMPLED, ids=str)
def test_sampled_tokens(both: Callable[[str], Both], options: dict[str, Any]) -> None:
    """The same seed gives the same tokens, in any language."""
    answers = [
        both("2.6").agree([], **{"seed": seed, "max_tokens": 40} | options) for seed in (0, 5)
    ]
    if options["temp"] > 0.5 and "seed" not in options:
        assert answers[0].tokens != answers[1].tokens


def test_default_options(both: Callable[[str], Both], released: Bundles) -> None:
    """Those of the bundle, where the question has none: 4.5 samples."""
    model = RequestWriter(released("4.5", TARGETS[platform.machine()]))
    assert model.manifest.prompt.sampling["temp"] > 0
    both("4.5").agree([], temp=None, seed=7, max_tokens=30)


# --- what is refused, and bench ---


@pytest.fixture
def placed(program: NativeProgram, released: Bundles) -> Path:
    """A bundle of 4.7, whose tiles come in windows and whose tokens have positions."""
    return released("4.7", TARGETS[program.machine])


def test_patches_in_another_order(program: NativeProgram, placed: Path, tmp_path: Path) -> None:
    written = RequestWriter(placed).write(tmp_path, QUESTION, pictures("whole"))
    file = TensorFile.open(written.tiles[0])
    arrays = {name: np.array(file.array(name)) for name in ("pixels", "position_ids", "grid")}
    rows = np.lexsort(arrays["grid"].T[::-1])
    write_arrays(written.tiles[0], arrays | {"grid": arrays["grid"][rows]})
    words = f"its {len(rows)} patches in windows of 4 x 4"
    program.fails(3, words, *asked(written, placed))


@pytest.mark.parametrize("by", [1, 4096])
def test_places_of_another_tile(
    program: NativeProgram, released: Bundles, tmp_path: Path, by: int
) -> None:
    """Compiled code takes the size of the tile from them."""
    bundle = released("2.0", TARGETS[program.machine])
    written = RequestWriter(bundle).write(tmp_path, QUESTION, pictures("whole"))
    file = TensorFile.open(written.tiles[0])
    arrays = {name: np.array(file.array(name)) for name in ("pixels", "position_ids", "grid")}
    arrays["position_ids"][-1] += by
    write_arrays(written.tiles[0], arrays)
    program.fails(3, "4096 * row + column of each patch", *asked(written, bundle))


UNEVEN = Image.fromarray(np.random.default_rng(3).integers(0, 256, (448, 897, 3), np.uint8))
"""The overview has more patches than the slices."""


def test_padded_tiles(both: Callable[[str], Both]) -> None:
    assert both("2.5").agree([UNEVEN]).timings.image_tokens == (3 * 8,)


@pytest.mark.parametrize("place", [(-1, 0), (0, 0)])
def test_padding_has_no_place(
    program: NativeProgram, released: Bundles, tmp_path: Path, place: tuple[int, int]
) -> None:
    bundle = released("2.5", TARGETS[program.machine])
    written = RequestWriter(bundle).write(tmp_path, QUESTION, [UNEVEN])
    files = [TensorFile.open(path) for path in written.tiles]
    number = next(n for n, file in enumerate(files) if file.array("grid")[-1, 0] < 0)
    names = ("pixels", "position_ids", "grid")
    arrays = {name: np.array(files[number].array(name)) for name in names}
    arrays["grid"][-1] = place
    write_arrays(written.tiles[number], arrays)
    program.fails(3, "grid must count its", *asked(written, bundle))


def test_positions_are_required(program: NativeProgram, placed: Path, tmp_path: Path) -> None:
    written = RequestWriter(placed).write(tmp_path, QUESTION)
    request = json.loads(written.request.read_text("utf-8"))
    count = len(request["positions"])
    written.request.write_text(json.dumps(request | {"positions": []}), "utf-8")
    words = f"the request has 0 positions for {count} tokens, of which this model takes {count}"
    program.fails(3, words, *asked(written, placed))


@pytest.mark.parametrize("version", ["2.0", "4.7"])
def test_bench(program: NativeProgram, released: Bundles, version: str) -> None:
    bundle = released(version, TARGETS[program.machine])
    done = program.run("bench", bundle, "--samples", 1, "--json")
    assert done.returncode == 0, done.stderr
    rows = {row["row"] for row in json.loads(done.stdout)["rows"]}
    assert {"load", "encode", "pp64", "tg64@0"} <= rows
