"""The torch reference against results of the original code; no weights are needed.

Every tensor is filled with a formula of its name. The expected values are the output of the
released modelling files in float32.
"""

import math
from typing import Any

import pytest
import torch
import torch_timm
from torch_minicpmv import (
    embed,
    encode_vision,
    logits,
    position_ids,
    resample,
    resample_frames,
    sincos,
    sincos_of_time,
)

from handglass.runtime.prompt.preprocess import cut_patches

IDS = [1, 5, 9, 13, 96, 50, 2, 7, 31, 64, 3]


def filled(name: str, shape: tuple[int, ...], amp: float | None = None) -> torch.Tensor:
    """Values in [-amp, amp] that depend only on the name and the index; norm weights are near 1."""
    i = torch.arange(math.prod(shape), dtype=torch.int64)
    x = (31 * i * i + 7919 * i + 104729 * sum(name.encode())) % 2003
    u = (x.double() / 1001.5 - 1).reshape(shape)
    parts = name.split(".")
    if name.endswith("weight") and ("norm" in name or any(p.startswith("ln_") for p in parts)):
        return (1 + 0.2 * u).float()
    return ((0.3 if amp is None else amp) * u).float()


def filled_all(shapes: dict[str, tuple[int, ...]]) -> dict[str, torch.Tensor]:
    return {name: filled(name, shape) for name, shape in shapes.items()}


def linear(name: str, rows: int, cols: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (rows, cols), f"{name}.bias": (rows,)}


def norm(name: str, size: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (size,), f"{name}.bias": (size,)}


def close(actual: torch.Tensor, expected: list[float] | float) -> None:
    torch.testing.assert_close(actual, torch.tensor(expected), atol=3e-5, rtol=2e-5)


def test_filler() -> None:
    close(filled("query", (9, 64)).flatten()[:4], [0.249675, 0.231103, 0.231103, 0.249675])


# --- G1: MiniCPM ---

MINICPM: dict[str, Any] = {
    "hidden_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "rms_norm_eps": 1e-5,
    "rope_theta": 1e4,
    "scale_emb": 12,
    "scale_depth": 1.4,
    "dim_model_base": 16,
}


def minicpm_shapes() -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (97, 48)}
    for number in range(3):
        layer = f"model.layers.{number}"
        shapes |= {
            f"{layer}.{part}_layernorm.weight": (48,) for part in ("input", "post_attention")
        }
        rows = {"q": 48, "k": 16, "v": 16, "o": 48}
        shapes |= {f"{layer}.self_attn.{p}_proj.weight": (r, 48) for p, r in rows.items()}
        shapes |= {f"{layer}.mlp.{part}_proj.weight": (80, 48) for part in ("gate", "up")}
        shapes[f"{layer}.mlp.down_proj.weight"] = (48, 80)
    return {**shapes, "model.norm.weight": (48,), "lm_head.weight": (97, 48)}


def test_g1_minicpm() -> None:
    weights = filled_all(minicpm_shapes())
    out = logits(weights, MINICPM, embed(weights, MINICPM, IDS))
    close(out[10, :6], [-0.06418, 0.15743, 0.24705, 0.53055, 0.20043, -0.01894])
    close(out[0, :6], [0.23206, 0.53589, -0.49487, 0.38906, 0.53494, -0.41006])
    assert int(out[10].argmax()) == 38
    close(out.norm(), 13.14089)


# --- G2: resampler ---


RESAMPLER: dict[str, tuple[int, ...]] = {
    "query": (9, 64),
    "kv_proj.weight": (64, 48),
    "attn.in_proj_weight": (192, 64),
    "attn.in_proj_bias": (192,),
    **linear("attn.out_proj", 64, 64),
    **norm("ln_q", 64),
    **norm("ln_kv", 64),
    **norm("ln_post", 64),
    "proj": (64, 64),
}


def test_g2_resampler() -> None:
    out = resample(filled_all(RESAMPLER), filled("input", (15, 48), 1.0), 3, 5, heads=4)
    close(out[0, :5], [2.50890, -2.32600, -0.80528, 1.13965, -0.04927])
    close(out[8, -5:], [0.41337, 0.22825, 0.26887, 1.29691, 1.45173])
    close(out.norm(), 31.89122)


def test_g2t_one_frame_is_independent_of_its_time() -> None:
    frame = [filled("input", (15, 48), 1.0)]
    out = resample_frames(filled_all(RESAMPLER), frame, [(3, 5)], [7], heads=4)
    close(out[0, :5], [2.50890, -2.32600, -0.80528, 1.13965, -0.04927])
    close(out.norm(), 31.89122)


def test_g2p_two_frames() -> None:
    frames = [filled(name, (15, 48), 1.0) for name in ("input", "input2")]
    out = resample_frames(filled_all(RESAMPLER), frames, [(3, 5)] * 2, [3, 8], heads=4)
    close(out[0, :5], [2.08615, 0.56689, -0.56099, 1.56018, 1.49537])
    close(out.norm(), 31.90480)


