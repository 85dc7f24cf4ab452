"""What of a workgroup's work is up to one of its threads, by the thread's number."""

from __future__ import annotations

from dataclasses import dataclass

from tvm.ir import Expr

from .workgroup import Workgroup


@dataclass(frozen=True)
class Thread:
    """Thread `number` of the workgroup."""

    shape: Workgroup
    number: Expr

    def place(self, k: Expr) -> Expr:
        """Of the chunk, the k-th position whose scores it computes."""
        return k * self.shape.threads + self.number

    def shared_place(self, j: Expr) -> Expr:
        """Of the chunk, the j-th position whose values it adds up."""
        return j * self.shape.position_parts + self.position_part

    def pack(self, r: Expr) -> Expr:
        """Of the tile, the r-th pack of rows that it adds up values for."""
        return r * self.shape.row_parts + self.number // self.shape.columns % self.shape.row_parts

    def column(self, c: Expr) -> Expr:
        """Of the values, its c-th column."""
        return c * self.shape.columns + self.number % self.shape.columns

    @property
    def position_part(self) -> Expr:
        """Which share of the positions of a chunk it adds up values of."""
        return self.number // (self.shape.columns * self.shape.row_parts)

    @property
    def softmax_pack(self) -> Expr:
        """The pack of rows that it helps with in the softmax."""
        return self.number % self.shape.packs

    @property
    def softmax_lane(self) -> Expr:
        """As which of the threads of that pack. Those that are left over repeat what others do."""
        return self.number // self.shape.packs % self.shape.lanes

    @property
    def is_left_over(self) -> Expr | None:
        """Whether it must not share what it has in the softmax; None: no thread is left over."""
        busy = self.shape.lanes * self.shape.packs
        return None if busy == self.shape.threads else self.number >= busy
