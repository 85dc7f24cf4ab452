"""Resized tables of positions: compiled and in numpy, against torch."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

pytest.importorskip("tvm", reason="compiles with the TVM compiler")

from compiled_module import HeldWeights, compile_module, host_scheme
from tvm.relax.frontend.nn import spec

from handglass.compiler.models.key_positions import bicubic_weights
from handglass.compiler.models.position_tables import SIDE, Resized
from handglass.compiler.parity.reference.resizing import resized
from handglass.runtime.prompt.positions import place_ids

GRIDS = [(27, 27), (32, 32), (9, 116), (117, 9), (23, 45), (1, 3), (27, 40), (3, 2)]
# Not (2, 1): torch 2.13 resizes to a single column by another rule, to a single row by this one.


def table(side: int, d: int) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(side).standard_normal((side * side, d))).float()


def by_torch(stored: torch.Tensor, rows: int, cols: int, antialias: bool) -> np.ndarray:
    side = round(len(stored) ** 0.5)
    square = stored.T.reshape(1, -1, side, side)
    large = F.interpolate(square, size=(rows, cols), mode="bicubic", antialias=antialias)
    out: np.ndarray = large[0].flatten(1).T.numpy()
    return out


@pytest.mark.parametrize("side", [27, 5])
def test_resized(side: int) -> None:
    """Enlarged, reduced, the grid of the table itself, and one row."""
    stored = table(side, 20)
    module = Resized("pos_embed", side, 20, host_scheme("f32"))
    weights = HeldWeights({"pos_embed": stored[None].numpy()})
    run, _ = compile_module(module, weights, position_ids=spec.Tensor(["n"], "int32"))
    for rows, cols in GRIDS:
        truth = by_torch(stored, rows, cols, antialias=True)
        actual = run(place_ids(rows, cols, SIDE))
        assert np.abs(actual - truth).max() < 1e-5
        if (rows, cols) == (side, side):
            assert np.array_equal(actual, stored.numpy())
        again = resized(stored.numpy(), rows, cols, a=-0.5, antialias=True)
        assert np.abs(again - truth).max() < 1e-5


@pytest.mark.parametrize(("side", "rows", "cols"), [(8, 32, 32), (3, 7, 7), (8, 8, 8), (2, 5, 9)])
def test_enlarged(side: int, rows: int, cols: int) -> None:
    stored = table(side, 12)
    truth = by_torch(stored, rows, cols, antialias=False)
    square = stored.numpy().reshape(side, side, -1)
    y, x = bicubic_weights(side, rows), bicubic_weights(side, cols)
    actual = np.einsum("ya,xb,abd->yxd", y, x, square).reshape(rows * cols, -1)
    assert np.abs(actual - truth).max() < 1e-5
    again = resized(stored.numpy(), rows, cols, a=-0.75, antialias=False)
    assert np.abs(again - truth).max() < 1e-5
