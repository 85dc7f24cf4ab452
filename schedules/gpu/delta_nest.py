"""The loop nest of the delta rule on a GPU: a workgroup owns some columns of a head's state."""

from __future__ import annotations

from tvm.tirx.script.builder import ir as T

from ..delta_operands import DELTA, Operands
from ..loops import bound, int64, spatial
from ..rule import MULTIPLY_ADDS, PATTERN
from .delta_chunk_shape import Chunks
from .delta_chunks import ChunkSteps
from .delta_share import Share
from .delta_steps import Steps
from .delta_task import Task


def write_delta(shape: Share | Chunks, operands: Operands) -> None:
    """Emit the nest, position by position or in chunks."""
    (h, e, f), s = operands.sizes, operands.length
    columns, tiles = shape.columns, f // shape.columns
    grid = bound(tiles, "blockIdx.x"), bound(h, "blockIdx.y"), bound(shape.threads, "threadIdx.x")
    with grid[0] as tile, grid[1] as head, grid[2] as thread, T.sblock(DELTA):
        b, n, x = spatial(tiles, tile), spatial(h, head), spatial(shape.threads, thread)
        first = n * f + b * columns
        read = operands.unit, operands.mixed, operands.gate
        T.reads(*(buffer[0:s, 0 : int(buffer.shape[1])] for buffer in read))
        T.writes(
            operands.state[n, 0:e, b * columns : b * columns + columns],
            operands.out[0:s, first : first + columns],
        )
        work = [int64(3 * h * e * f), s]
        T.sblock_attr({PATTERN: "recurrence", MULTIPLY_ADDS: work})
        task = Task(operands, columns, shape.threads, b, n, x)
        steps = Steps(shape, task) if isinstance(shape, Share) else ChunkSteps(shape, task)
        steps.advance()
