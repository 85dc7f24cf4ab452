"""The router of a mixture of experts: which experts a token goes to, and the rows of each expert.

Loop nests written out for a CPU. With E experts, of which each of s tokens chooses k, `order` lists
the choices by expert: entry a stands for choice a % k of token a // k.
"""

from __future__ import annotations

import functools

from tvm import te, tirx
from tvm.ir import Expr
from tvm.script import tirx as T

from .exponential import LOG2_E, exp2, sigmoid


@functools.cache  # parsed once for all layers
def chooser(experts: int, width: int, chosen: int) -> tirx.PrimFunc:
    """logits (s, width >= experts) -> the experts with the largest ones (s, chosen) int32, largest
    first, and their shares (s, chosen): softmax over these.

    Of equal logits, the first is chosen. An id is in range even if logits are NaN.
    """
    first, last = T.float32(float("inf")), T.float32(float("-inf"))

    @T.prim_func(private=True, s_tir=True)
    def choose(logits_handle: T.handle, ids_handle: T.handle, shares_handle: T.handle):
        T.func_attr({"op_pattern": 8, "tirx.noalias": True})
        s = T.int64()
        logits = T.match_buffer(logits_handle, (s, T.int64(width)), "float32")
        ids = T.match_buffer(ids_handle, (s, T.int64(chosen)), "int32")
        shares = T.match_buffer(shares_handle, (s, T.int64(chosen)), "float32")
        for row in range(s):
            with T.sblock("choose"):
                i = T.axis.spatial(s, row)
                T.reads(logits[i, 0:width])
                T.writes(ids[i, 0:chosen], shares[i, 0:chosen])
                T.sblock_attr({"handglass.pattern": "experts"})
                best = T.sblock_alloc_buffer((T.int64(2),), "float32")
                at = T.sblock_alloc_buffer((T.int64(2),), "int32")
                best[1] = first
                at[1] = -1
                for c in range(T.int64(chosen)):
                    best[0] = last
                    at[0] = 0
                    for e in range(T.int64(experts)):
                        # After the previous choice in the order (logit, then number).
                        if follows(logits[i, e], e, best[1], at[1]) and logits[i, e] > best[0]:
                            best[0] = logits[i, e]
                            at[0] = T.cast(e, "int32")
                    best[1] = best[0]
                    at[1] = at[0]
                    ids[i, c] = at[0]
                    shares[i, c] = best[0]
                best[0] = shares[i, 0]
                best[1] = T.float32(0)
                for c in range(T.int64(chosen)):
                    shares[i, c] = exp2((shares[i, c] - best[0]) * T.float32(LOG2_E))
                    best[1] = best[1] + shares[i, c]
                for c in range(T.int64(chosen)):
                    shares[i, c] = shares[i, c] / best[1]

    return choose


def follows(logit: Expr, number: Expr, last_logit: Expr, last: Expr) -> Expr:
    """Whether an expert comes after the last chosen one, by logit and then by number."""
    is_later = tirx.all(logit == last_logit, number.astype("int32") > last)
    return tirx.any(logit < last_logit, is_later)


@functools.cache  # parsed once for all layers
def sorter(experts: int, chosen: int) -> tirx.PrimFunc:
    """ids (s, chosen) int32 -> order (s, chosen) int32, the choices by expert, and starts
    (experts + 1,) int32: those of expert e are order[starts[e]] up to starts[e + 1].

    A counting sort, which keeps the tokens of an expert in order.
    """

    @T.prim_func(private=True, s_tir=True)
    def sort(ids_handle: T.handle, order_handle: T.handle, starts_handle: T.handle):
        T.func_attr({"op_pattern": 8, "tirx.noalias": True})
        s = T.int64()
        ids = T.match_buffer(ids_handle, (s, T.int64(chosen)), "int32")
        order = T.match_buffer(order_handle, (s, T.int64(chosen)), "int32")
        starts = T.match_buffer(starts_handle, (T.int64(experts + 1),), "int32")
        for task in range(T.int64(1)):
            with T.sblock("sort"):
                T.axis.spatial(T.int64(1), task)
                T.reads(ids[0:s, 0:chosen])
                T.writes(order[0:s, 0:chosen], starts[0 : experts + 1])
                T.sblock_attr({"handglass.pattern": "experts"})
                place = T.sblock_alloc_buffer((T.int64(experts),), "int32")
                for e in range(T.int64(experts)):
                    place[e] = 0
                for i in range(s):
                    for c in range(T.int64(chosen)):
                        place[ids[i, c]] += 1
                starts[0] = 0
                for e in range(T.int64(experts)):
                    starts[e + 1] = starts[e] + place[e]
                    place[e] = starts[e]
                for i in range(s):
                    for c in range(T.int64(chosen)):
                        order[
                            T.cast(place[ids[i, c]], "int64") // chosen,
                            T.cast(place[ids[i, c]], "int64") % chosen,
                        ] = T.cast(i * chosen + c, "int32")
                        place[ids[i, c]] += 1

    return sort


def silu_gates(gate_up: te.Tensor, width: int) -> te.Tensor:
    """(s, k 2 width), gate and up of each choice -> silu(gate) * up, (s, k width)."""
    s, whole = gate_up.shape

    def value(i: Expr, j: Expr) -> Expr:
        at = j // width * (2 * width) + j % width
        return gate_up[i, at] * sigmoid(gate_up[i, at]) * gate_up[i, at + width]

    return te.compute((s, int(whole) // 2), value, name="silu_gates")


def combine(
    results: te.Tensor, shares: te.Tensor, shared: te.Tensor, logits: te.Tensor
) -> te.Tensor:
    """The sum of the chosen experts' results (s, k width) by their shares (s, k), and of the shared
    expert's (s, d <= width), by the sigmoid of the last column of logits. (s, d)"""
    s, d = shared.shape
    chosen = int(shares.shape[1])
    width, gate = int(results.shape[1]) // chosen, int(logits.shape[1]) - 1

    def value(i: Expr, j: Expr) -> Expr:
        total = sigmoid(logits[i, gate]) * shared[i, j]
        for c in range(chosen):
            total = total + shares[i, c] * results[i, c * width + j]
        return total

    return te.compute((s, d), value, name="combine")
