"""What attention on tensor cores reads: queries, and keys and values as they are stored.

Found in the operator's nest and in the packing stage before it (gpu/attention_found.py).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import tvm_ffi
from tvm import tirx
from tvm.ir import Expr, TensorLoad
from tvm.s_tir import SBlock, Schedule
from tvm.sym import Analyzer

from ..gpu.attention_found import Found, operands_of
from ..gpu.attention_rows import Read, Rows
from ..gpu.attention_steps import Operands
from ..isa.register_tiles import LANES
from ..loops import int64
from ..replace_nest import in_scope, renamed
from ..rule import SEEN, find

HALF = "float16"


@dataclass(frozen=True)
class Positions:
    """Keys or values: a buffer that is read as it is, or what is rounded to float16 first."""

    stored: tirx.Buffer | None
    """(kv heads, positions, d), or keys in panels (kv heads, panels, d, 16)."""
    read: Read
    """(kv head, position, column) -> element."""
    shape: Sequence[Expr | int]
    """Of the buffer, or of the rounded copy."""

    @property
    def panels(self) -> bool:
        return len(self.shape) == 4


@dataclass(frozen=True)
class FlashOperands:
    """The operands of one function."""

    rows: Rows
    query: Read
    """(kv head, row, column) -> element, scaled; padding rows repeat the last query."""
    keys: Positions
    values: Positions
    read: Sequence[tirx.Buffer]
    """All buffers that are read."""
    packed: Sequence[SBlock]
    """Packing stages that are no longer needed."""
    scales: tuple[tirx.Buffer, ...] = ()
    """Those of codes that are read as they are: of keys and of values."""

    @property
    def panels(self) -> bool:
        return self.keys.panels

    @property
    def cache(self) -> str:
        """The type of the cache that is read as it is; "" if keys or values are rounded first."""
        keys, values = self.keys.stored, self.values.stored
        if not self.panels or keys is None or values is None or keys.dtype != values.dtype:
            return ""
        return str(keys.dtype)

    @property
    def heads(self) -> int:
        return int(self.keys.shape[0])

    @property
    def causal(self) -> bool:
        """Whether each query sees one position more than the one before."""
        return not self.rows.has_uniform_limit

    @property
    def end(self) -> Expr:
        """Positions that some query sees."""
        return self.rows.limit(self.rows.queries - 1)

    @property
    def packed_buffers(self) -> list[tirx.Buffer]:
        return [region.source for block in self.packed for region in block.writes]


def find_operands(sch: Schedule, nest: Found, types: Collection[str] = (HALF,)) -> FlashOperands:
    """The operands of an unscheduled function whose views are inlined; keys and values in a buffer
    of one of these types are read as they are."""
    operands = operands_of(sch, nest)
    packed = [sch.get(block) for block in find(sch, "packed")]
    size = int64(in_scope(sch, nest.nest.annotations[SEEN][1]))
    rows = (int(operands.keys.shape[0]), size, nest.shape.d)
    keys = Positions(None, _before(packed[0]), rows) if packed else _cached_keys(operands, types)
    values = _values(operands, rows, types)
    read = _buffers(operands.query, keys, values)
    scales = operands.scales if keys.stored is not None else ()
    return FlashOperands(operands.rows, operands.query, keys, values, read, packed, scales)


def _before(packing: SBlock) -> Read:
    """What the stage that packs keys (kv heads, panels, d, 16) reads for a position."""
    (store,) = _found(packing.body, tirx.BufferStore)
    axes = [axis.var for axis in packing.iter_vars]

    def read(head: Expr, place: Expr, e: Expr) -> Expr:
        index = [head, place // LANES, e, place % LANES]
        return Analyzer().simplify(renamed(store.value, axes, index))

    return read


def _cached_keys(operands: Operands, types: Collection[str]) -> Positions:
    keys = operands.keys

    def read(head: Expr, place: Expr, e: Expr) -> Expr:
        panel, lane = place // LANES, place % LANES
        key = keys[head, panel, e, lane].astype("float32")
        return key * operands.scales[0][head, panel, lane] if operands.scales else key

    return Positions(keys if keys.dtype in types else None, read, keys.shape)


def _values(operands: Operands, shape: Sequence[Expr | int], types: Collection[str]) -> Positions:
    """Values, which are read as they are if they are elements of one buffer of these types."""
    index = [tirx.Var(name, "int64") for name in ("head", "place", "e")]
    value = operands.value(*index)
    if isinstance(value, TensorLoad) and value.source.dtype in types:
        same = (i.same_as(var) for i, var in zip(value.indices, index, strict=False))
        if len(value.indices) == len(index) and all(same):
            return Positions(value.source, _scaled(operands), value.source.shape)
    return Positions(None, _scaled(operands), shape)


def _scaled(operands: Operands) -> Read:
    """(kv head, position, column) -> value."""

    def read(head: Expr, place: Expr, e: Expr) -> Expr:
        value = operands.value(head, place, e).astype("float32")
        scales = operands.scales
        return value * scales[1][head, place // LANES, place % LANES] if scales else value

    return read


def _buffers(query: Read, *operands: Positions) -> list[tirx.Buffer]:
    """Those that the operands are read from."""
    zero = [tirx.IntImm("int64", 0)] * 3
    loads = [load for read in (query, *(p.read for p in operands)) for load in _loads(read(*zero))]
    return [load.source for load in loads]


def _loads(value: Expr) -> list[TensorLoad]:
    return _found(value, TensorLoad)


def _found(tree: Expr | tirx.Stmt, kind: type) -> list:
    found: list = []
    tvm_ffi.structural_walk(tree, (kind, found.append))
    return found
