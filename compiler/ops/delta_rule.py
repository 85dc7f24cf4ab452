"""The gated delta rule (Yang et al. 2024, https://arxiv.org/abs/2412.06464): linear attention
with a state of constant size, which is updated in place.

Per value head and position t, with state S (key dim, value dim), decay a_t and step b_t:
    d = b_t (v_t - a_t S^T k_t);  S <- a_t S + k_t d^T;  o_t = S^T q_t
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from math import gcd

from tvm import te, tirx
from tvm.script import tirx as T

from handglass.schedules.isa.register_tiles import LANES

from .exponential import LOG2_E, exp2, sigmoid
from .index_type import int64
from .norm import HEADS
from .reduce_rows import reduce_rows

EPS = 1e-6


@dataclass(frozen=True)
class Heads:
    """Columns of the convolved rows: queries and keys of `keys` heads, values of `values` heads.

    Consecutive value heads share a key head.
    """

    keys: int
    values: int
    key_dim: int
    value_dim: int

    @property
    def width(self) -> int:
        return 2 * self.keys * self.key_dim + self.values * self.value_dim

    @property
    def out(self) -> int:
        return self.values * self.value_dim


def unit_heads(mixed: te.Tensor, heads: Heads) -> te.Tensor:
    """mixed (s, width) -> (s, 2 keys key_dim): queries and keys of length 1.

    Queries are also divided by sqrt(key_dim), the scale of attention.
    """
    m, count, e = mixed.shape[0], 2 * heads.keys, heads.key_dim
    square = lambda i, h, c: mixed[i, h * e + c] * mixed[i, h * e + c]  # noqa: E731
    names = ("square_lanes", "square_sum")
    total = reduce_rows((m, count), e, square, te.sum, names, HEADS)
    scale = tirx.const(e**-0.5, "float32")
    one, eps = tirx.const(1.0, "float32"), tirx.const(EPS, "float32")

    def value(i, j):
        factor = tirx.Select(j < heads.keys * e, scale, one)
        return mixed[i, j] * tirx.rsqrt(total[i, j // e] + eps) * factor

    return te.compute((m, count * e), value, name="unit_heads", attrs=HEADS)


def gates(projected: te.Tensor, rate: te.Tensor, bias: te.Tensor) -> te.Tensor:
    """projected (s, 2 h), rate and bias (h,) -> (s, 2 h): steps, then decays of each head.

    The step is sigmoid(b), the decay 2^(rate softplus(a + bias)); rate is negative.
    """
    m, width = projected.shape
    h = int(width) // 2
    zero, one = tirx.const(0.0, "float32"), tirx.const(1.0, "float32")

    log2_e = tirx.const(LOG2_E, "float32")

    def softplus(x):
        return tirx.max(x, zero) + tirx.log(one + exp2(-tirx.abs(x) * log2_e))

    def value(i, j):
        decay = exp2(rate[j % h] * softplus(projected[i, j] + bias[j % h]))
        return tirx.if_then_else(j < h, sigmoid(projected[i, j]), decay)

    return te.compute((m, 2 * h), value, name="delta_gates")


def gated_norm(o: te.Tensor, x: te.Tensor, weight: te.Tensor, first: int, eps: float) -> te.Tensor:
    """RMSNorm of each head of o (s, h e) with weight (e,), times silu of h e columns of x from
    `first` on."""
    m, width = o.shape
    e = int(weight.shape[0])
    square = lambda i, h, c: o[i, h * e + c] * o[i, h * e + c]  # noqa: E731
    names = ("square_lanes", "square_sum")
    total = reduce_rows((m, int(width) // e), e, square, te.sum, names, HEADS)
    inverse, epsilon = tirx.const(1.0 / e, "float32"), tirx.const(eps, "float32")

    def value(i, j):
        gate = x[i, first + j]
        scale = tirx.rsqrt(total[i, j // e] * inverse + epsilon)
        return o[i, j] * scale * weight[j % e] * gate * sigmoid(gate)

    return te.compute((m, width), value, name="gated_norm", attrs=HEADS)


@functools.cache  # parsed once for all layers
def delta_writer(heads: Heads) -> tirx.PrimFunc:
    """state (values, key_dim, value_dim) in place, unit (s, 2 keys key_dim), mixed (s, width),
    gates (s, 2 values) -> (s, values value_dim).

    A task owns some columns of a head's state, which stay in the L1 cache over all positions. The
    schedule may process most positions in chunks instead (schedules/cpu/recurrence.py): it finds
    the arguments by the order in which the block "delta" reads and writes them.
    """
    h, e, f = heads.values, heads.key_dim, heads.value_dim
    group, first = h // heads.keys, 2 * heads.keys * e  # first column of the values
    lanes = gcd(f, LANES)
    vectors = next(n for n in (4, 3, 2, 1) if f % (n * lanes) == 0)
    columns = vectors * lanes
    tiles = f // columns
    keys = heads.keys

    @T.prim_func(private=True, s_tir=True)
    def delta_rule(
        state: T.Buffer((T.int64(h), T.int64(e), T.int64(f)), "float32"),
        unit_handle: T.handle,
        mixed_handle: T.handle,
        gates_handle: T.handle,
        out_handle: T.handle,
    ):
        T.func_attr({"op_pattern": 8, "tirx.noalias": True})
        s = T.int64()
        unit = T.match_buffer(unit_handle, (s, T.int64(first)), "float32")
        mixed = T.match_buffer(mixed_handle, (s, T.int64(heads.width)), "float32")
        gate = T.match_buffer(gates_handle, (s, T.int64(2 * h)), "float32")
        out = T.match_buffer(out_handle, (s, T.int64(h * f)), "float32")
        for task in range(T.int64(h * tiles)):
            with T.sblock("delta"):
                n = T.axis.spatial(T.int64(h * tiles), task)
                T.reads(unit[0:s, 0:first], mixed[0:s, 0 : heads.width], gate[0:s, 0 : 2 * h])
                T.writes(
                    state[n // tiles, 0:e, n % tiles * columns : n % tiles * columns + columns],
                    out[0:s, n * columns : n * columns + columns],
                )
                T.sblock_attr(
                    {
                        "handglass.pattern": "recurrence",
                        "handglass.multiply_adds": [T.int64(3 * h * e * f), s],
                    }
                )
                change = T.sblock_alloc_buffer((T.int64(columns),), "float32")
                result = T.sblock_alloc_buffer((T.int64(columns),), "float32")
                for t in range(s):
                    for v in T.unroll(T.int64(vectors)):
                        for lane in T.vectorized(T.int64(lanes)):
                            change[v * lanes + lane] = T.float32(0)
                            result[v * lanes + lane] = T.float32(0)
                    for c in range(T.int64(e)):
                        for v in T.unroll(T.int64(vectors)):
                            for lane in T.vectorized(T.int64(lanes)):
                                change[v * lanes + lane] += (
                                    unit[t, (keys + n // tiles // group) * e + c]
                                    * state[n // tiles, c, n % tiles * columns + v * lanes + lane]
                                )
                    for v in T.unroll(T.int64(vectors)):
                        for lane in T.vectorized(T.int64(lanes)):
                            change[v * lanes + lane] = gate[t, n // tiles] * (
                                mixed[t, first + n * columns + v * lanes + lane]
                                - gate[t, h + n // tiles] * change[v * lanes + lane]
                            )
                    for c in range(T.int64(e)):
                        for v in T.unroll(T.int64(vectors)):
                            for lane in T.vectorized(T.int64(lanes)):
                                state[n // tiles, c, n % tiles * columns + v * lanes + lane] = (
                                    gate[t, h + n // tiles]
                                    * state[n // tiles, c, n % tiles * columns + v * lanes + lane]
                                    + unit[t, (keys + n // tiles // group) * e + c]
                                    * change[v * lanes + lane]
                                )
                                result[v * lanes + lane] += (
                                    unit[t, n // tiles // group * e + c]
                                    * state[n // tiles, c, n % tiles * columns + v * lanes + lane]
                                )
                    for v in T.unroll(T.int64(vectors)):
                        for lane in T.vectorized(T.int64(lanes)):
                            out[t, n * columns + v * lanes + lane] = result[v * lanes + lane]

    return delta_rule


def delta_step(heads: Heads) -> tirx.PrimFunc:
    """`delta_writer` for one position."""
    return for_one_position(delta_writer(heads))


def for_one_position(func: tirx.PrimFunc) -> tirx.PrimFunc:
    """A writer's function, specialized to one position."""
    unit = func.params[1]
    return func.specialize({unit: tirx.decl_buffer((int64(1), unit.shape[1]), unit.dtype)})
