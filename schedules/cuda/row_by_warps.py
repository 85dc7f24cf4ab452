"""One row times weights (decode) by workgroups whose warps share the inputs.

A device function gives the sums of a warp; they meet in shared memory, where, after one barrier, a
thread per output adds up those of all warps and runs the epilogue.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, TypeVar

from tvm import ir, tirx
from tvm.s_tir import MatchBufferRegion, SBlock, Schedule

from ..choices import Choices
from ..gpu.padded_row import PARTS
from ..gpu.threads import bind_blocks, depth_of, halved, pick
from ..isa.integer_isa import GROUP
from ..isa.register_tiles import LANES
from .fragments import WARP

USUAL_PARTS = 16
"""Two workgroups of so many warps fill a multiprocessor as far as its registers reach."""
UNROLL, SWITCH = (1, 2, 4), (0, 1)
OFFERS: Mapping[str, Sequence[int]] = {
    "parts": PARTS,
    "unroll": UNROLL,
    "ahead": SWITCH,
    "adjacent": SWITCH,
    "streamed": SWITCH,
}
"""The choices of a `Reading`."""
REGISTERS, MOST_REGISTERS = 1 << 16, 255
"""Registers of a multiprocessor, and the most that a thread can have."""


AnyReading = TypeVar("AnyReading", bound="Reading")


@dataclass(frozen=True)
class Reading:
    """How the warps of a workgroup read the weights."""

    parts: int
    """Warps that share the inputs."""
    unroll: int
    """Groups that a warp loads before it multiplies them."""
    ahead: bool
    """Whether the next ones are loaded before."""
    adjacent: bool
    """Whether the groups of a warp are adjacent; else those of the workgroup are."""
    streamed: bool
    """Whether the weights are marked as read once, so that they leave the caches first."""

    of_a_group: ClassVar[int]
    others: ClassVar[int]
    """Registers of a lane for what it loads of a group, and for everything else."""

    @property
    def numbers(self) -> tuple[int, ...]:
        """Parameters of the device function."""
        return self.unroll, self.ahead, self.adjacent, self.streamed

    @property
    def registers(self) -> int:
        return self.of_a_group * self.unroll * (1 + self.ahead) + self.others

    def fitted(self: AnyReading) -> AnyReading:
        """The nearest way for which all warps have their registers.

        Choices are offered independently of each other.
        """
        most = min(MOST_REGISTERS, REGISTERS // (WARP * self.parts))
        reading = self if self.registers <= most else replace(self, ahead=False)
        unroll = halved(self.unroll, lambda n: replace(reading, unroll=n).registers <= most)
        return replace(reading, unroll=unroll)


def pick_reading(
    sch: Schedule, groups: int, threads: int, choices: Choices, unroll: int
) -> tuple[int, int, bool, bool, bool]:
    """The fields of a `Reading`. By default, each warp has at least two groups to read."""
    offered = [n for n in PARTS if n * WARP <= threads]
    usual = halved(USUAL_PARTS, lambda n: 2 * n <= groups)
    parts = pick(sch, choices, "parts", offered, usual)
    unroll = pick(sch, choices, "unroll", UNROLL, unroll)
    ahead, adjacent, streamed = (
        bool(pick(sch, choices, name, SWITCH, 0)) for name in ("ahead", "adjacent", "streamed")
    )
    return parts, unroll, ahead, adjacent, streamed


Call = Callable[[tirx.Buffer, ir.Expr, ir.Expr], ir.Expr]
"""(sums, part, first column) -> the call that computes the sums of one warp."""


def by_warps(sch: Schedule, product, last, parts: int, columns: int, call: Call) -> None:
    """Schedule the product, whose operands are inlined, and its epilogue `last`.

    Workgroups have `columns` outputs. The end of the schedule: no primitive applies to the block of
    a warp afterwards.
    """
    _, part, _ = sch.split(sch.get_loops(product)[-1], [None, parts, GROUP])
    partial = sch.rfactor(part, 0)
    workgroup, column = sch.split(sch.get_loops(last)[-1], [None, columns])
    # Before any split leaves a predicate, from which TVM would infer too large a region.
    for stage in (product, partial):
        sch.compute_at(stage, workgroup, preserve_unit_loops=True)
    part, row, *_ = sch.get_loops(partial)[depth_of(sch, workgroup) :]
    sch.bind(part, "threadIdx.y")
    sch.set_scope(partial, 0, "shared")
    of_a_warp = sch.blockize(row)
    _add_up(sch, product, column, workgroup, parts)
    _write_out(sch, of_a_warp, columns, call)


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


def _write_out(sch: Schedule, of_a_warp, columns: int, call: Call) -> None:
    """Replace the sums of a warp by the device function."""
    old: SBlock = sch.get(of_a_warp)
    (region,) = old.writes
    shape = (1, 1, columns)
    sums = tirx.decl_buffer(shape, "float32", "sums", scope="shared", offset_factor=LANES)
    part, _, column = (axis.min for axis in region.region)
    new = SBlock(
        *(old.iter_vars, old.reads, old.writes, old.name_hint),
        tirx.Evaluate(call(sums, part, column)),
        match_buffers=[MatchBufferRegion(sums, region)],
    )
    sch.state.replace(sch.get_sref(of_a_warp), new, {old: new})