def test_g14_positions_of_a_time() -> None:
    waves = [0.65699, 0.64422, 0.06994, 0.00700, 0.75390, 0.76484, 0.99755, 0.99998]
    close(sincos_of_time(7, 8), waves)


# --- G3: vision tower ---

SIGLIP: dict[str, Any] = {"num_hidden_layers": 3, "num_attention_heads": 4, "patch_size": 14}


def siglip_shapes() -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {
        "embeddings.patch_embedding.weight": (48, 3, 14, 14),
        "embeddings.patch_embedding.bias": (48,),
        "embeddings.position_embedding.weight": (4900, 48),
    }
    for number in range(3):
        layer = f"encoder.layers.{number}"
        for part in ("q", "k", "v", "out"):
            shapes |= linear(f"{layer}.self_attn.{part}_proj", 48, 48)
        shapes |= norm(f"{layer}.layer_norm1", 48) | norm(f"{layer}.layer_norm2", 48)
        shapes |= linear(f"{layer}.mlp.fc1", 100, 48) | linear(f"{layer}.mlp.fc2", 48, 100)
    return shapes | norm("post_layernorm", 48)


def siglip(rows: int, cols: int, ids: torch.Tensor) -> torch.Tensor:
    strip = filled("input", (3, 14, rows * cols * 14), 1.0)
    return encode_vision(filled_all(siglip_shapes()), SIGLIP, strip, ids)


def test_g3_small_grid() -> None:
    out = siglip(3, 5, position_ids(3, 5, 70))
    close(out[0, :5], [0.59356, 0.28798, -0.05286, 1.54318, 1.18055])
    close(out[14, :5], [-0.02681, 1.08000, 1.11548, 0.13420, -1.41583])
    close(out.norm(), 27.71704)


def test_g3_grid_where_the_trained_ids_are_not_the_floor() -> None:
    out = siglip(25, 2, position_ids(25, 2, 70))
    close(out[0, :5], [1.95394, 0.55771, 0.61906, 1.15941, -1.71736])
    close(out[49, :5], [0.74252, 0.15608, 0.79899, 1.34954, -0.58185])
    close(out[20, :3], [0.23006, 0.00268, -1.00986])
    close(out.norm(), 50.46434)


def test_g3_with_floor_ids_differs() -> None:
    floor = (70 * torch.arange(25) // 25)[:, None] * 70 + 70 * torch.arange(2) // 2
    close(siglip(25, 2, floor.flatten())[20, :3], [0.28125, -0.03107, -0.95157])


# --- G12: vision tower of 2.0, two of three blocks run ---


def timm_shapes() -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {
        "patch_embed.proj.weight": (48, 3, 14, 14),
        "patch_embed.proj.bias": (48,),
        "pos_embed": (1, 25, 48),
    }
    for number in range(2):
        block = f"blocks.{number}"
        shapes |= linear(f"{block}.attn.qkv", 144, 48) | linear(f"{block}.attn.proj", 48, 48)
        shapes |= norm(f"{block}.norm1", 48) | norm(f"{block}.norm2", 48)
        shapes |= linear(f"{block}.mlp.fc1", 120, 48) | linear(f"{block}.mlp.fc2", 48, 120)
    return shapes | norm("norm", 48)


def timm(rows: int, cols: int) -> torch.Tensor:
    picture = filled("input", (3, 14 * rows, 14 * cols), 1.0)
    strip, _ = cut_patches(picture.numpy(), 14)
    weights = filled_all(timm_shapes())
    return torch_timm.encode_vision(weights, torch.from_numpy(strip), rows, cols, 2, 4)


def test_g12_resized_positions() -> None:
    out = timm(3, 7)
    close(out[0, :5], [1.84422, 1.44209, -1.52191, 0.14174, 1.10592])
    close(out[20, :5], [1.53399, 0.05653, -0.83994, -0.19834, -1.13614])
    close(out.norm(), 33.34431)


def test_g12_grid_of_the_table() -> None:
    out = timm(5, 5)
    close(out[0, :5], [2.28923, 2.34222, 0.87553, -0.62992, 1.78407])
    close(out[24, :5], [0.24547, 1.66034, 0.43846, -0.95115, 1.63014])
    close(out.norm(), 36.73564)


# --- G13: sine and cosine positions ---


@pytest.mark.parametrize(
    ("row", "column", "expected"),
    [
        (2, 3, [0.14112, 0.03, -0.98999, 0.99955, 0.90930, 0.02, -0.41615, 0.99980]),
        (1, 4, [-0.75680, 0.03999, -0.65364, 0.99920, 0.84147, 0.01, 0.54030, 0.99995]),
    ],
)
def test_g13_positions(row: int, column: int, expected: list[float]) -> None:
    close(sincos(3, 5, 8)[row * 5 + column], expected)
