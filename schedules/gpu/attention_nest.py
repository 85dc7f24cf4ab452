"""The hand-written loop nest of attention on a GPU: a workgroup per tile of rows.

A workgroup owns a kv head and a tile of rows, which are pairs (query, head of the group), and
iterates over chunks of positions. For each chunk it computes scores, the new maximum, the weights
and their product with the values. It rescales the previous sum to the new maximum and accumulates
the product (online softmax, Milakov and Gimelshein 2018, https://arxiv.org/abs/1805.02867). The
steps are in attention_steps.py.
"""

from __future__ import annotations

from tvm import tirx
from tvm.script.ir_builder import IRBuilder
from tvm.tirx.script.builder import ir as T

from ..loops import bound, int64, spatial
from .attention_buffers import Operands, allocate
from .attention_steps import Steps
from .attention_thread import Thread
from .attention_workgroup import Workgroup


def attention_nest(shape: Workgroup, splits: int, operands: Operands) -> tirx.Stmt:
    """The statement of the kernel; `splits` workgroups share the positions of each tile of rows."""
    with IRBuilder() as ib:
        write_attention(shape, splits, operands)
    return ib.get()


def write_attention(shape: Workgroup, splits: int, operands: Operands) -> None:
    """Emit the statement of `attention_nest`."""
    rows = operands.rows
    tiles, heads = rows.tiles(shape.tile), int64(operands.keys.shape[0])
    with (
        bound(tiles, "blockIdx.x") as tile,
        bound(heads, "blockIdx.y") as head,
        bound(int64(splits), "blockIdx.z") as split,
        bound(int64(shape.threads), "threadIdx.x") as number,
        T.sblock("task"),
    ):
        head = spatial(heads, head)
        thread = Thread(shape, spatial(shape.threads, number))
        split = spatial(splits, split)
        first = spatial(tiles, tile) * shape.tile
        end = rows.limit_of(first + (shape.tile - 1))
        steps = Steps(shape, splits, operands, head, thread, split, first, end, allocate(shape))
        steps.start()
        first_chunk, count = steps.chunks()
        with T.serial(int64(0), count) as chunk, T.sblock("chunk"):
            steps.chunk((first_chunk + T.axis.opaque(count, chunk, "int64")) * shape.chunk)
        steps.finish()
