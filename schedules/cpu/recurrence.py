"""Written-out loops whose outermost one runs its tasks in parallel: a recurrent layer, where each
task goes through all positions, and the experts that tokens chose.

The operators (compiler/ops/delta_rule.py, causal_conv.py, expert_matmul.py, routing.py) vectorize
their own columns. Of the delta rule, the choice `chunk` replaces most positions by the equivalent
nest over chunks (delta_chunks.py), whose sums stay in registers; the remaining positions keep the
operator's nest.
"""

from math import gcd

import tvm
from tvm import tirx
from tvm.ir import Expr
from tvm.s_tir import SBlock, SBlockRealize, Schedule

from ..choices import DEFAULTS, Choices
from ..delta_operands import DELTA, Operands
from ..isa.integer_isa import AVX2, AVX_VNNI
from ..isa.register_tiles import LANES, ZMM_FLOATS
from ..replace_nest import with_body
from ..rule import Rule, find
from ..select import Units, find_units
from ..tiling import is_one, settled
from .delta_chunks import Blocking, delta_chunks
from .delta_step import UNROLLED, choose_step
from .expert_nest import EXPERTS
from .experts import OFFERS as EXPERT_OFFERS
from .experts import choose_experts

PATTERNS = frozenset({"recurrence", "experts"})
CHUNKS = (1, 16, 32, 64)
"""Offered positions per chunk; 1: position by position."""
ROWS, VECTORS = (1, 2, 4, 8), (1, 2, 3, 4)
"""Offered rows and vectors of columns of a register tile in chunks."""


def recurrence(sch: Schedule, target: tvm.target.Target, choices: Choices = DEFAULTS) -> bool:
    """Run the tasks of the block in parallel. Returns False if the function has no such block."""
    found = [block for pattern in sorted(PATTERNS) for block in find(sch, pattern)]
    for block in found:
        name = sch.get(block).name_hint
        if name == EXPERTS:
            choose_experts(sch, block, choices)
            continue
        (task,) = [block] if sch.get_loops(block) else sch.get_child_blocks(block)
        loop = sch.get_loops(task)[0]
        if name == DELTA and is_one(Operands.of(sch.get(block)).length):
            choose_step(sch, block, loop, choices)
            continue
        sch.parallel(loop)
        if name == DELTA:
            _choose_positions(sch, block, find_units(target), choices)
    return bool(found)


def _choose_positions(sch: Schedule, block, units: Units, choices: Choices) -> None:
    """Replace the nest of many positions by chunks of them, unless one by one is chosen."""
    operands = Operands.of(sch.get(block))
    chunk = settled(sch, choices.pick(sch, "chunk", CHUNKS, measured_chunk(units)))
    blocking = _pick_blocking(sch, operands, chunk, units, choices)
    if chunk > 1:
        _replace(sch, block, operands, blocking)


def measured_chunk(units: Units) -> int:
    """The fastest number of positions per chunk (benchmarks/delta.py).

    CPUs on which nothing was measured run position by position.
    """
    if units.floats is ZMM_FLOATS:
        return 32
    return 16 if units.integers in (AVX2, AVX_VNNI) else 1


def _replace(sch: Schedule, block, operands: Operands, blocking: Blocking) -> None:
    """Put the nest over chunks before that of the block, which keeps the remaining positions."""
    old, loop, chunk = sch.get(block), sch.get(sch.get_loops(block)[0]), blocking.chunk
    # A last chunk that is more than half full takes no longer than its positions one by one.
    chunks = (operands.length + (chunk // 2 - 1)) // chunk
    nest = delta_chunks(operands, blocking, chunks)
    nest = tirx.IfThenElse(chunks > 0, nest, None)
    rest = _from(old, tirx.min(chunks * chunk, operands.length))
    values = loop.body.iter_values
    realize = SBlockRealize(values, loop.body.predicate, rest)
    tasks = tirx.For(loop.loop_var, loop.min, loop.extent, loop.kind, realize)
    root = sch.get_sblock("root")
    before = sch.get(root)
    after = SBlock([], [], [], before.name_hint, tirx.SeqStmt([nest, tasks]))
    sch.state.replace(sch.get_sref(root), after, {before: after, old: rest})


def _pick_blocking(
    sch: Schedule, operands: Operands, chunk: int, units: Units, choices: Choices
) -> Blocking:
    """By default tiles of 4 x 64 sums in vectors of 512 bits, of 2 x 32 in shorter ones."""
    _, e, f = operands.sizes
    most = 4 if units.floats is ZMM_FLOATS else 2
    lanes = gcd(f, LANES)
    fitting = [n for n in VECTORS if f // lanes % n == 0]
    rows = settled(sch, choices.pick(sch, "rows", ROWS, most))
    vectors = 1
    if len(fitting) > 1:
        vectors = settled(sch, choices.pick(sch, "columns", fitting, most))
    key_rows = max(n for n in range(1, rows + 1) if e % n == 0)
    return Blocking(chunk, rows, key_rows, vectors * lanes, lanes)


def _from(block: SBlock, first: Expr) -> SBlock:
    """The block, whose body is a loop over all positions, from position `first` on."""
    loop = block.body
    later = tirx.For(loop.loop_var, first, loop.extent - first, loop.kind, loop.body)
    return with_body(block, later)


OFFERS = {
    **EXPERT_OFFERS,
    "chunk": CHUNKS,
    "rows": sorted({*ROWS, *EXPERT_OFFERS["rows"]}),
    "columns": sorted({*VECTORS, *EXPERT_OFFERS["columns"]}),
    "unroll": sorted({*UNROLLED, *EXPERT_OFFERS["unroll"]}),
}
RULE = Rule("cpu-recurrence", recurrence, PATTERNS, offers=OFFERS)
