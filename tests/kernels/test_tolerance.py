"""Tolerances: arithmetic of the intended precision passes, two bits less fails."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import torch_minicpmv as expected

pytest.importorskip("tvm", reason="schemes define the arithmetic")

from odd_models import ODD_MODELS, write_checkpoint
from tolerance import (
    BFLOAT16_ROWS,
    EXACT,
    FLOAT32,
    INT8_GROUPS,
    INT8_ROWS,
    Tolerance,
    of_rows,
    weaker,
)

from handglass.compiler.schemes.quantize import find_scheme
from handglass.schedules.isa.integer_isa import AMX, AVX512_VNNI
from handglass.schedules.select import cpu_units

Round = Callable[[torch.Tensor], torch.Tensor]


def mantissa(bits: int) -> Round:
    """Round to floats with `bits` bits of mantissa; bfloat16 has 8."""

    def rounded(x: torch.Tensor) -> torch.Tensor:
        fraction, exponent = torch.frexp(x)
        return torch.ldexp(torch.round(fraction * 2**bits) / 2**bits, exponent)

    return rounded


def integers(limit: int, size: int | None = None) -> Round:
    """Quantize groups of `size` neighbours, or whole rows, to integers up to `limit`."""

    def rounded(x: torch.Tensor) -> torch.Tensor:
        width = size or x.shape[-1]
        groups = F.pad(x, (0, -x.shape[-1] % width)).unflatten(-1, (-1, width))
        scale = groups.abs().amax(-1, keepdim=True) / limit
        return (torch.round(groups / scale) * scale).flatten(-2)[..., : x.shape[-1]]

    return rounded


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> tuple[expected.Config, expected.Weights]:
    folder = write_checkpoint(tmp_path_factory.mktemp("c"), ODD_MODELS["wide_heads"], "float32")
    return expected.load(folder)


@pytest.mark.parametrize(
    ("tolerance", "intended", "coarser"),
    [
        (FLOAT32, mantissa(20), mantissa(8)),
        (BFLOAT16_ROWS, mantissa(8), mantissa(6)),
        (INT8_ROWS, integers(127), integers(31)),
        (INT8_GROUPS, integers(127, 32), integers(31, 32)),
    ],
    ids=["float32", "bf16", "rows", "groups"],
)
def test_intended_precision_passes_and_less_fails(
    model: tuple[expected.Config, expected.Weights],
    tolerance: Tolerance,
    intended: Round,
    coarser: Round,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config, weights = model
    x = torch.from_numpy(
        np.random.default_rng(5).standard_normal((37, config["hidden_size"]), "f4")
    )

    def logits(rounded: Round | None = None) -> np.ndarray:
        with monkeypatch.context() as patch:
            if rounded:
                exact = expected.linear
                patch.setattr(expected, "linear", lambda w, name, x: exact(w, name, rounded(x)))
            return expected.logits(expected.part(weights, "llm."), config, x)[-1].numpy()

    truth = logits()
    tolerance.check(logits(intended), truth)
    with pytest.raises(AssertionError, match="dB"):
        tolerance.check(logits(coarser), truth)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_nan_inf_and_a_wrong_shape_fail(bad: float) -> None:
    truth = np.ones((3, 4), np.float32)
    wrong = truth.copy()
    wrong[1, 2] = bad
    with np.errstate(all="ignore"), pytest.raises(AssertionError):
        weaker(INT8_ROWS, INT8_GROUPS).check(wrong, truth)
    with pytest.raises(AssertionError):
        EXACT.check(truth[:2], truth)


def test_the_tolerance_depends_on_scheme_and_units() -> None:
    kinds = {
        name: of_rows(find_scheme(name, cpu_units(AMX))) for name in ("f32", "bf16", "w8a8", "w4a8")
    }
    assert kinds["f32"] == FLOAT32 and kinds["bf16"] == BFLOAT16_ROWS
    assert kinds["w8a8"] == INT8_ROWS and kinds["w4a8"] == INT8_GROUPS
    assert of_rows(find_scheme("bf16", cpu_units(AVX512_VNNI))) == FLOAT32
