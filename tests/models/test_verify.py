"""Stage-by-stage comparison: a fault is located in its stage and measured in dB.

The numpy reference with one degraded stage replaces the compiled model, so these tests compile
nothing; `test_end_to_end.py` verifies real bundles.
"""

import json
import math
from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch_minicpmv
from as_stored import as_stored
from manifests import seed_prompt, square
from odd_models import UNTIED, write_checkpoint

from handglass.compiler.checkpoints.checkpoint import Checkpoint
from handglass.compiler.models import FAMILIES
from handglass.compiler.models.model_config import ModelConfig
from handglass.compiler.models.storage import Storage
from handglass.compiler.parity import reference, stored_weights
from handglass.compiler.parity.floors import FRAMES, Floors
from handglass.compiler.parity.inputs import drawn_picture, splice
from handglass.compiler.parity.ratios import Ratio, Stage, report, snr_db
from handglass.compiler.parity.stored_weights import WEIGHTS, Losses, StoredWeights
from handglass.compiler.schemes.kv_cache import CACHE_TYPES
from handglass.compiler.schemes.quantize import SCHEMES
from handglass.compiler.verify import ORDER, Comparison
from handglass.compiler.verify_subject import Subject, units_of
from handglass.errors import MismatchError
from handglass.runtime.bundle.entries import TargetEntry
from handglass.runtime.prompt.tokenizer import open_tokenizer
from handglass.schedules.select import ANY_CPU, BF16_DOT
from handglass.targets.presets.x86 import AMX_FLAGS

PROMPT = seed_prompt()
SCHEME = {"language": "f32", "vision": "f32"}
Change = Callable[[np.ndarray], np.ndarray]


class PlayedSession:
    """`Session` implemented with the reference; `change` degrades the result of one function."""

    on_gpu = True
    """It has no kernels whose arguments could be seen."""

    def __init__(
        self, weights: Checkpoint, spoiled: str = "", change: Change | None = None
    ) -> None:
        self.weights = weights
        self.model = ModelConfig.from_dict(weights.config)
        self.spoiled = spoiled
        self.change = change
        self.x = np.empty((0, self.model.language.hidden_size), np.float32)

    def encode_vision(self, strip: np.ndarray, position_ids: np.ndarray) -> np.ndarray:
        vision = self.model.vision
        side = math.isqrt(len(position_ids))
        args = (strip, side, side)
        return self._spoil("encode_vision", reference.encode_vision(self.weights, vision, *args))

    def resample(self, features: np.ndarray, grid: np.ndarray) -> np.ndarray:
        rows, cols = grid.max(axis=0) + 1
        resampler = self.model.resampler
        embeddings = reference.resample(self.weights, resampler, features, rows, cols)
        return self._spoil("resample", embeddings)

    def encode_image(
        self, strip: np.ndarray, position_ids: np.ndarray, grid: np.ndarray
    ) -> np.ndarray:
        return self.resample(self.encode_vision(strip, position_ids), grid)

    def embed(self, ids: list[int]) -> np.ndarray:
        return self._spoil("embed", reference.embed(self.weights, self.model.language, ids))

    def restore_state(self, state: None) -> None:
        """Keys and values alone need none."""

    def prefill(self, x: np.ndarray, pos: int) -> np.ndarray:
        self.x = np.concatenate([self.x[:pos], x])
        logits = reference.logits(self.weights, self.model.language, self.x, 1)[0]
        return self._spoil("prefill", logits)

    def decode(self, token: int, pos: int) -> np.ndarray:
        x = reference.embed(self.weights, self.model.language, [token])
        return self._spoil("decode", self.prefill(x, pos))

    def _spoil(self, name: str, result: np.ndarray) -> np.ndarray:
        return self.change(result) if self.change and name == self.spoiled else result


@pytest.fixture(autouse=True)
def few_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("handglass.compiler.verify_language.STEPS", 2)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    return Checkpoint.open(write_checkpoint(tmp_path_factory.mktemp("c"), UNTIED, "float32"))


