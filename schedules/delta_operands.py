"""The arguments of the gated delta rule, which schedules read off its block."""

from __future__ import annotations

from dataclasses import dataclass

from tvm import tirx
from tvm.ir import Expr
from tvm.s_tir import SBlock

DELTA = "delta"
"""Name of the block of the delta rule. It reads unit, mixed and gates and writes state and out."""


@dataclass(frozen=True)
class Operands:
    """The arguments of the kernel. Consecutive value heads share a key head."""

    state: tirx.Buffer  # (values, key_dim, value_dim)
    unit: tirx.Buffer  # (s, 2 keys key_dim): queries, then keys
    mixed: tirx.Buffer  # (s, width): the values are its last columns
    gate: tirx.Buffer  # (s, 2 values): steps, then decays
    out: tirx.Buffer  # (s, values value_dim)

    @classmethod
    def of(cls, block: SBlock) -> Operands:
        """Those of the operator's block, in the order in which it reads and writes them."""
        unit, mixed, gate = (region.source for region in block.reads)
        state, out = (region.source for region in block.writes)
        return cls(state, unit, mixed, gate, out)

    @property
    def length(self) -> Expr:
        """Positions."""
        return self.unit.shape[0]

    @property
    def sizes(self) -> tuple[int, int, int]:
        """Value heads, key_dim, value_dim."""
        h, e, f = map(int, self.state.shape)
        return h, e, f

    @property
    def key_heads(self) -> int:
        return int(self.unit.shape[1]) // (2 * self.sizes[1])

    @property
    def first_value(self) -> int:
        """Column of the first value in `mixed`."""
        h, _, f = self.sizes
        return int(self.mixed.shape[1]) - h * f

    def key_head(self, head: Expr) -> Expr:
        """The key head of a value head."""
        return head // (self.sizes[0] // self.key_heads)
