"""The share of one thread in the work of its workgroup."""

from __future__ import annotations

from dataclasses import dataclass

from tvm.ir import Expr

from .attention_workgroup import Workgroup


@dataclass(frozen=True)
class Thread:
    """Thread `number` of the workgroup."""

    shape: Workgroup
    number: Expr

    def place(self, k: Expr) -> Expr:
        """The k-th position of the chunk whose scores the thread computes."""
        return k * self.shape.threads + self.number

    def value_position(self, j: Expr) -> Expr:
        """The j-th position of the chunk whose values the thread accumulates."""
        return j * self.shape.position_parts + self.position_part

    def pack(self, r: Expr) -> Expr:
        """The r-th pack of rows of the tile for which the thread accumulates values."""
        return r * self.shape.row_parts + self.number // self.shape.columns % self.shape.row_parts

    def column(self, c: Expr) -> Expr:
        """The c-th value column of the thread."""
        return c * self.shape.columns + self.number % self.shape.columns

    @property
    def position_part(self) -> Expr:
        """Index of the thread's part of the positions of a chunk."""
        return self.number // (self.shape.columns * self.shape.row_parts)

    @property
    def softmax_pack(self) -> Expr:
        """The pack of rows that the thread reduces in the softmax."""
        return self.number % self.shape.packs

    @property
    def softmax_lane(self) -> Expr:
        """Index of the thread within its pack; surplus threads repeat the work of others."""
        return self.number // self.shape.packs % self.shape.lanes

    @property
    def is_surplus(self) -> Expr | None:
        """Whether the thread is surplus in the softmax and must not store; None if none is."""
        busy = self.shape.lanes * self.shape.packs
        return None if busy == self.shape.threads else self.number >= busy
