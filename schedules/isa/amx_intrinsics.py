"""Tensor intrinsics for AMX tiles: blocks of row tiles times panels of 16 outputs.

Four tiles accumulate sums over the whole input: 2 x 2, with as many tile loads as multiplies, or
4 x 1 if there is one panel. The loop over the steps of the input is part of the intrinsic,
because the sums must stay in their tiles.
"""

from __future__ import annotations

from dataclasses import dataclass

from tvm import tirx
from tvm.s_tir import TensorIntrin
from tvm.script import tirx as T

from .amx_instructions import TILE, TILES, TileProduct, load, multiply, store, stream, zero


@dataclass(frozen=True)
class Block:
    """Row tiles and panels of 16 outputs whose sums are in registers."""

    rows: int
    panels: int


def block_of(panels: int) -> Block:
    """The block shape for a matrix of `panels` panels; a last odd one forms a pair with the one
    before it, which is then computed twice (schedules/cpu/amx_nest.py)."""
    return Block(4, 1) if panels == 1 else Block(2, 2)


@dataclass(frozen=True)
class Order:
    """How the steps of the input follow each other."""

    unroll: int = 1
    """Steps per iteration, a divisor of their number."""
    streamed: bool = False
    """Whether rows are loaded with the hint to leave the L1 cache to the weights."""


def tile_intrinsic(product: TileProduct, block: Block, steps: int, order: Order = Order()) -> str:
    """Register the intrinsic for a block of sums over all `steps` of the input; return its name.

    Its tiles start at zero, so the sums need no initial value: the description adds to the sums,
    and the schedule drops their initialization (schedules/cpu/amx_nest.py).
    """
    name = f"handglass.tile.{product.name}.{block.rows}x{block.panels}.{steps}"
    name += f".{order.unroll}{'.streamed' if order.streamed else ''}"
    if TensorIntrin.get(name, allow_missing=True) is None:
        TensorIntrin.register(
            name,
            _description(product, block, steps),
            _implementation(product, block, steps, order),
        )
    return name


def _shapes(product: TileProduct, block: Block, steps: int) -> tuple[list, list, list]:
    """Shapes of the rows, the weights and the sums."""
    panels = [block.panels] if block.panels > 1 else []
    rows = [block.rows, steps, TILE, product.inputs]
    return rows, [*panels, *product.weight_shape(steps)], [*panels, block.rows, TILE, TILE]


def _strides(shape: list[int], outer: list) -> list:
    """Row-major strides, with the given ones for the outermost axes, which may be a slice."""
    inner = [1]
    for extent in reversed(shape[len(outer) + 1 :]):
        inner.insert(0, inner[0] * extent)
    return [*outer, *inner]


Operands = tuple[tirx.Buffer, tirx.Buffer, tirx.Buffer]


def _match(
    product: TileProduct, block: Block, steps: int, handles: tuple[tirx.Var, tirx.Var, tirx.Var]
) -> Operands:
    """Buffers of the rows, the weights and the sums behind the arguments of an intrinsic."""
    x_shape, w_shape, c_shape = _shapes(product, block, steps)
    sx, sw, sc = (tirx.Var(name, "int64") for name in ("sx", "sw", "sc"))
    several = block.panels > 1
    specs = (
        (x_shape, product.x, [sx]),
        (w_shape, product.weight, [sw] if several else []),
        (c_shape, product.sums, [sc] if several else []),
    )
    x, w, c = (
        T.match_buffer(handle, shape, dtype, offset_factor=1, strides=_strides(shape, outer))
        for handle, (shape, dtype, outer) in zip(handles, specs, strict=True)
    )
    return x, w, c


def _whole(buffer):
    return buffer[tuple(slice(0, extent) for extent in buffer.shape)]


def _description(product: TileProduct, block: Block, steps: int) -> tirx.PrimFunc:
    several = block.panels > 1
    axes = {"p": block.panels} if several else {}
    axes |= {"r": block.rows, "i": TILE, "j": TILE} | ({"s": steps} if steps > 1 else {})
    axes |= {f"q{n}": extent for n, extent in enumerate(product.places)} | {"e": product.pair}
    kinds = "".join("S" if name in "prij" else "R" for name in axes)
    extents = [tirx.IntImm("int64", extent) for extent in axes.values()]

    def place(variables: list) -> list:
        at = dict(zip(axes, variables, strict=True))
        return [*([at["p"]] if several else []), at["r"], at["i"], at["j"]]

    def term(x, w, variables: list):
        at = dict(zip(axes, variables, strict=True))
        places = [at[f"q{n}"] for n in range(len(product.places))]
        panel = [at["p"]] if several else []
        s = at.get("s", tirx.IntImm("int64", 0))
        return product.term(x, w, [at["r"], at["i"]], panel, s, places, at["j"], at["e"])

    @T.prim_func(s_tir=True)
    def description(x_rows: T.handle, weights: T.handle, sums: T.handle) -> None:
        x, w, c = _match(product, block, steps, (x_rows, weights, sums))
        with T.sblock("root"):
            T.reads(_whole(c), _whole(x), _whole(w))
            T.writes(_whole(c))
            for loops in T.grid(*extents):
                with T.sblock("tile"):
                    at = T.meta_var(T.axis.remap(kinds, loops))
                    T.buffer_store(c, c[tuple(place(at))] + term(x, w, at), place(at))

    return description


def _implementation(product: TileProduct, block: Block, steps: int, order: Order) -> tirx.PrimFunc:
    _, w_shape, _ = _shapes(product, block, steps)
    several = block.panels > 1
    sums_tiles = block.rows * block.panels
    w_tile = sums_tiles  # after the sums, one register for the weights of each panel
    x_tiles = range(sums_tiles + block.panels, TILES)  # the rest hold rows, round-robin
    load_rows = stream if order.streamed else load

    def load_weights(w, s, p: int) -> None:
        place = [*([p] if several else []), s * product.steps_axis]
        place += [0] * (len(w_shape) - len(place))
        T.evaluate(load(w_tile + p, T.address_of(w[tuple(place)])))

    def step(x, w, s) -> None:
        for r in range(block.rows):
            tile = x_tiles[r % len(x_tiles)]
            T.evaluate(load_rows(tile, T.address_of(x[r, s, 0, 0])))
            for p in range(block.panels):
                if r == 0:
                    load_weights(w, s, p)
                T.evaluate(multiply(product, p * block.rows + r, tile, w_tile + p))

    def iteration(x, w, s) -> None:
        for n in range(order.unroll):
            step(x, w, s * order.unroll + n if order.unroll > 1 else s)

    def zero_all() -> None:
        for tile in range(sums_tiles):
            T.evaluate(zero(tile))

    def store_all(c) -> None:
        for p in range(block.panels):
            for r in range(block.rows):
                place = [*([p] if several else []), r, 0, 0]
                T.evaluate(store(p * block.rows + r, T.address_of(c[tuple(place)])))

    @T.prim_func(s_tir=True)
    def implementation(x_rows: T.handle, weights: T.handle, sums: T.handle) -> None:
        x, w, c = _match(product, block, steps, (x_rows, weights, sums))
        with T.sblock("root"):
            T.reads(_whole(c), _whole(x), _whole(w))
            T.writes(_whole(c))
            zero_all()
            for s in T.serial(steps // order.unroll):
                iteration(x, w, s)
            store_all(c)

    return implementation
