"""Compiled bundles against the torch reference: every stage, and whole answers token by token.

Random checkpoints of odd sizes are compiled with `compile_model` and run as a user runs them. For
lossy storage the reference computes with the weights as stored, so the tolerance is that of the
arithmetic. Bundles are for this machine, and for AMX with emulated tiles where AVX-512 VNNI exists.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch_minicpmv as expected
from as_stored import as_stored
from odd_models import ODD_MODELS, write_checkpoint
from PIL import Image

pytest.importorskip("tvm", reason="compiles with the TVM compiler")

import tvm
from levels import BY_INSTRUCTION, LEVELS, standing_in
from tolerance import EXACT, FLOAT16_CACHE, FLOAT32, Tolerance, of_rows, weaker

from handglass.compiler.build import compile_model
from handglass.compiler.schemes.quantize import find_scheme
from handglass.compiler.verify import verify
from handglass.errors import MismatchError
from handglass.runtime.answer.model import Model
from handglass.runtime.prompt.preprocess import open_preprocessor
from handglass.schedules.select import Units, cpu_units, find_units
from handglass.targets import find_target

pytestmark = [pytest.mark.compiler, pytest.mark.slow, pytest.mark.levels]

CONTEXT = 250  # no multiple of anything
HOST, AMX = "host", "amx"
CASES = [  # machine, odd model, scheme of language and resampler, scheme of the vision tower
    (HOST, "grouped", "w4a8", "w8a8"),
    (AMX, "untied", "w8a8", "w8a8"),
]
MORE_CASES = [
    (HOST, "wide_heads", "bf16", "w4"),
    (HOST, "grouped", "f32", "f32"),
    (HOST, "grouped", "w4", "bf16"),
    (HOST, "untied", "f16", "f16"),
    (AMX, "grouped", "w4a8", "bf16"),
    (HOST, "untied", "f32", "f32"),
    (HOST, "wide_heads", "f32", "f32"),
    (AMX, "grouped", "w4", "bf16"),
    (AMX, "wide_heads", "bf16", "w4"),
]
"""Other schemes, and other combinations of models and schemes."""
ALL_CASES = [*CASES, *(pytest.param(case, marks=pytest.mark.large) for case in MORE_CASES)]


@dataclass
class Both:
    """A compiled model and the reference with its stored weights."""

    model: Model
    bundle: Path
    checkpoint: Path
    config: dict[str, Any]
    weights: expected.Weights
    kept: torch.dtype
    in_language: Tolerance
    in_vision: Tolerance

    @property
    def after_cache(self) -> Tolerance:
        """Of the language model, with what its cache rounds."""
        rounds = self.kept == torch.float16
        return weaker(self.in_language, FLOAT16_CACHE) if rounds else self.in_language

    @property
    def joint(self) -> Tolerance:
        """Of what goes through the vision tower and the resampler."""
        return weaker(self.in_language, self.in_vision)

    @property
    def vision(self) -> dict[str, Any]:
        return self.config["vision_config"]

    @property
    def llm(self) -> expected.Weights:
        return expected.part(self.weights, "llm.")


@pytest.fixture(scope="module", params=ALL_CASES, ids="-".join)
def both(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Both]:
    machine, *case = request.param
    if machine == HOST:
        yield compiled(
            tmp_path_factory, find_units(tvm.target.Target(find_target(HOST).tvm)), *case
        )
        return
    if LEVELS[AMX] not in BY_INSTRUCTION:
        pytest.skip("tiles alone are emulated: the rest is for a CPU with AVX-512 VNNI")
    with standing_in(LEVELS[AMX]):
        yield compiled(tmp_path_factory, cpu_units(LEVELS[AMX].isa), *case)


def compiled(
    folders: pytest.TempPathFactory, units: Units, name: str, language: str, vision: str
) -> Both:
    checkpoint = write_checkpoint(folders.mktemp("c"), ODD_MODELS[name], "float32")
    bundle = folders.mktemp("b") / "bundle"
    compile_model(
        checkpoint, bundle, quantization=language, vision_quantization=vision, context=CONTEXT
    )
    config, weights = expected.load(checkpoint)
    kept = torch.float32 if language == "f32" else torch.float16
    weights = as_stored(weights, language, vision)
    tolerances = (of_rows(find_scheme(scheme, units)) for scheme in (language, vision))
    return Both(Model.load(bundle), bundle, checkpoint, config, weights, kept, *tolerances)


def normal(*shape: int) -> np.ndarray:
    return np.random.default_rng(5).standard_normal(shape, np.float32)


def noise_picture(seed: int) -> Image.Image:
    values = np.random.default_rng(seed).integers(0, 256, (9, 12, 3), np.uint8)
    return Image.fromarray(values).resize((120, 90), Image.Resampling.NEAREST)


def grid_of(rows: int, cols: int) -> np.ndarray:
    return np.stack(np.divmod(np.arange(rows * cols), cols), axis=1).astype(np.int32)


# --- stage by stage ---


@pytest.mark.parametrize("grid", [(5, 5), (1, 1), (3, 7), (25, 2)])
def test_vision(both: Both, grid: tuple[int, int]) -> None:
    rows, cols = grid
    p = both.vision["patch_size"]
    strip = normal(3, p, p * rows * cols)
    ids = expected.position_ids(rows, cols, both.vision["image_size"] // p)
    weights = expected.part(both.weights, "vpm.")
    truth = expected.encode_vision(weights, both.vision, torch.from_numpy(strip), ids)
    numbers = ids.numpy().astype(np.int32)
    features = both.model.session.encode_vision(strip, numbers)  # type: ignore[attr-defined]
    both.in_vision.check(features, truth.numpy())


@pytest.mark.parametrize("grid", [(5, 5), (1, 1), (3, 7), (80, 3)])
def test_resampler(both: Both, grid: tuple[int, int]) -> None:
    features = normal(grid[0] * grid[1], both.vision["hidden_size"])
    weights = expected.part(both.weights, "resampler.")
    heads = both.config["hidden_size"] // 128
    truth = expected.resample(weights, torch.from_numpy(features), *grid, heads)
    rows = both.model.session.resample(features, grid_of(*grid))  # type: ignore[attr-defined]
    both.in_language.check(rows, truth.numpy())


def test_picture(both: Both) -> None:
    picture = noise_picture(0)
    (pixels,) = open_preprocessor(both.model.manifest)(picture)
    truth = expected.encode_image(both.weights, both.config, picture)
    both.joint.check(both.model.session.encode_image(*pixels.arrays), truth.numpy())


def test_embed(both: Both) -> None:
    ids = [7, 0, both.config["vocab_size"] - 1, 7]
    truth = expected.embed(both.llm, both.config, ids)
    EXACT.check(both.model.session.embed(ids), truth.numpy())


@pytest.mark.parametrize("s", [1, 2, 16, 37, CONTEXT])
def test_prefill(both: Both, s: int) -> None:
    x = normal(s, both.config["hidden_size"])
    truth = expected.logits(both.llm, both.config, torch.from_numpy(x), both.kept)[-1]
    both.after_cache.check(both.model.session.prefill(x, 0), truth.numpy())


def test_prefill_in_pieces_and_after_a_shorter_prefix(both: Both) -> None:
    """Positions after the prefix are masked, so a cache that holds more must not matter."""
    session, x = both.model.session, normal(41, both.config["hidden_size"])
    truth = expected.logits(both.llm, both.config, torch.from_numpy(x), both.kept)
    session.prefill(normal(60, both.config["hidden_size"]) + 3, 0)
    for start, stop in ((0, 13), (13, 14), (14, 41), (5, 20), (20, 41)):
        logits = session.prefill(x[start:stop], start)
        both.after_cache.check(logits, truth[stop - 1].numpy())


def test_decode_follows_prefill(both: Both) -> None:
    session, ids = both.model.session, [1, 44, 17, 301, 8, 99]
    x = expected.embed(both.llm, both.config, ids)
    truth = expected.logits(both.llm, both.config, x, both.kept)
    session.prefill(x[:3].numpy(), 0)
    for pos in range(3, len(ids)):
        both.after_cache.check(session.decode(ids[pos], pos), truth[pos].numpy())


# --- whole answers ---


@pytest.mark.parametrize("pictures", [0, 1, 2])
def test_answers_are_equal_token_by_token(both: Both, pictures: int) -> None:
    question, count = "What is this picture?", 64
    images = [noise_picture(i) for i in range(pictures)]
    answer = both.model.chat(question, images, max_tokens=count)
    ids = expected.prompt_ids(both.checkpoint, both.config, question, pictures)
    encoded = [expected.encode_image(both.weights, both.config, image) for image in images]
    if both.joint == FLOAT32:
        tokens = expected.greedy(both.weights, both.config, ids, encoded, count, both.kept)
        assert both.config.get("eos_token_id", 2) not in tokens
        assert answer.tokens == tuple(tokens)
        assert answer.finish_reason == "length"
    else:
        ended = [] if len(answer.tokens) == count else [both.config.get("eos_token_id", 2)]
        assert answer.finish_reason == ("stop" if ended else "length")
        check_likeliest(both, ids, encoded, [*answer.tokens, *ended])


def check_likeliest(
    both: Both, ids: list[int], pictures: list[torch.Tensor], tokens: list[int]
) -> None:
    """Of two tokens that are nearly as likely, rounded rows may prefer the other one; what follows
    is then another answer. So the reference is asked about the very tokens that were chosen."""
    x = expected.splice(expected.embed(both.llm, both.config, ids), ids, pictures)
    x = torch.cat([x, expected.embed(both.llm, both.config, tokens[:-1])])
    truth = expected.logits(both.llm, both.config, x, both.kept)[-len(tokens) :]
    chosen = truth[torch.arange(len(tokens)), torch.tensor(tokens)]
    short = (truth.max(dim=1).values - chosen) / truth.abs().max(dim=1).values
    assert float(short.max()) < 2 * both.joint.largest  # the one too small, the other too large
    assert float((short == 0).float().mean()) > 0.5, "the reference prefers other tokens"


# --- verify, with real bundles ---


def test_verify_holds(both: Both) -> None:
    stages = verify(both.bundle, both.checkpoint)
    assert [stage.stage for stage in stages if not stage.ok] == []


def test_verify_names_other_weights(both: Both, tmp_path: Path) -> None:
    other = write_checkpoint(tmp_path, both.config, "float32", seed=1)
    stages = {stage.stage: stage for stage in verify(both.bundle, other)}
    assert stages["pixels"].ok
    wrong = [stages[name] for name in ("vision", "resampler", "embed", "logits", "end_to_end")]
    assert not any(stage.ok for stage in wrong)
    assert all(stage.snr_db < 3 for stage in wrong)


def test_verify_refuses_another_model(both: Both, tmp_path: Path) -> None:
    config = {**both.config, "rms_norm_eps": 2e-5}
    with pytest.raises(MismatchError, match="config.json"):
        verify(both.bundle, write_checkpoint(tmp_path, config, "float32"))
