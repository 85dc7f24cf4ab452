"""Integer matmul on a GPU: one instruction multiplies and accumulates words of four codes.

`__dp4a` is the signed dot product of four bytes; the code generator expands it for GPUs without the
instruction. schedules/gpu/dot.py schedules the loops.
"""

from __future__ import annotations

from tvm import te, tirx
from tvm.ir import Expr

from handglass.schedules.isa.integer_isa import CHUNK_STEPS, GROUP, STEP, Codes
from handglass.schedules.isa.register_tiles import LANES
from handglass.schedules.rule import PATTERN

from .index_type import int64, reduce_axis
from .padded import (
    is_one_row,
    padded_columns,
    padded_rows,
    round_up,
    whole_columns,
    whole_tiles,
)
from .quantized import Quantized

WORDS_OF_A_GROUP = GROUP // STEP
"""Words of activations per group of 32 inputs."""
HALVES = WORDS_OF_A_GROUP // CHUNK_STEPS
"""Halves of a group: the lower and the upper nibbles, or two chunks of bytes."""
GROUPS_TOGETHER = 4
"""The groups of one row are divided among threads in units of four."""
UPPER = 0xF0F0F0F0
"""The upper nibble of each byte; left in place, it is a signed byte of 16 times its value."""


def dp4a_matmul(
    x: Quantized, out_features: int, codes: Codes, weight: te.Tensor, scale: te.Tensor
) -> te.Tensor:
    """Rows of words (m, k / 4) int32 times panels -> (m, out_features) float32.

    weight is (panels, chunks, 4, 16) uint32, scale (panels, groups, 16); 8-bit codes have one
    group.
    """
    m, stored_groups = x.codes.shape[0], int(weight.shape[1]) * codes.chunk // GROUP
    groups = round_up(stored_groups, GROUPS_TOGETHER) if is_one_row(m) else stored_groups
    width = whole_columns(out_features, m, codes.tile.columns)
    words = _words(weight, codes, stored_groups, (groups, width))
    rows = padded_rows(x.codes, (whole_tiles(m, codes.tile.rows), groups * WORDS_OF_A_GROUP))
    shape = (m, int64(out_features))
    if codes.bits == 4:
        return _by_group(rows, words, x.scale, scale, shape)
    return _by_row(rows, words, x.scale, scale, codes.bits, shape)


def _words(weight: te.Tensor, codes: Codes, groups: int, shape: tuple[int, int]) -> te.Tensor:
    """(groups, 2, 4, width) int32: four codes per word, in the order of the inputs."""

    def word(p: Expr, g: Expr, h: Expr, v: Expr, j: Expr) -> Expr:
        if codes.bits != 4:
            return tirx.reinterpret("int32", weight[p, g * HALVES + h, v, j])
        # in the upper half of a byte, a nibble is a signed byte of 16 times its value
        left = (4 - h * 4).astype("uint32")
        stored = (weight[p, g, v, j] << left) & tirx.const(UPPER, "uint32")
        return tirx.reinterpret("int32", stored)

    unpadded = (groups, int(weight.shape[0]) * LANES)
    return padded_columns(word, unpadded, shape, "words", (HALVES, CHUNK_STEPS))


def _by_group(
    rows: te.Tensor,
    words: te.Tensor,
    x_scale: te.Tensor,
    scale: te.Tensor,
    shape: tuple[Expr, Expr],
) -> te.Tensor:
    """4 bits: integer sums per group, scaled and accumulated in float32."""
    height, groups, width = rows.shape[0], words.shape[0], words.shape[-1]
    g = reduce_axis(int(groups), "g")
    sums = te.compute(
        (groups, height, width),
        lambda g, i, j: _sum(rows, words, i, j, g),
        name="dot",
        attrs={PATTERN: "dot4"},
    )
    x_scales = padded_rows(x_scale, (height, int(groups)), "row_scales")
    scales = padded_columns(
        lambda *at: scale[at].astype("float32"),
        (int(scale.shape[1]), int(scale.shape[0]) * LANES),
        (int(groups), int(width)),
        "scales",
    )

    def value(i: Expr, j: Expr) -> Expr:
        factor = x_scales[i, g] * scales[g, j]
        return te.sum(sums[g, i, j].astype("float32") * factor, axis=g)

    product = te.compute((height, width), value, name="scaled", attrs={PATTERN: "scaled"})
    return te.compute(shape, lambda i, j: product[i, j], name="out")


def _by_row(
    rows: te.Tensor,
    words: te.Tensor,
    x_scale: te.Tensor,
    scale: te.Tensor,
    bits: int,
    shape: tuple[Expr, Expr],
) -> te.Tensor:
    """8 bits: one integer sum over the whole input, scaled once."""
    height, groups, width = rows.shape[0], int(words.shape[0]), words.shape[-1]
    sums = te.compute(
        (height, width),
        lambda i, j: _sum(rows, words, i, j, reduce_axis(groups, "g")),
        name="dot",
        attrs={PATTERN: f"dot{bits}"},
    )

    def value(i: Expr, j: Expr) -> Expr:
        return sums[i, j].astype("float32") * (x_scale[i, 0] * scale[j // LANES, 0, j % LANES])

    return te.compute(shape, value, name="out")


def _sum(rows: te.Tensor, words: te.Tensor, i: Expr, j: Expr, g: Expr) -> Expr:
    """The sum over a group of inputs, or over all groups if g is a reduction axis."""
    h, v = reduce_axis(HALVES, "h"), reduce_axis(CHUNK_STEPS, "v")
    over = [g, h, v] if isinstance(g, tirx.IterVar) else [h, v]
    activation = rows[i, g * WORDS_OF_A_GROUP + h * CHUNK_STEPS + v]
    return te.sum(dot(words[g, h, v, j], activation), axis=over)


def dot(a: Expr, b: Expr) -> Expr:
    """The dot product of four signed bytes packed in each int32."""
    return tirx.call_pure_extern("int32", "__dp4a", a, b, tirx.const(0, "int32"))
