"""The code of the one function: blocks, and each pure value computed once.

TIR prints every index expression in full at every use. A value that was computed in a block that
dominates the current one is used again; scopes follow the structured blocks, so "dominates" is "in
an open scope". What memory says is never remembered.
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
        self.current = self.first  # the label of the block that is being written
        self.ended = False  # it has its branch already
        self.locals: list[int] = []  # variables, which must stand at the top of the first block
        self.code: list[int] = []
        self.scopes: list[dict[tuple[int, ...], int]] = [{}]

    def do(self, op: int, *operands: int) -> None:
        """An instruction without result."""
        if not self.ended:
            self.code += instruction(op, *operands)

    def compute(self, op: int, type: int, *operands: int) -> int:
        """An instruction whose result may differ from that of an equal one."""
        result = self.words.id()
        self.do(op, type, result, *operands)
        return result

    def pure(self, op: int, type: int, *operands: int) -> int:
        """An instruction whose result depends on its operands alone."""
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
        """What is computed inside is not known outside."""
        self.scopes.append({})
        yield
        self.scopes.pop()

    def label(self, block: int) -> None:
        """Begin a block; the one before it must have ended."""
        self.code += instruction(Op.Label, block)
        self.current, self.ended = block, False

    def branch(self, block: int) -> None:
        self.do(Op.Branch, block)
        self.ended = True

    def branch_if(self, condition: int, then: int, otherwise: int) -> None:
        self.do(Op.BranchConditional, condition, then, otherwise)
        self.ended = True

    def select(self, condition: int, then: int, otherwise: int, merge: int) -> None:
        """A structured branch whose two ways meet again at `merge`."""
        self.do(Op.SelectionMerge, merge, SELECTION_CONTROL_NONE)
        self.branch_if(condition, then, otherwise)

    def finish(self) -> list[int]:
        """Locals and code, from the first label to the return."""
        self.do(Op.Return)
        return [*instruction(Op.Label, self.first), *self.locals, *self.code]
