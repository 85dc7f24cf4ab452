"""`verify` on every family that compiles: real bundles of tiny checkpoints with random weights."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from released import write_release
from released46 import write_checkpoint
from safetensors.numpy import load_file, save_file

from handglass.compiler.build import compile_model
from handglass.compiler.verify import verify

pytestmark = [pytest.mark.compiler, pytest.mark.slow]

WRITERS: dict[str, Callable[[Path], object]] = {
    "4.6": write_checkpoint,
    "2.6": lambda folder: write_release(folder, "2.6"),
    "4.0": lambda folder: write_release(folder, "4.0"),
    "4.5": lambda folder: write_release(folder, "4.5"),
}
STAGES = {
    "4.6": ["pixels", "encode_image", "embed", "logits", "end_to_end"],
    "2.6": ["pixels", "vision", "resampler", "encode_image", "embed", "logits", "end_to_end"],
}
QUIET = 0.4
"""The factor of the matrices of the language model. Without it, each layer of these checkpoints
amplifies noise, and four layers lose more in four or eight bits than the floors allow (8.7 and 20
dB), although the arithmetic is exact: trained layers change their rows less."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("families")


def checkpoint_of(folder: Path, version: str) -> Path:
    """Written once per version."""
    checkpoint = folder / f"checkpoint-{version}"
    if not checkpoint.exists():
        WRITERS[version](checkpoint)
        rewrite(checkpoint, checkpoint, quieten)
    return checkpoint


def bundle_of(folder: Path, version: str, scheme: str) -> Path:
    bundle = folder / f"{version}-{scheme}"
    if not bundle.exists():
        compile_model(checkpoint_of(folder, version), bundle, quantization=scheme, context=512)
    return bundle


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
        if name.endswith("_proj.weight") and name.startswith(("llm.", "model.language_model.")):
            array *= QUIET


@pytest.mark.parametrize("scheme", ["f32", "w8a8", "w4a8"])
@pytest.mark.parametrize("version", WRITERS)
def test_verify_holds(folder: Path, version: str, scheme: str) -> None:
    bundle = bundle_of(folder, version, scheme)
    stages = verify(bundle, checkpoint_of(folder, version))
    assert [stage.stage for stage in stages] == STAGES.get(version, STAGES["2.6"])
    assert [stage for stage in stages if not stage.ok] == []


LANGUAGE = "model.language_model.layers"
CHANGED = [  # version, tensor, element, the first stage that falls short
    ("4.6", f"{LANGUAGE}.0.linear_attn.conv1d.weight", (70, 0, 3), "logits"),
    ("4.6", f"{LANGUAGE}.1.linear_attn.A_log", (2,), "logits"),
    ("4.6", f"{LANGUAGE}.2.linear_attn.in_proj_b.weight", (1, 5), "logits"),
    ("4.6", f"{LANGUAGE}.3.self_attn.q_proj.weight", (40, 5), "logits"),  # the gate of head 0
    ("4.6", f"{LANGUAGE}.3.self_attn.q_norm.weight", (3,), "logits"),
    ("4.6", "model.vision_tower.vit_merger.linear_2.weight", (5, 7), "encode_image"),
    ("4.6", "model.vision_tower.vit_merger.self_attn.k_proj.weight", (5, 7), "encode_image"),
    ("4.6", "model.merger.mlp.0.linear_1.bias", (9,), "encode_image"),
    ("2.6", "resampler.attn.in_proj_weight", (300, 2), "resampler"),
    ("2.6", "llm.model.layers.1.self_attn.v_proj.bias", (4,), "logits"),
    ("4.5", "llm.model.layers.1.self_attn.k_norm.weight", (4,), "logits"),
]


@pytest.mark.parametrize(("version", "name", "place", "stage"), CHANGED)
def test_one_other_number_is_found(
    folder: Path, tmp_path: Path, version: str, name: str, place: tuple[int, ...], stage: str
) -> None:
    """In float32, verify tells a checkpoint from one that differs in a single number."""

    def change(tensors: dict[str, np.ndarray]) -> None:
        tensors[name][place] += 0.5

    rewrite(checkpoint_of(folder, version), tmp_path / "other", change)
    stages = verify(bundle_of(folder, version, "f32"), tmp_path / "other")
    assert next(s.stage for s in stages if not s.ok) == stage