def compare(
    weights: Checkpoint,
    spoiled: str = "",
    change: Change | None = None,
    mean: float = 0.5,
    scheme: dict[str, str] = SCHEME,
) -> list[Stage]:
    vision = square(56, 14, 5, 70, mean=(mean, 0.5, 0.5))
    state = SimpleNamespace(context=64, cache_dtype="float32")
    target = TargetEntry("host", "x86_64-linux-gnu", "haswell", ("avx2",))
    manifest: Any = SimpleNamespace(
        prompt=PROMPT, scheme=scheme, vision=vision, state=state, target=target
    )
    tokenizer = open_tokenizer("sentencepiece", weights.folder / "tokenizer.model")
    session: Any = PlayedSession(weights, spoiled, change)
    subject = Subject(session, weights, manifest)
    session.weights = subject.stored  # a compiled model computes with the stored weights
    return Comparison(subject, tokenizer).run([drawn_picture()], lambda *_: None)


@pytest.mark.parametrize("features", [AMX_FLAGS, ("avx512_bf16",)])
def test_the_host_of_a_gpu_bundle_lays_no_weights_out(features: tuple[str, ...]) -> None:
    host = TargetEntry("pc", "x86_64-linux-gnu", "sapphirerapids", features)
    found = [units_of(SimpleNamespace(target=replace(host, device=d))) for d in ("cpu", "vulkan")]  # type: ignore[arg-type]
    assert found[0].kinds[0] in {"amx", BF16_DOT} and found[1] == ANY_CPU


def noise(db: float) -> Change:
    """Add noise with a power of exactly `db` below the signal."""

    def add(x: np.ndarray) -> np.ndarray:
        e = np.random.default_rng(0).standard_normal(x.shape)
        return (x + e * np.sqrt((x**2).sum() / (e**2).sum() / 10 ** (db / 10))).astype(np.float32)

    return add


def test_the_reference_holds_against_itself(weights: Checkpoint) -> None:
    stages = compare(weights)
    assert [stage.stage for stage in stages] == STAGES
    assert all(stage.ok for stage in stages)
    assert all(stage.snr_db > 100 for stage in stages)


@pytest.mark.parametrize(
    ("function", "stage"),
    [
        ("encode_vision", "vision"),
        ("resample", "resampler"),
        ("embed", "embed"),
        ("prefill", "logits"),
        ("decode", "logits"),
    ],
)
def test_first_short_stage_is_where_the_fault_is(
    weights: Checkpoint, function: str, stage: str
) -> None:
    stages = compare(weights, function, noise(40.0))
    found = next(s for s in stages if not s.ok)
    assert found.stage == stage
    assert found.snr_db == pytest.approx(40.0, abs=2.0)  # of three rows, two are decoded
    assert not stages[-1].ok  # and propagates to the end


def test_wrong_constants_of_the_bundle_show_in_the_pixels(weights: Checkpoint) -> None:
    assert next(s for s in compare(weights, mean=0.4) if not s.ok).stage == "pixels"


def test_not_a_number_fails(weights: Checkpoint) -> None:
    def one_nan(x: np.ndarray) -> np.ndarray:
        return np.where(np.arange(x.size).reshape(x.shape) == 3, np.float32("nan"), x)

    short = [s.stage for s in compare(weights, "decode", one_nan) if not s.ok]
    assert short == ["logits", "end_to_end"]


STAGES = [WEIGHTS, *(stage for stage in ORDER if stage != FRAMES)]
"""Of a model that has no videos."""
LOSSY = {"language": "w4", "vision": "bf16"}


def test_floors_follow_the_scheme_of_each_part(weights: Checkpoint) -> None:
    stages = {stage.stage: stage for stage in compare(weights, scheme=LOSSY)}
    assert all(stage.ok for stage in stages.values())
    assert stages["vision"].floor_db > stages["resampler"].floor_db == stages["logits"].floor_db
    assert stages["logits"].floor_db > stages["end_to_end"].floor_db
    assert stages["logits"].snr_db < 25, "four bits lose accuracy"
    assert (stages["logits"].arithmetic_db or 0) > 100, "the arithmetic is exact"


