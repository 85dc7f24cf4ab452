"""Random kernels: statements around the expressions of `fuzz_expressions`, as TVMScript.

Each kernel is also interpreted, statement by statement for all threads at once, with a mask of the
active threads. A kernel therefore comes with its arguments and expected results.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from fuzz_expressions import FLOATS, INTEGERS, Expr, Maker, Values, limits

THREADS, BLOCKS = 32, 2
SIZE = THREADS * BLOCKS

Mask = np.ndarray
Step = Callable[[Mask], None]
"""Runs a statement for the threads of a mask."""


@dataclass
class Program:
    """A kernel: `source` is TVMScript, `arguments` the inputs, `expected` the outputs."""

    source: str
    arguments: list[np.ndarray]
    expected: list[np.ndarray]


@dataclass
class Left:
    """Threads that have left a loop (`broken`) or its current iteration (`turned`)."""

    broken: Mask
    turned: Mask


@dataclass
class Writer:
    maker: Maker
    elements: int
    state: dict[str, Values] = field(default_factory=dict)
    variables: list[Expr] = field(default_factory=list)
    loops: list[Left] = field(default_factory=list)
    names: int = 0

    @property
    def random(self) -> random.Random:
        return self.maker.random

    def name(self, letter: str) -> str:
        self.names += 1
        return f"{letter}{self.names}"

    def known(self, name: str, text: str, dtype: str, low: int, high: int, point: int = 0) -> Expr:
        """A leaf that reads a variable of the state."""
        expr = Expr(text, dtype, lambda: self.state[name], low, high, point)
        (self.maker.conditions if dtype == "bool" else self.maker.leaves).append(expr)
        return expr

    def active(self, mask: Mask) -> Mask:
        return mask & ~self.loops[-1].broken & ~self.loops[-1].turned if self.loops else mask

    # statements: their lines, and the function that interprets them

    def block(self, depth: int) -> tuple[list[str], Step]:
        """A block; names bound in it are visible only inside."""
        leaves, conditions = list(self.maker.leaves), list(self.maker.conditions)
        made = [self.statement(depth) for _ in range(self.random.randint(1, 3))]
        self.maker.leaves, self.maker.conditions = leaves, conditions

        def run(mask: Mask) -> None:
            for _, step in made:
                step(mask)

        return [line for lines, _ in made for line in lines], run

    def statement(self, depth: int) -> tuple[list[str], Step]:
        kinds = [self.assign, self.assign, self.assign, self.bind]
        if depth > 0:
            kinds += [self.condition, self.loop, self.loop, self.countdown]
        if self.loops:
            kinds += [self.leave]
        return self.random.choice(kinds)(depth)

    def assign(self, depth: int) -> tuple[list[str], Step]:
        variable = self.random.choice(self.variables)
        name, low, high = variable.text.removesuffix("[0]"), variable.low, variable.high
        value = self.maker.expression(variable.dtype, 3)
        if value.low < low or value.high > high or value.point > variable.point:
            value = self.maker.clamped(value, low, high)
        if value.point > variable.point:
            text = f"T.floor({value.text})"
            value = Expr(text, value.dtype, floor_of(value), low, high)

        def run(mask: Mask) -> None:
            chosen = self.active(mask)
            self.state[name] = np.where(chosen, value.values, self.state[name])

        return [f"{variable.text} = {value.text}"], run

    def bind(self, depth: int) -> tuple[list[str], Step]:
        name, dtype = self.name("b"), self.random.choice(INTEGERS + FLOATS)
        value = self.maker.expression(dtype, 3)
        self.state[name] = np.zeros(self.elements)
        self.known(name, name, dtype, value.low, value.high, value.point)

        def run(mask: Mask) -> None:
            self.state[name] = value.values

        return [f"{name} = {value.text}"], run

    def condition(self, depth: int) -> tuple[list[str], Step]:
        asked = self.maker.condition(2)
        then, run_then = self.block(depth - 1)
        otherwise, run_otherwise = (
            self.block(depth - 1) if self.random.random() < 0.5 else ([], None)
        )
        lines = [f"if {asked.text}:", *indented(then)]
        lines += ["else:", *indented(otherwise)] if otherwise else []

        def run(mask: Mask) -> None:
            holds = np.broadcast_to(asked.values, mask.shape)
            run_then(mask & holds)
            if run_otherwise is not None:
                run_otherwise(mask & ~holds)

        return lines, run

    def loop(self, depth: int) -> tuple[list[str], Step]:
        name, turns, first = (
            self.name("i"),
            self.random.randint(1, 4),
            self.random.choice([0, 0, 2]),
        )
        kind = self.random.choice(["T.serial", "T.serial", "T.unroll"])
        self.state[name] = np.zeros((), np.int64)
        leaves = list(self.maker.leaves)
        self.known(name, name, "int32", first, first + turns - 1)
        lines, step = self.inside(depth, leaving=kind == "T.serial")
        self.maker.leaves = leaves

        def run(mask: Mask) -> None:
            left = Left(np.zeros_like(mask), np.zeros_like(mask))
            mask = self.active(mask)
            self.loops.append(left)
            for i in range(first, first + turns):
                self.state[name], left.turned = np.asarray(i), np.zeros_like(mask)
                step(mask)
            self.loops.pop()

        return [f"for {name} in {kind}({first}, {first + turns}):", *indented(lines)], run

    def countdown(self, depth: int) -> tuple[list[str], Step]:
        """A `while` over a new variable, which starts at different values."""
        name = self.name("w")
        start = self.maker.clamped(self.maker.expression("int32", 2), 0, 3)
        self.state[name] = np.zeros(self.elements, np.int64)
        lines, step = self.inside(depth, leaving=True)
        head = [
            f"{name} = T.alloc_buffer((1,), 'int32', scope='local')",
            f"{name}[0] = {start.text}",
        ]
        head += [f"while {name}[0] > 0:", f"    {name}[0] = {name}[0] - 1"]

        def run(mask: Mask) -> None:
            left = Left(np.zeros_like(mask), np.zeros_like(mask))
            mask = self.active(mask)
            self.state[name] = np.where(mask, start.values, 0)
            self.loops.append(left)
            while (mask & ~left.broken & (self.state[name] > 0)).any():
                going = mask & ~left.broken & (self.state[name] > 0)
                self.state[name] = self.state[name] - going
                left.turned = np.zeros_like(mask)
                step(going)
            self.loops.pop()

        return [*head, *indented(lines)], run

    def inside(self, depth: int, leaving: bool) -> tuple[list[str], Step]:
        """The body of a loop; an unrolled loop has no break or continue."""
        around, nothing = self.loops, np.zeros(0, bool)
        self.loops = [*around, Left(nothing, nothing)] if leaving else []
        lines, step = self.block(depth - 1)
        self.loops = around
        return lines, step

    def leave(self, depth: int) -> tuple[list[str], Step]:
        asked, word = self.maker.condition(1), self.random.choice(["break", "continue"])

        def run(mask: Mask) -> None:
            chosen = self.active(mask) & asked.values
            left = self.loops[-1]
            if word == "break":
                left.broken = left.broken | chosen
            else:
                left.turned = left.turned | chosen

        return [f"if {asked.text}:", f"    {word}"], run


def floor_of(expr: Expr) -> Callable[[], Values]:
    return lambda: np.floor(expr.values)


def indented(lines: list[str]) -> list[str]:
    return [f"    {line}" for line in lines]


def numbers(dtype: str, size: int, source: np.random.Generator) -> np.ndarray:
    """Random integers of any size; for floats, small multiples of one half."""
    if dtype == "bool":
        return source.integers(0, 2, size).astype(bool)
    if dtype in FLOATS:
        return (source.integers(-60, 61, size) / 2).astype(dtype)
    low, high = limits(dtype)
    wide = source.integers(low, high, size, dtype, endpoint=True)
    return wide >> source.integers(0, np.iinfo(dtype).bits, size).astype(dtype)


def program(seed: int, lanes: int = 1) -> Program:
    """Kernel number `seed`: statements if `lanes` is 1, else expressions of vectors."""
    writer = Writer(Maker(random.Random(seed), lanes), SIZE * lanes)
    source = np.random.default_rng(seed)
    at = "t" if lanes == 1 else f"T.Ramp(t * {lanes}, 1, {lanes})"
    dtypes = [writer.random.choice(INTEGERS + FLOATS + ("bool",)) for _ in range(4)]
    parameters, arguments = [], []
    for i, dtype in enumerate(dtypes):
        values = numbers(dtype, SIZE * lanes, source)
        arguments.append(values)
        parameters.append(f'x{i}: T.Buffer(({SIZE * lanes},), "{dtype}")')
        kind = bool if dtype == "bool" else np.float64 if dtype in FLOATS else np.int64
        writer.state[f"x{i}"] = values.astype(kind)
        ends = (-30, 30) if dtype in FLOATS else (0, 1) if dtype == "bool" else limits(dtype)
        writer.known(f"x{i}", f"x{i}[{at}]", dtype, *ends, int(dtype in FLOATS))
    body = statements(writer) if lanes == 1 else vectors(writer, lanes)
    lines, outputs = body
    names = [f'y{i}: T.Buffer(({SIZE * lanes},), "{o.dtype}")' for i, o in enumerate(outputs)]
    text = [
        "@T.prim_func(s_tir=True)",
        f"def main({', '.join(parameters + names)}):",
        f'    for block in T.thread_binding({BLOCKS}, "blockIdx.x"):',
        f'        for thread in T.thread_binding({THREADS}, "threadIdx.x"):',
        f"            t = block * {THREADS} + thread",
        *(f"            {line}" for line in lines),
        *(f"            y{i}[{at}] = {o.text}" for i, o in enumerate(outputs)),
    ]
    expected = [np.broadcast_to(o.values, (SIZE * lanes,)).astype(o.dtype) for o in outputs]
    return Program("\n".join(text), arguments, expected)


def statements(writer: Writer) -> tuple[list[str], list[Expr]]:
    lines = []
    for _ in range(3):
        name, dtype = writer.name("v"), writer.random.choice(INTEGERS + FLOATS)
        low, high = (-64, 64) if dtype in FLOATS else limits(dtype)
        if dtype not in FLOATS and writer.random.random() < 0.6:
            low, high = 0 if low == 0 else -100, 100
        writer.state[name] = np.zeros(SIZE, np.float64 if dtype in FLOATS else np.int64)
        variable = writer.known(name, f"{name}[0]", dtype, low, high, 2 * (dtype in FLOATS))
        writer.variables.append(variable)
        lines += [f"{name} = T.alloc_buffer((1,), '{dtype}', scope='local')"]
        lines += [f"{name}[0] = T.{dtype}(0)"]
    for _ in range(writer.random.randint(2, 4)):
        more, step = writer.statement(3)
        lines += more
        with np.errstate(all="raise"):
            step(np.ones(SIZE, bool))
    return lines, list(writer.variables)


def vectors(writer: Writer, lanes: int) -> tuple[list[str], list[Expr]]:
    dtypes = [writer.random.choice(INTEGERS + FLOATS) for _ in range(2)]
    made = [writer.maker.expression(dtype, 4) for dtype in dtypes]
    return [], [*made, truth_as_number(writer.maker)]


def truth_as_number(maker: Maker) -> Expr:
    asked = maker.condition(3)
    one, zero = maker.constant("int32", 1), maker.constant("int32", 0)
    text = f"T.Select({asked.text}, {one.text}, {zero.text})"
    return Expr(text, "int32", lambda: asked.values.astype(np.int64), 0, 1)
