"""`verify`, `bench` and `inspect` on every family that compiles: real bundles of tiny checkpoints
with random weights."""

import json
import re
import subprocess
import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from shared_releases import EARLY, MERGED, WRITERS, compiled
from thinned import only

from handglass.compiler.build import compile_model
from handglass.compiler.tuning.tuning_input import CompileOptions, read_tuning_input
from handglass.compiler.verify import verify
from handglass.runtime.engine.session import Session

pytestmark = [pytest.mark.compiler, pytest.mark.slow]

RELEASES = ("4.6", "4.7", *EARLY, "2.5", "2.6", "4.0", "4.5")
LANGUAGE_STAGES = ["embed", "logits", "end_to_end"]
RESAMPLED = ["weights", "pixels", "vision", "resampler", "encode_image"]
STAGES = {
    True: ["weights", "pixels", "encode_image", *LANGUAGE_STAGES],
    False: [*RESAMPLED, *LANGUAGE_STAGES],
}
"""Whether the release has a merger -> the stages."""


def stages_of(version: str) -> list[str]:
    """4.5 takes the frames of a video together."""
    if version == "4.5":
        return [*RESAMPLED, "frames", *LANGUAGE_STAGES]
    return STAGES[version in MERGED]


QUIET = 0.4
"""The factor of the matrices of the language model. Without it, each layer of these checkpoints
amplifies noise, and four layers lose more in four or eight bits than the floors allow (8.7 and 20
dB), although the arithmetic is exact: trained layers change their rows less."""


class Bundles:
    """Compiled once: in float32 for all test files, in integers with quiet weights for this one."""

    def __init__(self, factory: pytest.TempPathFactory) -> None:
        self.factory = factory
        self.folder = factory.mktemp("families")

    def checkpoint(self, version: str, scheme: str) -> Path:
        if scheme == "f32":
            return compiled(self.factory, version) / "checkpoint"
        checkpoint = self.folder / f"checkpoint-{version}"
        if not checkpoint.exists():
            WRITERS[version](checkpoint)
            rewrite(checkpoint, checkpoint, quieten)
        return checkpoint

    def bundle(self, version: str, scheme: str) -> Path:
        if scheme == "f32":
            return compiled(self.factory, version) / "bundle"
        bundle, checkpoint = self.folder / f"{version}-{scheme}", self.checkpoint(version, scheme)
        if not bundle.exists():
            compile_model(checkpoint, bundle, quantization=scheme, context=512)
        return bundle


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> Bundles:
    return Bundles(tmp_path_factory)


def rewrite(
    checkpoint: Path, output: Path, change: Callable[[dict[str, np.ndarray]], object]
) -> None:
    """A copy of the checkpoint with other weights."""
    output.mkdir(exist_ok=True)
    for path in checkpoint.iterdir():
        (output / path.name).write_bytes(path.read_bytes())
    tensors = {name: array.copy() for name, array in load_file(output / NAME).items()}
    change(tensors)
    save_file(tensors, output / NAME)


NAME = "model.safetensors"


def quieten(tensors: dict[str, np.ndarray]) -> None:
    for name, array in tensors.items():
        is_language = name.startswith(("llm.model.layers", "model.language_model.layers"))
        if is_language and array.ndim == 2:
            array *= QUIET


INTEGER = {"4.6": "w8a8", "2.6": "w4a8"}
"""Release -> the integers in which it is verified and measured."""
LARGE = pytest.mark.large
INTEGERS = [
    pytest.param("4.6", "w8a8", marks=LARGE),
    pytest.param("2.6", "w4a8", marks=LARGE),
    *(pytest.param("2.0", scheme, marks=LARGE) for scheme in ("w8a8", "w4a8")),
    *(pytest.param(version, "w4a8", marks=LARGE) for version in ("4.0", "4.5", "4.6")),
    pytest.param("2.6", "w8a8", marks=LARGE),
]
"""The kernels of a scheme are those of every release; the weights of 1.0, 2.5 and 4.7 are nearly
those of 2.0, 4.0 and 4.6."""


IN_SHORT = ("4.6", "2.6", "4.5")
"""A merger, a resampler, and one for frames: `make test` compiles no other release."""
IN_FLOAT32 = [pytest.param(v, "f32", marks=() if v in IN_SHORT else LARGE) for v in RELEASES]


@pytest.mark.parametrize(("version", "scheme"), [*IN_FLOAT32, *INTEGERS])
def test_verify_holds(bundles: Bundles, version: str, scheme: str) -> None:
    stages = verify(bundles.bundle(version, scheme), bundles.checkpoint(version, scheme))
    assert [stage.stage for stage in stages] == stages_of(version)
    assert [stage for stage in stages if not stage.ok or stage.is_lossy] == []
    seen = {stage.stage: stage.arrivals for stage in stages if stage.arrivals}
    assert list(seen) == ["encode_image" if version in MERGED else "vision", "logits"]
    towers = [rows[0].layer.rpartition(".layers.")[0] for rows in seen.values()]
    for tower, rows in zip(towers, seen.values(), strict=True):
        names = [row.layer for row in rows]
        assert names[:-1] == [f"{tower}.layers.{n}" for n in range(len(rows) - 1)]
        assert names[-1].endswith("norm") and len(rows) > 2
    lowest = min(row.arithmetic_db for rows in seen.values() for row in rows)
    assert lowest > (80 if scheme == "f32" else 25)