@pytest.mark.parametrize(
    ("function", "stage"), [("encode_vision", "vision"), ("resample", "resampler")]
)
def test_a_fault_that_four_bits_would_hide(weights: Checkpoint, function: str, stage: str) -> None:
    """The noise equals that of a missing resampler position and is far below the noise of w4."""
    stages = {s.stage: s for s in compare(weights, function, noise(36.0), scheme=LOSSY)}
    assert stages[stage].snr_db > stages[stage].floor_db
    assert stages[stage].arithmetic_db == pytest.approx(36.0, abs=1.0)
    assert [name for name in STAGES if not stages[name].ok] == [stage, "encode_image"]


@pytest.fixture
def strict(monkeypatch: pytest.MonkeyPatch) -> None:
    """Floors that four bits do not reach."""
    usual = Floors.storage
    raised = {"logits": 60.0, "end_to_end": 57.0}
    monkeypatch.setattr(Floors, "storage", lambda floors: usual(floors) | raised)


def test_a_loss_of_the_storage_is_no_fault(weights: Checkpoint, strict: None) -> None:
    stages = compare(weights, scheme=LOSSY)
    assert all(stage.ok for stage in stages)
    assert [stage.stage for stage in stages if stage.is_lossy] == ["logits", "end_to_end"]
    assert report(stages)["lossy"] == ["logits", "end_to_end"]


def test_a_loss_without_storage_is_a_fault(weights: Checkpoint, strict: None) -> None:
    """In float32, and of what follows the storage: noise above its own floor."""
    stages = compare(weights, "prefill", noise(58.0))
    assert [stage.stage for stage in stages if not stage.ok] == ["logits"]
    stages = compare(weights, "prefill", noise(20.0), scheme=LOSSY)
    assert [stage.stage for stage in stages if not stage.ok] == ["logits"]


