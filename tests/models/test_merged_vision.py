"""The vision side of MiniCPM-V 4.6: compiled and in numpy, against golden results, transformers and
short torch references."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import torch_minicpmv as plain

pytest.importorskip("tvm", reason="compiles with the TVM compiler")

from compiled_module import Compiled, HeldWeights, compile_module, host_scheme
from test_golden import filled
from thinned import only
from tvm.relax.frontend import nn
from tvm.relax.frontend.nn import spec

from handglass.compiler.lowering.phases import KernelRow
from handglass.compiler.lowering.workload import parts_of
from handglass.compiler.models.config import VisionConfig
from handglass.compiler.models.leaves import leaves
from handglass.compiler.models.merged_vision import FinalMerger, MergedVisionTower, WindowMerger
from handglass.compiler.models.merger_config import MergerConfig
from handglass.compiler.models.work import merged_vision_flops
from handglass.compiler.parity import reference
from handglass.compiler.parity.ratios import snr_db
from handglass.compiler.parity.reference.merged_vision import floor_ids
from handglass.compiler.parity.stored_weights import StoredWeights
from handglass.compiler.schemes.quantize import SCHEMES
from handglass.errors import InputError
from handglass.runtime.bundle.entries import MethodEntry, VisionEntry

pytestmark = [pytest.mark.compiler, pytest.mark.levels, pytest.mark.slow]

VISION = VisionConfig(24, 40, 3, 4, 980, 14, 1e-6, "gelu_pytorch_tanh")
ODD = VisionConfig(90, 100, 3, 5, 35, 5, 1e-6, "gelu_pytorch_tanh")  # head width 18, 7 x 7 places
MERGER = MergerConfig(hidden_size=32, insert_layer_id=1)
GRIDS = {
    "16x": [(4, 4), (4, 8), (12, 4), (8, 20), (4, 36)],
    "4x": [(2, 2), (2, 6), (10, 6), (4, 8)],
}


@dataclass
class Tower:
    """A compiled tower and its weights."""

    vision: VisionConfig
    merger: MergerConfig
    module: MergedVisionTower
    weights: HeldWeights
    run: Compiled
    kernels: tuple[KernelRow, ...]

    def __call__(self, strip: np.ndarray, rows: int, cols: int) -> np.ndarray:
        """The rows of a strip in the order of rows."""
        order = reference.in_windows(rows, cols, self.merger.levels)
        ids = floor_ids(rows, cols, self.vision.positions_per_side)[order].astype(np.int32)
        patches = np.split(strip, rows * cols, axis=2)
        return self.run(np.concatenate([patches[i] for i in order], axis=2), ids)

    def reference(self, weights: Any, strip: np.ndarray, rows: int, cols: int) -> np.ndarray:
        return reference.encode_merged(weights, self.vision, self.merger, strip, rows, cols)


def normal(*shape: int, seed: int = 3) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape, np.float32)


def random_weight(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """Norms near one, products that keep the size of their input, biases of some size."""
    values = normal(*shape, seed=sum(name.encode()))
    if "norm" in name and name.endswith("weight"):
        return 1 + np.float32(0.2) * values
    scale = 0.3 if len(shape) == 1 else np.prod(shape[1:]) ** -0.5
    return np.float32(scale) * values


def weights_of(module: nn.Module, fill: Callable[..., np.ndarray] = random_weight) -> HeldWeights:
    sources = (source for _, leaf in leaves(module) for source in leaf.sources)
    return HeldWeights({source.name: fill(source.name, source.shape) for source in sources})


def build(
    vision: VisionConfig,
    merger: MergerConfig,
    scheme: str = "f32",
    fill: Callable[..., np.ndarray] = random_weight,
) -> Tower:
    module = MergedVisionTower(vision, merger, host_scheme(scheme))
    weights = weights_of(module, fill)
    pixels = spec.Tensor([3, vision.patch_size, "strip"], "float32")
    run, kernels = compile_module(
        module, weights, pixels=pixels, position_ids=spec.Tensor(["n"], "int32")
    )
    return Tower(vision, merger, module, weights, run, kernels)


def close(actual: np.ndarray, truth: np.ndarray, tolerance: float) -> None:
    assert actual.shape == truth.shape and actual.dtype == np.float32
    assert np.abs(actual - truth).max() < tolerance * np.abs(truth).max()


# --- G9: results of the original code, with weights by a formula ---

GOLDEN: dict[str, Any] = {
    "16x": (
        [-0.82075, 2.47686, -2.99885, -0.66253, 0.03069],
        [1.31633, 2.05985, -0.78551, 0.31828, -2.97662],
        15.07099,
    ),
    "4x": (
        [0.00354, -0.30259, 1.16306, -1.48851, -0.17541],
        [0.69200, 0.70419, -1.43598, -0.85046, -3.28304],
        32.62555,
    ),
}


@pytest.mark.large
@pytest.mark.parametrize("mode", GOLDEN)
def test_g9(mode: str) -> None:
    merger = replace(MERGER, downsample=mode)
    tower = build(VISION, merger, fill=lambda name, shape: filled(name, shape).numpy())
    strip = filled("input", (3, 14, 448), 1.0).numpy()
    first, last, norm = GOLDEN[mode]
    for out in (tower(strip, 4, 8), tower.reference(tower.weights, strip, 4, 8)):
        assert out.shape == (32 // merger.patches_per_row, 32)
        np.testing.assert_allclose(out[0, :5], first, atol=3e-5)
        np.testing.assert_allclose(out[-1, :5], last, atol=3e-5)
        np.testing.assert_allclose(np.linalg.norm(out), norm, atol=3e-4)


# --- transformers, with random weights, on several grids ---


@pytest.fixture(scope="module", params=only(["16x"], GRIDS))
def tower(request: pytest.FixtureRequest) -> Tower:
    return build(ODD, replace(MERGER, downsample=request.param))


def transformers_rows(tower: Tower, strip: np.ndarray, rows: int, cols: int) -> np.ndarray:
    """The same weights in the classes of transformers."""
    from transformers.models.minicpmv4_6 import configuration_minicpmv4_6 as configuration
    from transformers.models.minicpmv4_6 import modeling_minicpmv4_6 as modeling

    vision, text = tower.vision, {"model_type": "qwen3_5_text", "hidden_size": 32}
    fields = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads")
    sizes = {name: getattr(vision, name) for name in (*fields, "image_size", "patch_size")}
    config = configuration.MiniCPMV4_6Config(
        text_config=text, vision_config=sizes, insert_layer_id=tower.merger.insert_layer_id
    )
    parts = {
        "model.vision_tower.": modeling.MiniCPMV4_6VisionModel._from_config(config.vision_config),
        "model.merger.": modeling.MiniCPMV4_6Merger(config),
    }
    held = {name: torch.from_numpy(array) for name, array in tower.weights.arrays.items()}
    skipped = "vit_merger." if tower.merger.levels == 1 else "none"
    for prefix, module in parts.items():
        missing, unexpected = module.load_state_dict(plain.part(held, prefix), strict=False)
        assert not unexpected and all(name.startswith(skipped) for name in missing)
    encoder, merger = (module.eval() for module in parts.values())
    sizes, twice = torch.tensor([[rows, cols]], dtype=torch.int32), tower.merger.levels == 2
    with torch.no_grad():
        pixels = torch.from_numpy(strip)[None]
        x = encoder(pixels, target_sizes=sizes, use_vit_merger=twice).last_hidden_state
        return merger(x, sizes // 2 if twice else sizes)[0].numpy()


def test_transformers_gives_the_same_rows(tower: Tower) -> None:
    for rows, cols in GRIDS[tower.merger.downsample]:
        strip = normal(3, 5, 5 * rows * cols, seed=rows + cols)
        truth = transformers_rows(tower, strip, rows, cols)
        close(tower.reference(tower.weights, strip, rows, cols), truth, 2e-5)
        close(tower(strip, rows, cols), truth, 1e-4)


def test_every_tensor_is_read(tower: Tower) -> None:
    known = set(tower.weights.arrays)
    tower.weights.seen.clear()
    tower.reference(tower.weights, normal(3, 5, 5 * 16), 4, 4)
    assert tower.weights.seen == known
    assert any("vit_merger" in name for name in known) == (tower.merger.levels == 2)


def test_layers_before_and_after_the_merger_share_their_kernels(tower: Tower) -> None:
    calls = {row.function: row.calls for row in tower.kernels}
    assert calls["vision_attention"] == 3 and "vision_attention1" not in calls
    assert not any("reshape" in name for name in calls), "merging windows copies nothing"


# --- each merger alone ---


def torch_windows(tower: Tower, x: torch.Tensor) -> torch.Tensor:
    """The window merger on x (n, d), four rows after four rows."""
    held = {name: torch.from_numpy(array) for name, array in tower.weights.arrays.items()}
    w, heads = plain.part(held, "model.vision_tower.vit_merger."), tower.vision.num_attention_heads
    rows = []
    for window in x.split(4):
        y = plain.layer_norm(w, "layer_norm1", window)
        parts = (plain.linear(w, f"self_attn.{name}_proj", y) for name in "qkv")
        q, k, v = (plain.split_heads(part, heads) for part in parts)
        mixed = plain.join_heads(plain.attention(q, k, v))
        z = window + plain.linear(w, "self_attn.out_proj", mixed)
        y = plain.linear(w, "linear_1", plain.layer_norm(w, "pre_norm", z.reshape(1, -1)))
        y = plain.linear(w, "linear_2", F.gelu(y, approximate="tanh"))
        rows.append(y + z.mean(0))
    return torch.cat(rows)


def torch_final(tower: Tower, x: torch.Tensor) -> torch.Tensor:
    held = {name: torch.from_numpy(array) for name, array in tower.weights.arrays.items()}
    w = plain.part(held, "model.merger.mlp.0.")
    y = plain.layer_norm(w, "pre_norm", x.reshape(len(x) // 4, -1))
    return plain.linear(w, "linear_2", F.gelu(plain.linear(w, "linear_1", y)))


@pytest.mark.parametrize("part", ["windows", "final"])
def test_one_merger(part: str) -> None:
    scheme, d = host_scheme("f32"), ODD.hidden_size
    if part == "windows":
        module = WindowMerger(ODD, scheme, "model.vision_tower.vit_merger")
        expected = torch_windows
    else:
        module, expected = FinalMerger(d, 32, scheme, "model.merger"), torch_final
    weights = weights_of(module)
    run, _ = compile_module(module, weights, x=spec.Tensor(["n", d], "float32"))
    held = Tower(ODD, MERGER, module, weights, run, ())
    for windows in (1, 3, 17):
        x = normal(4 * windows, d, seed=windows)
        close(run(x), expected(held, torch.from_numpy(x)).numpy(), 5e-6)


# --- storage, work, configuration ---


ONE_PER_KERNEL = {"w4a8"}
"""Integers; tests above have floats, and tests of kernels unpack weights of other widths."""


@pytest.mark.parametrize("scheme", only(ONE_PER_KERNEL, SCHEMES))
def test_schemes(scheme: str) -> None:
    """Against the weights as stored, only the rounding of activations may differ."""
    tower, floors = build(ODD, MERGER, scheme), host_scheme(scheme)
    strip = normal(3, 5, 5 * 96)
    stored = StoredWeights(tower.weights, tower.module)  # type: ignore[arg-type]
    out = tower(strip, 8, 12)
    assert snr_db(tower.reference(stored, strip, 8, 12), out) > floors.arithmetic_db
    assert snr_db(tower.reference(tower.weights, strip, 8, 12), out) > floors.floor_db


def counted(tower: Tower, n: int, layers: tuple[int, int]) -> int:
    """Operations by the sizes of the weights, for layers of n and of n / 4 rows."""
    total = 0
    for name, array in tower.weights.arrays.items():
        if array.ndim < 2 or "position" in name:
            continue
        rows = n
        if "encoder.layers" in name and int(name.split("layers.")[1].split(".")[0]) >= layers[0]:
            rows = n // 4
        if "merger" in name and "self_attn" not in name:
            rows = n // 4 if "vit_merger" in name else n // tower.merger.patches_per_row
        total += 2 * rows * array.size
    d = tower.vision.hidden_size
    within = 4 * n * 4 * d if tower.merger.levels == 2 else 0
    return total + within + 4 * d * (layers[0] * n * n + layers[1] * (n // 4) ** 2)


def test_work(tower: Tower) -> None:
    layers = (2, 1) if tower.merger.levels == 2 else (3, 0)
    assert merged_vision_flops(ODD, tower.merger, 64) == counted(tower, 64, layers)


def test_every_kernel_can_be_tuned_at_known_lengths(tower: Tower) -> None:
    entry = VisionEntry(
        image_size=448,
        patch_size=14,
        mean=(0.5,) * 3,
        std=(0.5,) * 3,
        slicing=MethodEntry("crops", {"boxes": [[0.0, 0.0, 1.0, 1.0]]}),
        positions=MethodEntry("bucket", {"side": 70}),
        patches_per_row=tower.merger.patches_per_row,
        window_levels=tower.merger.levels,
    )
    lengths = parts_of(entry, 128)[0].lengths
    rows = 1024 // tower.merger.patches_per_row
    assert lengths == {"n": 1024, "strip": 14336, "m": 256, "r": rows}
    named = {name for row in tower.kernels if row.work for name in row.work["symbols"]}
    assert {"n", "strip", "r"} <= named <= set(lengths)


def test_an_unknown_mode_is_refused() -> None:
    with pytest.raises(InputError, match="'2x'; known: 16x, 4x"):
        MergerConfig(32, downsample="2x")
