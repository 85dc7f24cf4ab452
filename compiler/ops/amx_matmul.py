"""Many-row matmul in AMX tile registers: rows and weights are packed into tiles of 1 KB.

Packed rows are (tiles of 16 rows, steps, 16, inputs per step), where a step is 32 bfloat16 values
or 64 bytes. schedules/isa/amx_instructions.py defines the layout of the weights.
"""

from __future__ import annotations

from collections.abc import Callable
from math import prod

from tvm import te, tirx
from tvm.ir import Expr

from handglass.schedules.isa.amx_instructions import BFLOAT16, INT8, TILE, TileProduct
from handglass.schedules.isa.amx_int4 import word_of_nibbles
from handglass.schedules.isa.amx_intrinsics import block_of
from handglass.schedules.isa.integer_isa import Codes
from handglass.schedules.isa.register_tiles import LANES
from handglass.schedules.rule import PATTERN

from .bfloat16 import bfloat16_bits
from .exponential import silu
from .index_type import int64, reduce_axis
from .padded import round_up
from .quantized import Quantized


def bfloat16_matmul(x: te.Tensor, out_features: int, weight: te.Tensor) -> te.Tensor:
    """x (m, k), rounded to bfloat16, times weight (panels, steps, 16, 16) uint32 -> (m, out).

    Word q of the weight holds inputs 2q (lower half) and 2q + 1. x, sums and result are float32.
    """
    rows = pack_rows(x, weight, BFLOAT16, bfloat16_bits)
    sums = tile_sums(rows, weight, BFLOAT16)
    return te.compute((x.shape[0], out_features), lambda i, j: sum_at(sums, i, j), name="out")


def gated_matmul(x: te.Tensor, f: int, weight: te.Tensor, scale: te.Tensor) -> te.Tensor:
    """x (m, k), rounded to bfloat16, times 4-bit weights of 2 f outputs, a gate and a value for
    each of f columns -> silu(gate) * value, (m, f).

    f is a multiple of 16. A task owns a panel of gates and that of the same columns' values.
    """
    words = nibbles_to_words(weight, scale, halves=2)
    rows = pack_rows(x, words, BFLOAT16, bfloat16_bits)
    sums = tile_sums(rows, words, BFLOAT16)

    def value(i: Expr, j: Expr) -> Expr:
        gate, up = (sums(j // TILE, half, i // TILE, i % TILE, j % TILE) for half in range(2))
        return silu(gate) * up

    return te.compute((x.shape[0], f), value, name="gated")


def int8_matmul(
    x: Quantized, out_features: int, codes: Codes, weight: te.Tensor, scale: te.Tensor
) -> te.Tensor:
    """int8 rows (m, k) times weight (panels, chunks, 4, 16, 4) -> (m, out) float32.

    `scale` is (panels, 1, 16) float32. Sums are int32.
    """
    rows = pack_rows(x.codes, weight, INT8, lambda code: code)
    sums = tile_sums(rows, weight, INT8)

    def value(i: Expr, j: Expr) -> Expr:
        whole = x.shifted(sum_at(sums, i, j), i, 0)
        return whole.astype("float32") * (x.scale[i, 0] * scale[j // LANES, 0, j % LANES])

    return te.compute((x.codes.shape[0], out_features), value, name="out")


def sum_at(sums: te.Tensor, i: Expr, j: Expr) -> Expr:
    """The sum of row i and output j."""
    return sums[j // TILE, i // TILE, i % TILE, j % TILE]


def pack_rows(
    x: te.Tensor, weight: te.Tensor, product: TileProduct, convert: Callable[[Expr], Expr]
) -> te.Tensor:
    """x (m, k) -> (tiles, steps, 16, inputs), padded with zeros."""
    (m, k), panels = x.shape, _panels(weight, product)
    height = block_of(prod(panels)).rows * TILE
    tiles = (m + (height - 1)) // height * (height // TILE)
    steps, inputs = _steps(weight, product), product.inputs
    unit = TILE if int(k) % TILE == 0 else 1  # one condition per whole vector
    whole = int(k) == steps * inputs

    def value(r: Expr, s: Expr, i: Expr, e: Expr) -> Expr:
        inside = r * TILE + i < m
        if not whole:
            inside = tirx.all(inside, s * inputs + e // unit * unit < k)
        zero = tirx.const(0, product.x)
        return tirx.if_then_else(inside, convert(x[r * TILE + i, s * inputs + e]), zero)

    return te.compute(
        (tiles, int64(steps), int64(TILE), int64(inputs)),
        value,
        name="rows",
        attrs={PATTERN: "rows"},
    )


def tile_sums(rows: te.Tensor, weight: te.Tensor, product: TileProduct) -> te.Tensor:
    """Packed rows times packed weights -> (*panels, tiles of rows, 16, 16).

    A single axis of panels is rounded up to whole blocks. The schedule reads no weights beyond the
    last panel, and nobody reads these sums.
    """
    s = reduce_axis(int(rows.shape[1]), "s")
    places = [reduce_axis(extent, f"q{n}") for n, extent in enumerate(product.places)]
    e = reduce_axis(product.pair, "e")

    def value(*index: Expr) -> Expr:
        *panel, r, i, j = index
        term = product.term(rows, weight, [r, i], panel, s, places, j, e)
        return te.sum(term, axis=[s, *places, e])

    panels = _panels(weight, product)
    if len(panels) == 1:
        panels = list(map(_whole_blocks, panels))
    return te.compute(
        (*map(int64, panels), rows.shape[0], int64(TILE), int64(TILE)),
        value,
        name="tiles",
        attrs={PATTERN: f"tile-{product.name}"},
    )


def _panels(weight: te.Tensor, product: TileProduct) -> list[int]:
    """The extents of the axes before the steps: panels, or pairs of panels."""
    count = len(weight.shape) - len(product.weight_shape(1))
    return [int(extent) for extent in weight.shape[:count]]


def _whole_blocks(panels: int) -> int:
    return round_up(panels, block_of(panels).panels)


def _steps(weight: te.Tensor, product: TileProduct) -> int:
    return int(weight.shape[len(_panels(weight, product))]) // product.steps_axis


def nibbles_to_words(weight: te.Tensor, scale: te.Tensor, halves: int = 1) -> te.Tensor:
    """4-bit weights (panels, groups, 4, 16, 4) and scales (panels, groups, 16) -> bfloat16 pairs
    (panels, groups, 16, 16) uint32. A group of 32 inputs is one step.

    The panels are rounded up to whole blocks by repeating the last one. With 2 `halves`: (panels /
    2, 2, groups, 16, 16), panels of both halves side by side.
    """
    panels, groups = (int64(int(extent)) for extent in weight.shape[:2])
    whole = _whole_blocks(int(panels))

    def panel(p: Expr, half: Expr | None = None) -> Expr:
        if half is not None:
            return half * (panels // halves) + p
        return p if whole == int(panels) else tirx.min(p, panels - 1)

    def word(*index: Expr) -> Expr:
        *place, s, q, j = index
        p = panel(*place)
        return word_of_nibbles(lambda v, e: weight[p, s, v, j, e], q, scale[p, s, j])

    blocks = (int64(whole),) if halves == 1 else (panels // halves, int64(halves))
    shape = (*blocks, groups, int64(TILE), int64(TILE))
    return te.compute(shape, word, name="words", attrs={PATTERN: "words"})