def test_a_fault_of_the_packing(weights: Checkpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    """The bundle and the reference share it, so that only the matrices show it."""
    right = stored_weights.round_trip

    def half(scheme: Any, rows: np.ndarray) -> np.ndarray:
        """Without every other row."""
        kept = right(scheme, rows).copy()
        kept[::2] = 0
        return kept

    monkeypatch.setattr(stored_weights, "round_trip", half)
    stages = compare(weights, scheme=LOSSY)
    assert [stage.stage for stage in stages if not stage.ok] == [WEIGHTS]
    assert stages[0].snr_db < 4 and stages[0].tensor in weights


@pytest.mark.parametrize(
    ("ratio", "holds"),
    [
        (Ratio(12.0, 35.0, 12.1), True),
        (Ratio(12.0, 29.0, 12.1), False),
        (Ratio(9.0, 35.0, 9.1), True),
        (Ratio(9.0, 35.0, 10.9), True),
        (Ratio(9.0, 35.0, 11.1), False),
        (Ratio(9.0), False),
        (Ratio(11.0), True),
        (Ratio(-math.inf, -math.inf, 3.0), False),
        (Ratio(-math.inf, None, 3.0), False),
        (Ratio(12.0, 16.0, 12.1, rounding_db=18.0), True),
        (Ratio(12.0, 14.0, 12.1, rounding_db=18.0), False),
        (Ratio(12.0, 29.0, 12.1, rounding_db=90.0), False),
    ],
)
def test_what_is_a_fault(ratio: Ratio, holds: bool) -> None:
    """With a floor of 10 dB, and one of 30 dB for the arithmetic."""
    assert ratio.holds(10.0, 30.0) is holds


@pytest.mark.parametrize("scheme", SCHEMES)
def test_stored_weights_are_what_the_packing_leaves(weights: Checkpoint, scheme: str) -> None:
    """Against a simple quantizer: stacked rows, thirds, right factors and single rows."""
    storage = Storage(SCHEMES[scheme], SCHEMES[scheme], 64, CACHE_TYPES["f32"])
    network = FAMILIES["minicpmv"].build(weights, ModelConfig.from_dict(UNTIED), storage)
    stored = StoredWeights(weights, network)
    exact = torch_minicpmv.load(weights.folder)[1]
    for name, expected in as_stored(exact, scheme, scheme).items():
        assert np.array_equal(stored.read(name, tuple(expected.shape)), expected.numpy()), name
    rows = stored.read_rows("llm.model.embed_tokens.weight", 7, 9)
    whole = stored.read("llm.model.embed_tokens.weight", (401, 128))
    assert np.array_equal(rows, whole[7:9])


def test_report_is_json(weights: Checkpoint) -> None:
    stages = [
        Stage("pixels", math.inf, 120.0, True),
        Stage("vision", 12.5, 80.0, False, 20.5),
        Stage("logits", -math.inf, 80.0, False, -math.inf),
    ]
    text = json.dumps(report(stages), allow_nan=False)
    read = json.loads(text)
    assert (read["ok"], read["first_fault"]) == (False, "vision")
    keys = ("stage", "snr_db", "floor_db", "ok", "arithmetic_db")
    assert [tuple(stage[key] for key in keys) for stage in read["stages"]] == [
        ("pixels", 300.0, 120.0, True, None),
        ("vision", 12.5, 80.0, False, 20.5),
        ("logits", -300.0, 80.0, False, -300.0),
    ]


# --- the measure itself ---


def test_snr_of_known_noise() -> None:
    truth = np.array([3.0, 4.0], np.float32)
    assert snr_db(truth, truth) == math.inf
    assert snr_db(truth, truth * np.float32(1.01)) == pytest.approx(40.0, abs=0.01)
    assert snr_db(truth, np.zeros_like(truth)) == pytest.approx(0.0)
    assert snr_db(truth, np.array([3.0, np.nan], np.float32)) == -math.inf
    assert snr_db(truth, np.array([3.0, np.inf], np.float32)) == -math.inf
    assert snr_db(np.zeros_like(truth), truth) == -math.inf
    with pytest.raises(MismatchError, match=r"\(2,\).*\(1,\)"):
        snr_db(truth, truth[:1])


def test_splice_keeps_the_order() -> None:
    text, picture = np.ones((2, 3), np.float32), np.full((2, 3), 7, np.float32)
    assert splice([5, None, None, 6], text, [picture])[:, 0].tolist() == [1, 7, 7, 1]


def test_what_storage_loses_by_layer() -> None:
    """Of each layer, the tensor that is nearest to its floor; what belongs to no layer is left
    out."""
    losses, scheme, random = Losses(), SCHEMES["w4a8"], np.random.default_rng(0)
    for name, noise in (
        ("model.embed.weight", 0.5),
        ("model.layers.0.up_proj.weight", 0.01),
        ("model.layers.0.down_proj.weight", 0.2),
        ("model.layers.10.up_proj.weight", 0.1),
        ("vpm.encoder.layers.3.fc1.weight", 0.0),
    ):
        exact = random.normal(size=(4, 32)).astype(np.float32)
        losses.note(name, scheme, exact, exact + noise * random.normal(size=exact.shape))
    found = losses.by_layer()
    assert [(layer.layer, layer.tensor.split(".")[-2]) for layer in found] == [
        ("model.layers.0", "down_proj"),
        ("model.layers.10", "up_proj"),
        ("vpm.encoder.layers.3", "fc1"),
    ]
    assert found[0].snr_db == pytest.approx(14, abs=2) and found[0].floor_db == scheme.floor_db
    stage = Stage(WEIGHTS, found[0].snr_db, scheme.floor_db, True, layers=found)
    assert [layer["snr_db"] for layer in report([stage])["layers"]][2] == 300.0