LANGUAGE = "model.language_model.layers"
CHANGED = [  # version, tensor, element, the first stage that falls short
    ("4.6", f"{LANGUAGE}.0.linear_attn.conv1d.weight", (70, 0, 3), "logits"),
    ("2.6", "resampler.attn.in_proj_weight", (300, 2), "resampler"),
]
MORE_CHANGED = [
    ("4.6", "model.vision_tower.vit_merger.linear_2.weight", (5, 7), "encode_image"),
    ("4.5", "llm.model.layers.1.self_attn.k_norm.weight", (4,), "logits"),
    ("4.6", f"{LANGUAGE}.3.self_attn.q_proj.weight", (40, 5), "logits"),  # the gate of head 0
    ("4.6", "model.merger.mlp.0.linear_1.bias", (9,), "encode_image"),
    ("2.6", "llm.model.layers.1.self_attn.v_proj.bias", (4,), "logits"),
    ("1.0", "resampler.pos_embed", (4, 30), "resampler"),
    ("2.0", "resampler.pos_embed", (4, 30), "resampler"),
    ("2.0", "vpm.pos_embed", (0, 24, 7), "vision"),
    ("4.6", f"{LANGUAGE}.1.linear_attn.A_log", (2,), "logits"),
    ("4.6", f"{LANGUAGE}.2.linear_attn.in_proj_b.weight", (1, 5), "logits"),
    ("4.6", f"{LANGUAGE}.3.self_attn.q_norm.weight", (3,), "logits"),
    ("4.6", "model.vision_tower.vit_merger.self_attn.k_proj.weight", (5, 7), "encode_image"),
    ("2.0", "vpm.blocks.1.attn.qkv.bias", (100,), "vision"),
]
"""Other tensors of the same layers, and other releases."""


@pytest.mark.parametrize(
    ("version", "name", "place", "stage"),
    [*CHANGED, *(pytest.param(*case, marks=LARGE) for case in MORE_CHANGED)],
)
def test_one_other_number_is_found(
    bundles: Bundles, tmp_path: Path, version: str, name: str, place: tuple[int, ...], stage: str
) -> None:
    """In float32, verify tells a checkpoint from one that differs in a single number."""

    def change(tensors: dict[str, np.ndarray]) -> None:
        tensors[name][place] += 0.5

    rewrite(bundles.checkpoint(version, "f32"), tmp_path / "other", change)
    stages = verify(bundles.bundle(version, "f32"), tmp_path / "other")
    found = next(s for s in stages if not s.ok)
    assert found.stage == stage
    if layer := re.search(r"(?:layers|blocks)\.(\d+)\.", name):
        rows = [row.snr_db for row in found.arrivals]
        falls = [before - after for before, after in pairwise(min(db, 130.0) for db in rows)]
        assert falls.index(max(falls)) == int(layer[1]), "the layer that differs is the one"


def test_another_time_is_found(bundles: Bundles, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the frames of a video have times."""
    right = Session.resample_frames
    late = lambda self, x, grids, times: right(self, x, grids, [*times[:-1], times[-1] + 1])  # noqa: E731
    monkeypatch.setattr(Session, "resample_frames", late)
    stages = verify(bundles.bundle("4.5", "f32"), bundles.checkpoint("4.5", "f32"))
    assert [stage.stage for stage in stages if not stage.ok] == ["frames"]


# --- measuring ---


def ask(*arguments: str | Path) -> Any:
    """The JSON that a verb prints."""
    command = [sys.executable, "-m", "handglass.cli.main", *map(str, arguments), "--json"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@LARGE
@pytest.mark.parametrize("version", ["4.6", "2.6"])
def test_bench(bundles: Bundles, version: str) -> None:
    report = ask("bench", bundles.bundle(version, INTEGER[version]), "--quick", "--samples", "1")
    rows = {row["row"]: row for row in report["rows"] if row["min"] is not None}
    assert list(rows) == ["encode", "pp64", "tg64@0", "ttft", "load", "peak_memory"]
    for name in ("encode", "pp64", "tg64@0", "ttft"):
        assert rows[name]["limit_fraction"] > 0


@LARGE
@pytest.mark.parametrize(("version", "layers"), [("4.6", 3), ("2.6", 0)])
def test_kernels(bundles: Bundles, version: str, layers: int) -> None:
    """Every kernel of the language model has work; a recurrence runs once per layer."""
    report = ask("bench", bundles.bundle(version, INTEGER[version]), "--kernels", "--samples", "1")
    names = [phase["phase"] for phase in report["phases"]]
    assert names == ["encode", "prefill 64", "decode@511"]
    for phase in report["phases"][1:]:
        kernels = {row["kernel"]: row for row in phase["kernels"]}
        ruled = [row for row in kernels.values() if row["rule"]]
        assert all(row["bytes"] > 0 for row in ruled)
        assert all(row["gflop_s"] for row in ruled if row["rule"] == "cpu-dot")
        calls = [row["calls"] for row in ruled if row["rule"] == "cpu-recurrence"]
        assert calls == [layers] * len(calls) and bool(calls) == bool(layers)


@pytest.mark.parametrize(("version", "tokens"), [("4.6", 64), ("2.6", 8)])
def test_inspect(bundles: Bundles, version: str, tokens: int) -> None:
    bundle = bundles.bundle(version, "f32")
    command = [sys.executable, "-m", "handglass.cli.main", "inspect", str(bundle)]
    shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert f"slices of 448x448 in patches of 14, {tokens} tokens each" in shown
    assert "BROKEN" not in shown


@pytest.mark.parametrize(("version", "tiles"), only([("4.6", 10)], [("4.6", 10), ("2.6", 10)]))
def test_kernels_to_tune(bundles: Bundles, version: str, tiles: int) -> None:
    options = CompileOptions("host", quantization="w8a8", context=512)
    found = read_tuning_input(bundles.checkpoint(version, "w8a8"), options)
    calls = {part.function: part.calls for part in found.parts}
    assert calls == {"encode_image": tiles, "prefill": 1, "decode": 64}
