"""The work of one kernel call as data: stored in `report.json` and evaluated by the runtime.

It is extracted from a function before scheduling:

    {"symbols": {"s": [0, 0], "pos": [3]},
     "multiply_adds": [[1572864, [{"s": 1}]]],
     "touched": {"1": [[[1, [{"s": 1}]], [64, []]]]}}

`symbols` are the lengths that are known only at the call. Each is the size of an argument's
dimension, [argument, dimension], or a scalar argument, [argument]. A form is a linear combination
of symbols: {"s": 1, "pos": 1, "": 15} is s + pos + 15. A product is [factor, forms].
`multiply_adds` is a sum of products. `touched` lists the arguments of which a call may access only
a part, with their accesses: one product per dimension, limited by the size of the dimension. All
other arguments are accessed whole. A hand-written loop nest declares its work in annotations
(schedules/rule.py). Padding to whole tiles is not counted: forms are those of lengths that divide
evenly.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fractions import Fraction
from typing import Any

import tvm
import tvm_ffi
from tvm import tirx
from tvm.ir import Expr, TensorLoad
from tvm.s_tir import SBlock

from handglass.schedules.rule import CHOSEN, MULTIPLY_ADDS, SEEN

STEP = 960
"""A multiple of every tile and panel that lengths are padded to."""

Form = dict[str, float]
Product = list[Any]
Work = dict[str, Any]


class UncountableError(Exception):
    """A size of the function is not a linear combination of its symbols."""


def work_of(func: tirx.PrimFunc) -> Work | None:
    """The work of one call, or None if it cannot be derived from the loops."""
    try:
        counter = _Counter(func)
        for block in _blocks(func):
            counter.visit(block)
    except UncountableError:
        return None
    return counter.work()


def work_of_all(mod: tvm.IRModule) -> dict[str, Work]:
    """Kernel name -> work, for every function that can be counted."""
    by_name = {
        var.name_hint: work_of(func)
        for var, func in mod.functions_items()
        if isinstance(func, tirx.PrimFunc)
    }
    return {name: work for name, work in by_name.items() if work is not None}


def _blocks(func: tirx.PrimFunc) -> list[SBlock]:
    """The blocks that compute; of a hand-written nest, only the annotated outermost block."""
    blocks = nodes_of(func.body, SBlock)
    annotated = [block for block in blocks if MULTIPLY_ADDS in block.annotations]
    inside = [inner for block in annotated for inner in nodes_of(block.body, SBlock)]
    alone = [b for b in blocks if not any(b.same_as(inner) for inner in inside)]
    return [b for b in alone if b.iter_vars or MULTIPLY_ADDS in b.annotations]


class _Counter:
    def __init__(self, func: tirx.PrimFunc) -> None:
        self.multiply_adds: list[Product] = []
        self.touched: dict[int, list[list[Product]]] = {}
        self.places: dict[str, list[int]] = {}
        self._symbols: list[tirx.Var] = []
        self._arguments: list[tirx.Var] = []
        self._index: list[int] = []
        for number, param in enumerate(func.params):
            if isinstance(param.ty, tirx.BufferType):
                self._add_buffer(number, param)
            else:
                self._add_symbol(param, [number])

    def work(self) -> Work:
        return {
            "symbols": self.places,
            "multiply_adds": self.multiply_adds,
            "touched": {
                str(number): accesses
                for number, accesses in self.touched.items()
                if not any(self._is_whole(number, access) for access in accesses)
            },
        }

    def visit(self, block: SBlock) -> None:
        if MULTIPLY_ADDS in block.annotations:
            self._take(block)
        else:
            self._count(block)

    def _take(self, block: SBlock) -> None:
        """Take the work of a hand-written loop nest from its annotations."""
        factors = [self._form(factor) for factor in block.annotations[MULTIPLY_ADDS]]
        self.multiply_adds.append(_product(factors))
        if CHOSEN in block.annotations:
            self._choose(block)
        if SEEN not in block.annotations:
            return  # all inputs are read as a whole
        seen, size = block.annotations[SEEN]
        for load in nodes_of(block.body, TensorLoad):
            number = self._number(load.source)
            shape = load.source.shape
            if number is None or len(shape) < 3 or not isinstance(shape[1], tirx.IntImm):
                continue  # attention over an image reads all keys
            places = [int(count) for count in shape]
            access: list[Product] = [[count, []] for count in places]
            access[1] = _product([{"": places[1] / int(size)}, self._form(seen)])
            accesses = self.touched.setdefault(number, [])
            if access not in accesses:
                accesses.append(access)

    def _choose(self, block: SBlock) -> None:
        """Only some panels of the stacked weights of experts are read."""
        panels = _product([self._form(factor) for factor in block.annotations[CHOSEN]])
        for number, buffer in zip(self._index, self._arguments, strict=True):
            if len(buffer.shape) >= 3:
                rest: list[Product] = [[int(size), []] for size in buffer.shape[1:]]
                self.touched[number] = [[panels, *rest]]

    def _count(self, block: SBlock) -> None:
        extents = [(v.var, self._form(v.dom.extent)) for v in block.iter_vars]
        if _is_multiply_add(block):
            self.multiply_adds.append(_product([form for _, form in extents]))
        for buffer, indices in _accesses(block):
            number = self._number(buffer)
            if number is not None:
                access = [self._reach(index, extents) for index in indices]
                accesses = self.touched.setdefault(number, [])
                if access not in accesses:
                    accesses.append(access)

    def _add_buffer(self, number: int, buffer: Expr) -> None:
        self._arguments.append(buffer)
        self._index.append(number)
        for dimension, size in enumerate(buffer.shape):
            if isinstance(size, tirx.Var):
                self._add_symbol(size, [number, dimension])

    def _add_symbol(self, var: tirx.Var, place: list[int]) -> None:
        if any(var.same_as(known) for known in self._symbols):
            return
        if var.name in self.places:
            raise UncountableError(f"two lengths are named {var.name}")
        self._symbols.append(var)
        self.places[var.name] = place

    def _number(self, buffer: Expr) -> int | None:
        for number, known in zip(self._index, self._arguments, strict=True):
            if known.same_as(buffer):
                return number
        return None

    def _is_whole(self, number: int, access: list[Product]) -> bool:
        shape = self._arguments[self._index.index(number)].shape
        return all(map(_covers, access, shape))

    def _reach(self, index: Expr, extents: Sequence[tuple[tirx.Var, Form]]) -> Product:
        """Upper bound on the number of distinct values of an index."""
        used = nodes_of(index, tirx.Var)
        product = _product([form for var, form in extents if any(var.same_as(u) for u in used)])
        if isinstance(index, tirx.FloorDiv) and isinstance(index.b, tirx.IntImm):
            product[0] /= int(index.b)
        return product

    def _form(self, extent: Expr) -> Form:
        """The extent as a linear combination of symbols, exact if they are multiples of STEP."""
        base = self._value(extent, [STEP] * len(self._symbols))
        form = {"": base}
        for place, var in enumerate(self._symbols):
            ahead = [STEP * (1 + (i == place)) for i in range(len(self._symbols))]
            slope = (self._value(extent, ahead) - base) / STEP
            if slope:
                form[var.name] = slope
                form[""] -= slope * STEP
        self._check(extent, form)
        return {name: _plain(value) for name, value in form.items() if value}

    def _check(self, extent: Expr, form: dict[str, Fraction]) -> None:
        far = [STEP * (3 + i) for i in range(len(self._symbols))]
        names = [var.name for var in self._symbols]
        guess = form[""] + sum(form.get(n, 0) * v for n, v in zip(names, far, strict=True))
        if guess != self._value(extent, far):
            raise UncountableError(f"{extent} is not a linear combination of lengths")

    def _value(self, extent: Expr, values: Sequence[int]) -> Fraction:
        analyzer = tvm.sym.Analyzer()
        known = dict(zip(self.places, values, strict=True))
        for var in nodes_of(extent, tirx.Var):  # by name: annotations have separate variables
            if var.name in known:
                analyzer.bind(var, tirx.IntImm(var.ty.dtype, known[var.name]), True)
        value = analyzer.simplify(extent)
        if not isinstance(value, tirx.IntImm):
            raise UncountableError(f"{extent} depends on more than the arguments")
        return Fraction(int(value))


def _product(forms: Sequence[Form]) -> Product:
    """A product of forms; constant forms are multiplied into its factor."""
    factor: float = 1
    rest = []
    for form in forms:
        if set(form) <= {""}:
            factor *= form.get("", 0)
        else:
            rest.append(form)
    return [factor, rest]


def _covers(product: Product, size: Expr) -> bool:
    """Whether a product is at least the size of a dimension."""
    factor, forms = product
    if isinstance(size, tirx.IntImm):
        return not forms and factor >= int(size)
    return isinstance(size, tirx.Var) and factor >= 1 and forms == [{size.name: 1}]


def _plain(value: Fraction) -> float:
    return int(value) if value.denominator == 1 else float(value)


def _is_multiply_add(block: SBlock) -> bool:
    """Whether the block is a reduction of products."""
    reduces = any(v.iter_type == tirx.IterVar.CommReduce for v in block.iter_vars)
    stores = nodes_of(block.body, tirx.BufferStore)
    if not reduces or not stores or not isinstance(stores[-1].value, tirx.Add):
        return False
    return bool(nodes_of(stores[-1].value, tirx.Mul))


def _accesses(block: SBlock) -> Iterator[tuple[Expr, Sequence[Expr]]]:
    for store in nodes_of(block.body, tirx.BufferStore):
        yield store.buffer, store.indices
    for load in nodes_of(block.body, TensorLoad):
        yield load.source, load.indices


def nodes_of(tree: Any, kind: Any) -> list[Any]:
    """All nodes of this kind in the tree, operands before their users."""
    found: list[Any] = []
    tvm_ffi.structural_walk(tree, (kind, found.append))
    return found
