"""One row times 4-bit weights (decode) on an NVIDIA GPU: a stream over the weights.

Scalar code takes three instructions per weight: to extract a code, to convert it, to multiply. Here
two instructions extract and convert two codes, and tensor cores multiply them
(one_row_functions.py). A workgroup owns eight panels of 16 outputs, which each of its warps reads
in 128-bit loads, every `parts`-th group of 32 inputs. The row is read once per workgroup, and its
sums meet in shared memory: after one barrier, a thread per output adds up those of all warps.

The row stays float32 but for its last two bits, and 65,536 is the largest number that it may have;
sums are float32.
"""

from __future__ import annotations

from dataclasses import dataclass

import tvm
from tvm import ir, tirx
from tvm.s_tir import MatchBufferRegion, SBlock, Schedule
from tvm.script import tirx as T

from ..choices import DEFAULTS, Choices
from ..gpu.int4_row import CODES, COLUMNS, PARTS
from ..gpu.limits import gpu_limits
from ..gpu.threads import bind_blocks, depth_of, halved, pick
from ..isa.integer_isa import GROUP
from ..isa.register_tiles import LANES
from ..rule import Rule, find
from ..tiling import inline_epilogue
from .fragments import WARP
from .one_row_functions import INT4_ROW

USUAL_PARTS = 16
"""Two workgroups of so many warps fill a multiprocessor as far as its registers reach."""


@dataclass(frozen=True)
class Operands:
    """The arguments that the kernel reads."""

    x: tirx.Buffer
    weight: tirx.Buffer
    """(panels, inputs / 2, 4) words: four outputs of an input and of the one 16 further on."""
    scale: tirx.Buffer

    @property
    def groups(self) -> int:
        return int(self.scale.shape[1])

    def call(self, sums: tirx.Buffer, region: ir.TensorRegion, parts: int) -> ir.Expr:
        """Compute the sums of one warp, those of a region (part, row, columns)."""
        part, _, column = (axis.min for axis in region.region)
        return T.cuda.func_call(
            INT4_ROW.name,
            sums.access_ptr("w"),
            *(buffer.access_ptr("r") for buffer in (self.x, self.weight, self.scale)),
            *(T.Cast("int32", column // LANES), int(self.scale.shape[0])),
            *(T.Cast("int32", part), parts, self.groups, int(self.x.shape[1])),
            source_code=INT4_ROW.code,
        )


def one_row(sch: Schedule, target: tvm.target.Target, choices: Choices = DEFAULTS) -> bool:
    """Schedule one row times 4-bit panels, with its epilogue; returns False for anything else."""
    products, codes = find(sch, "matmul"), find(sch, CODES)
    if len(products) != 1 or len(codes) != 1:
        return False
    operands = _take_operands(sch, codes[0])
    last = inline_epilogue(sch, products[0])
    parts = _pick_parts(sch, operands.groups, gpu_limits(target).threads, choices)
    _, part, _ = sch.split(sch.get_loops(products[0])[-1], [None, parts, GROUP])
    partial = sch.rfactor(part, 0)
    workgroup, column = sch.split(sch.get_loops(last)[-1], [None, COLUMNS])
    # Before any split leaves a predicate, from which TVM would infer too large a region.
    for stage in (products[0], partial):
        sch.compute_at(stage, workgroup, preserve_unit_loops=True)
    part, row, *_ = sch.get_loops(partial)[depth_of(sch, workgroup) :]
    sch.bind(part, "threadIdx.y")
    sch.set_scope(partial, 0, "shared")
    of_a_warp = sch.blockize(row)
    _add_up(sch, products[0], column, workgroup, parts)
    _write_out(sch, of_a_warp, operands, parts)
    return True


def _take_operands(sch: Schedule, codes) -> Operands:
    """Inline the stages that read the arguments, and return these."""
    (rows,) = find(sch, "rows")
    sources = [region.source for stage in (rows, codes) for region in sch.get(stage).reads]
    for stage in (rows, codes):
        sch.compute_inline(stage)
    return Operands(*sources)


def _pick_parts(sch: Schedule, groups: int, threads: int, choices: Choices) -> int:
    """Pick the number of warps. By default, each has at least two groups to read."""
    offered = [n for n in PARTS if n * WARP <= threads]
    return pick(sch, choices, "parts", offered, halved(USUAL_PARTS, lambda n: 2 * n <= groups))


def _add_up(sch: Schedule, block, column, workgroup, parts: int) -> None:
    """A thread per output adds up the parts and runs the epilogue."""
    part, *lanes = sch.get_loops(block)[depth_of(sch, workgroup) :]
    sch.reorder(*lanes, part)
    for loop in (sch.fuse(*lanes), column):
        warp, lane = sch.split(loop, [None, WARP])
        sch.bind(sch.split(warp, [None, parts])[1], "threadIdx.y")
        sch.bind(lane, "threadIdx.x")
    bind_blocks(sch, workgroup)
    sch.set_scope(block, 0, "local")
    sch.decompose_reduction(block, part)


def _write_out(sch: Schedule, of_a_warp, operands: Operands, parts: int) -> None:
    """Replace the sums of a warp by the device function.

    The end of the schedule: no primitive applies to the block afterwards.
    """
    old: SBlock = sch.get(of_a_warp)
    (region,) = old.writes
    shape = (1, 1, COLUMNS)
    sums = tirx.decl_buffer(shape, "float32", "sums", scope="shared", offset_factor=LANES)
    new = SBlock(
        *(old.iter_vars, old.reads, old.writes, old.name_hint),
        tirx.Evaluate(operands.call(sums, region, parts)),
        match_buffers=[MatchBufferRegion(sums, region)],
    )
    sch.state.replace(sch.get_sref(of_a_warp), new, {old: new})


OFFERS = {"parts": PARTS}
RULE = Rule("cuda-one-row", one_row, frozenset({"matmul"}), offers=OFFERS)
