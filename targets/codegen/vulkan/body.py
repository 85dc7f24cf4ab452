"""The body of the shader's function, with common subexpression elimination.

TIR repeats every index expression in full at every use. A pure value that was computed in a block
that dominates the current one is reused. Scopes follow the structured blocks, so a value dominates
if its scope is open. Loads are never reused.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from .opcodes import SELECTION_CONTROL_NONE, Op
from .words import Words, instruction


class Body:
    """Instructions of the function after its first label."""

    def __init__(self, words: Words) -> None:
        self.words = words
        self.first = words.id()
        self.current = self.first  # the label of the current block
        self.ended = False  # whether the current block has its branch
        self.locals: list[int] = []  # variables, which must be at the start of the first block
        self.code: list[int] = []
        self.scopes: list[dict[tuple[int, ...], int]] = [{}]

    def do(self, op: int, *operands: int) -> None:
        """Append an instruction without result."""
        if not self.ended:
            self.code += instruction(op, *operands)

    def compute(self, op: int, type: int, *operands: int) -> int:
        """Append an instruction whose result may differ for equal operands."""
        result = self.words.id()
        self.do(op, type, result, *operands)
        return result

    def pure(self, op: int, type: int, *operands: int) -> int:
        """The result of an instruction that depends on its operands alone; reused if possible."""
        key = (op, type, *operands)
        for scope in reversed(self.scopes):
            if key in scope:
                return scope[key]
        result = self.compute(op, type, *operands)
        self.scopes[-1][key] = result
        return result

    def local(self, pointer: int, storage: int) -> int:
        result = self.words.id()
        self.locals += instruction(Op.Variable, pointer, result, storage)
        return result

    @contextmanager
    def scope(self) -> Iterator[None]:
        """A scope whose pure values are not reused outside it."""
        self.scopes.append({})
        yield
        self.scopes.pop()

    def label(self, block: int) -> None:
        """Start a block; the previous one must have ended."""
        self.code += instruction(Op.Label, block)
        self.current, self.ended = block, False

    def branch(self, block: int) -> None:
        self.do(Op.Branch, block)
        self.ended = True

    def branch_if(self, condition: int, then: int, otherwise: int) -> None:
        self.do(Op.BranchConditional, condition, then, otherwise)
        self.ended = True

    def select(self, condition: int, then: int, otherwise: int, merge: int) -> None:
        """A structured branch whose two paths join at `merge`."""
        self.do(Op.SelectionMerge, merge, SELECTION_CONTROL_NONE)
        self.branch_if(condition, then, otherwise)

    def finish(self) -> list[int]:
        """Locals and code, from the first label to the return."""
        self.do(Op.Return)
        return [*instruction(Op.Label, self.first), *self.locals, *self.code]
