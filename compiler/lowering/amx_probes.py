"""Peak multiply throughput of AMX tile registers, for `handglass bench`: see probes.py.

Six tiles hold sums, the other two hold the operands, which are loaded once per task, so a round
consists of multiplications only. A multiplication has a throughput of 16 cycles and a latency of
52, so four sums in flight saturate the unit. Source: Intel 64 and IA-32 Architectures Optimization
Reference Manual, chapter on AMX.

As in the other probes, each value of the result counts one product per round: the 256 sums of a
tile are stored once for each input of a step.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping

from tvm import relax, tirx
from tvm.ir import Expr
from tvm.script import tirx as T
from tvm.tirx import Buffer

from handglass.schedules.isa.amx_configuration import configured
from handglass.schedules.isa.amx_instructions import (
    BFLOAT16,
    INT8,
    TILE,
    TILES,
    TileProduct,
    load,
    multiply,
    store,
    word_of_floats,
)
from handglass.schedules.isa.integer_isa import AMX, IntegerIsa

from .probe_function import add_chains

CHAINS = TILES - 2
VALUES = TILE * TILE


def tile_products(isa: IntegerIsa) -> Mapping[str, TileProduct]:
    """The tile products of many-row matmuls, by probe name; empty without AMX.

    schedules/select.py selects the kernels that use them.
    """
    return {"tile_int8": INT8, "tile_bf16": BFLOAT16} if isa is AMX else {}


def add_tile_probes(builder: relax.BlockBuilder, isa: IntegerIsa) -> None:
    """Add the tile probes as exported functions, if the machine has tiles."""
    for name, product in tile_products(isa).items():
        kernel = configured(tile_kernel(product))
        add_chains(builder, f"probe_{name}", kernel, tile_width(product), product.sums)


def tile_width(product: TileProduct) -> int:
    """Number of products in one round."""
    return CHAINS * VALUES * product.inputs


def _row(product: TileProduct, k: Expr) -> Expr:
    """Small numbers of both signs: sums are exact and do not overflow in 2**20 rounds."""
    value = (k // product.inputs + k % product.inputs) % 5 - 2
    if product is INT8:
        return value.astype(product.x)
    bits = tirx.reinterpret("uint32", value.astype("float32"))
    return (bits >> tirx.const(16, "uint32")).astype(product.x)


def _weight(product: TileProduct, k: Expr) -> Expr:
    if product is INT8:
        return (k % 7).astype(product.weight)
    return word_of_floats((k % 7).astype("float32"), (k % 7 - 3).astype("float32"))


@functools.cache  # parsed once
def tile_kernel(product: TileProduct) -> tirx.PrimFunc:
    """The probe kernel. Its tiles must be configured with `configured` or in the "tiles" phase."""
    inputs, sums, width = product.inputs, product.sums, tile_width(product)
    weights = VALUES if product.packed else VALUES * product.pair  # 1 KB of them
    rows_tile, weights_tile = CHAINS, CHAINS + 1

    def load_all(x: Buffer, w: Buffer, start: Buffer) -> None:
        T.evaluate(load(rows_tile, T.address_of(x[0])))
        T.evaluate(load(weights_tile, T.address_of(w[0])))
        for c in range(CHAINS):
            T.evaluate(load(c, T.address_of(start[c, 0])))

    def multiply_all() -> None:
        for c in range(CHAINS):
            T.evaluate(multiply(product, c, rows_tile, weights_tile))

    def store_all(y: Buffer, task: Expr, e: Expr) -> None:
        for c in range(CHAINS):
            T.evaluate(store(c, T.address_of(y[task, (e * CHAINS + c) * VALUES])))

    @T.prim_func(private=True, s_tir=True)
    def kernel(rounds: T.int64, out: T.handle) -> None:
        tasks = T.int64()
        y = T.match_buffer(out, (tasks, T.int64(width)), sums)
        for task in T.parallel(tasks):
            with T.sblock("tiles"):
                T.reads()
                T.writes(y[task, 0:width])
                x = T.alloc_buffer((TILE * inputs,), product.x)
                w = T.alloc_buffer((weights,), product.weight)
                start = T.alloc_buffer((CHAINS, VALUES), sums)
                for k in T.serial(TILE * inputs):
                    x[k] = _row(product, k)
                for k in T.serial(weights):
                    w[k] = _weight(product, k)
                for c, k in T.grid(CHAINS, VALUES):
                    start[c, k] = T.Cast(sums, c)
                load_all(x, w, start)
                for _ in T.serial(rounds):
                    multiply_all()
                for e in T.serial(inputs):
                    store_all(y, task, e)

    return kernel
