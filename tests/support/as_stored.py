"""A checkpoint's weights after a round trip through each storage scheme, written straightforwardly.

The torch reference uses these weights, so compiled code can be tested with a tight tolerance in any
scheme: only the arithmetic may differ.
"""

from collections.abc import Callable

import numpy as np
import torch
from torch_minicpmv import Weights

Round = Callable[[torch.Tensor], torch.Tensor]


def w4(weight: torch.Tensor) -> torch.Tensor:
    """Round (out, in) to 4 bits with a float16 scale per 32 neighbors along the input.

    The largest magnitude of a group becomes -8, the scale is refitted to the codes by least
    squares, and the codes are rounded again. This must be done in float32 and in this order;
    otherwise a weight halfway between two codes may be rounded the other way.
    """
    rows, cols = weight.shape
    groups = np.pad(weight.numpy(), ((0, 0), (0, -cols % 32))).reshape(rows, -1, 32)
    peak = np.take_along_axis(groups, np.abs(groups).argmax(-1)[..., None], -1)
    codes = nearest(groups, peak / -8)
    fitted = np.einsum("rgk,rgk->rg", groups, codes)
    scale = fitted / np.maximum(np.einsum("rgk,rgk->rg", codes, codes), 1)
    scale = scale.astype(np.float16).astype(np.float32)[..., None]
    values = nearest(groups, scale) * scale
    return torch.from_numpy(values.reshape(rows, -1)[:, :cols].copy())


def nearest(groups: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """The nearest codes in -8 .. 7; 0 if the scale is 0."""
    inverse = np.divide(1, scale, out=np.zeros_like(scale), where=scale != 0)
    return np.clip(np.rint(groups * inverse), -8, 7)


def w8(weight: torch.Tensor, limit: int = 127) -> torch.Tensor:
    """Round (out, in) with a float32 scale per row that maps the largest magnitude to `limit`."""
    rows = weight.numpy()
    scale = np.abs(rows).max(1, keepdims=True) / np.float32(limit)
    inverse = np.divide(1, scale, out=np.zeros_like(scale), where=scale != 0)
    return torch.from_numpy(np.rint(rows * inverse) * scale)


ROUND: dict[str, Round] = {
    "f32": lambda weight: weight,
    "f16": lambda weight: weight.half().float(),
    "bf16": lambda weight: weight.bfloat16().float(),
    "w4": w4,
    "w4a8": w4,
    "w7a8": lambda weight: w8(weight, 63),
    "w8a8": w8,
}


def as_stored(weights: Weights, language: str, vision: str) -> Weights:
    """Matrices rounded by their scheme; norms, biases and the position table stay float32."""
    stored = dict(weights)
    for name, weight in weights.items():
        if name.startswith("vpm.") and is_matrix(name, weight):
            stored[name] = ROUND[vision](weight.flatten(1)).view(weight.shape)
        elif name.startswith("llm.") and is_matrix(name, weight):
            stored[name] = ROUND[language](weight)
    return stored | resampler_as_stored(weights, ROUND[language])


def is_matrix(name: str, weight: torch.Tensor) -> bool:
    return weight.ndim > 1 and "position_embedding" not in name


def resampler_as_stored(weights: Weights, rounded: Round) -> Weights:
    """Round the resampler. Its query path is constant and computed once, from exact weights."""
    names = ("kv_proj.weight", "attn.out_proj.weight")
    stored = {f"resampler.{name}": rounded(weights[f"resampler.{name}"]) for name in names}
    q, k, v = weights["resampler.attn.in_proj_weight"].chunk(3)
    stored["resampler.attn.in_proj_weight"] = torch.cat([q, rounded(k), rounded(v)])
    stored["resampler.proj"] = rounded(weights["resampler.proj"].T).T  # a right factor: (in, out)
    return stored
