"""What a workgroup of the attention kernel reads and writes, and what it keeps meanwhile."""

from __future__ import annotations

from dataclasses import dataclass

from tvm import tirx
from tvm.tirx.script.builder import ir as T

from .attention_rows import Read, Rows
from .attention_workgroup import Workgroup
from .short_vectors import vector_dtype


@dataclass(frozen=True)
class Operands:
    """What the kernel reads and writes. `scales`: those of int8 keys and values; else empty."""

    rows: Rows
    query: Read  # of (kv head, row, column), scaled; padding rows repeat the last query
    keys: tirx.Buffer  # (kv heads, panels, d, LANES)
    value: Read  # of (kv head, position, column)
    scales: tuple[tirx.Buffer, ...]  # (kv heads, panels, LANES) each
    outs: tuple[tirx.Buffer, ...]


@dataclass(frozen=True)
class Buffers:
    """Buffers of a workgroup in order of allocation; elements are vectors of `pack` rows."""

    query: tirx.Buffer  # shared, (d, packs)
    score: tirx.Buffer  # shared, (chunk, packs): scores, then weights
    across: tirx.Buffer  # shared, (lanes, packs)
    decay: tirx.Buffer  # shared, (packs,)
    dot: tirx.Buffer  # of a thread, (rounds, packs)
    sum: tirx.Buffer  # of a thread, (packs_per_thread, wide)
    peak: tirx.Buffer  # of a thread, (1,), as are the following
    total: tirx.Buffer
    most: tirx.Buffer
    values: tirx.Buffer | None  # shared, (chunk, d), if staged


def allocate(shape: Workgroup) -> Buffers:
    rows, new = vector_dtype("float32", shape.pack), T.sblock_alloc_buffer
    return Buffers(
        query=new((shape.d, shape.packs), rows, scope="shared"),
        score=new((shape.chunk, shape.packs), rows, scope="shared"),
        across=new((shape.lanes, shape.packs), rows, scope="shared"),
        decay=new((shape.packs,), rows, scope="shared"),
        dot=new((shape.rounds, shape.packs), rows, scope="local"),
        sum=new((shape.packs_per_thread, shape.wide), rows, scope="local"),
        peak=new((1,), rows, scope="local"),
        total=new((1,), rows, scope="local"),
        most=new((1,), rows, scope="local"),
        values=new((shape.chunk, shape.d), shape.staged, scope="shared") if shape.staged else None,
    )
