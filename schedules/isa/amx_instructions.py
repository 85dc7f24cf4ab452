"""Tile registers (Intel AMX), eight of 16 rows x 64 bytes, and their multiply instructions.

    tmm0 (16 rows, 16 outputs) += tmm4 (16 rows, inputs) * tmm6 (inputs, 16 outputs)

A step along the input is 64 bytes of a row: 32 bfloat16 or 64 int8 numbers. Weights are stored as
contiguous 1 KB tiles in which 2 or 4 consecutive inputs are adjacent. Instructions name registers
by number, so nothing can spill. The same thread must have configured the registers before
(`amx_configuration.py`). Source: Intel SDM vol. 2, chapter 3 of the AMX part.

On machines without AMX, tests replace every instruction by a call to an equivalent C function
(tests/support/amx_emulator.c).

One core of a Xeon of the fifth generation (2.8 GHz) multiplies two tiles in 5.6 ns, loads one from
the L1 cache in 3 and from the L2 cache in 7, and stores one in 5.6 ns.
"""

from __future__ import annotations

from dataclasses import dataclass

import tvm
import tvm_ffi
from tvm import tirx
from tvm.ir import Expr, StringImm
from tvm.script import tirx as T

TILE = 16
"""Rows of a tile, and outputs of a tile."""
ROW_BYTES = 64
TILES = 8

CONFIGURE, RELEASE = "llvm.x86.ldtilecfg", "llvm.x86.tilerelease"
LOAD, STORE = "llvm.x86.tileloadd64", "llvm.x86.tilestored64"
STREAM, ZERO = "llvm.x86.tileloaddt164", "llvm.x86.tilezero"


@dataclass(frozen=True)
class TileProduct:
    """A tile multiply instruction and the data types it takes."""

    name: str
    instruction: str
    sums: str
    x: str
    """dtype of the activations, (row tiles, steps, 16, inputs)."""
    inputs: int
    """Inputs of one step: 64 bytes of a row."""
    weight: str
    """dtype of the weights."""
    places: tuple[int, ...]
    """Shape of one step of weights: the input axes that precede the 16 outputs."""
    pair: int
    """Consecutive inputs stored together for each output."""
    packed: bool
    """Whether these inputs are packed into one number instead of forming an axis."""

    @property
    def steps_axis(self) -> int:
        """Entries of the weights' second axis per step."""
        return 1 if len(self.places) == 1 else self.places[0]

    def weight_shape(self, steps: int) -> tuple[int, ...]:
        """Shape of the weights of one panel of 16 outputs."""
        outputs = (TILE,) if self.packed else (TILE, self.pair)
        inner = self.places if len(self.places) == 1 else self.places[1:]
        return (steps * self.steps_axis, *inner, *outputs)

    def term(self, x, weight, row: list, panel: list, s, places: list, j, e) -> Expr:
        """One product: x[*row, s, i, input] * weight[*panel, s, places, j, e]."""
        *rows, i = row
        k = _flat([*places, e], [*self.places, self.pair])
        if len(places) == 1:
            index = [*panel, s, *places, j]
        else:
            index = [*panel, s * self.steps_axis + places[0], *places[1:], j, e]
        row_index = [*rows, s, i, k]
        value, code = x[tuple(row_index)], weight[tuple(index)]
        if self.packed:
            return widen_bfloat16(value) * half_of_word(code, e)
        return value.astype(self.sums) * code.astype(self.sums)


BFLOAT16 = TileProduct(
    "bf16", "llvm.x86.tdpbf16ps", "float32", "uint16", 32, "uint32", (16,), 2, True
)
# Activations are signed, weights unsigned with zero point 128, as for the byte dot products.
INT8 = TileProduct("int8", "llvm.x86.tdpbsud", "int32", "int8", 64, "uint8", (4, 4), 4, False)
PRODUCTS = {product.name: product for product in (BFLOAT16, INT8)}


def _flat(index: list, extents: list[int]) -> Expr:
    """Row-major position of `index`."""
    place = index[0]
    for i, extent in zip(index[1:], extents[1:], strict=True):
        place = place * extent + i
    return place


def widen_bfloat16(bits: Expr) -> Expr:
    """Convert a bfloat16, stored as uint16, to float32."""
    return tirx.reinterpret("float32", bits.astype("uint32") << tirx.const(16, "uint32"))


def half_of_word(word: Expr, e: Expr) -> Expr:
    """The lower (e = 0) or upper (e = 1) bfloat16 of a uint32, as float32."""
    one, sixteen = tirx.const(1, "uint32"), tirx.const(16, "uint32")
    shift = (one - e.astype("uint32")) * sixteen
    return tirx.reinterpret("float32", (word << shift) & tirx.const(0xFFFF0000, "uint32"))


def word_of_floats(low: Expr, high: Expr, lanes: int = 1) -> Expr:
    """Pack two float32, or vectors of `lanes`, as two bfloat16 in a uint32; ties away from zero."""

    def u32(value: int) -> Expr:
        number = tirx.const(value, "uint32")
        return number if lanes == 1 else tirx.Broadcast(number, lanes)

    dtype = "uint32" if lanes == 1 else f"uint32x{lanes}"
    rounded = [tirx.reinterpret(dtype, value) + u32(0x8000) for value in (low, high)]
    return (rounded[0] >> u32(16)) | (rounded[1] & u32(0xFFFF0000))


def configuration() -> bytes:
    """The operand of `ldtilecfg`: palette 1, all tiles with 16 rows of 64 bytes."""
    memory = bytearray(64)
    memory[0] = 1
    for tile in range(TILES):
        memory[16 + 2 * tile] = ROW_BYTES
        memory[48 + tile] = TILE
    return bytes(memory)


def configure() -> Expr:
    """Configure the tiles of this thread; the operand is a constant in the library."""
    return _call(CONFIGURE, StringImm(configuration().decode("ascii")))


def release() -> Expr:
    """Release the tiles, so that the operating system saves less at a context switch."""
    return _call(RELEASE)


def load(tile: int, address: Expr) -> Expr:
    """Load 1 KB of contiguous memory into tile number `tile`."""
    return _call(LOAD, tirx.const(tile, "int8"), address, tirx.const(ROW_BYTES, "int64"))


def stream(tile: int, address: Expr) -> Expr:
    """`load` with the hint that the memory is not needed in the L1 cache again."""
    return _call(STREAM, tirx.const(tile, "int8"), address, tirx.const(ROW_BYTES, "int64"))


def zero(tile: int) -> Expr:
    """Set tile number `tile` to zero."""
    return _call(ZERO, tirx.const(tile, "int8"))


def store(tile: int, address: Expr) -> Expr:
    """The inverse of `load`."""
    return _call(STORE, tirx.const(tile, "int8"), address, tirx.const(ROW_BYTES, "int64"))


def multiply(product: TileProduct, c: int, a: int, b: int) -> Expr:
    """Tile c += tile a times tile b."""
    numbers = [tirx.const(tile, "int8") for tile in (c, a, b)]
    return _call(product.instruction, *numbers)


def _call(name: str, *arguments: Expr) -> Expr:
    return T.call_llvm_intrin(T.llvm_lookup_intrinsic_id(name), *arguments, dtype="void")


def uses_tiles(statement: tirx.Stmt) -> bool:
    """Whether a tile is loaded anywhere in the statement."""
    return bool(addresses(statement, LOAD))


def multiplies(loop: tirx.For) -> bool:
    """Whether it is the loop over the input: an innermost one that uses tiles."""
    inner: list[tirx.For] = []
    tvm_ffi.structural_walk(loop.body, (tirx.For, inner.append))
    return not inner and uses_tiles(loop.body)


def addresses(statement: tirx.Stmt, name: str) -> dict[int, Expr]:
    """By tile number, the operands of all calls of the load or store `name` in the statement."""
    found: dict[int, Expr] = {}

    def look(call: tvm.ir.Call) -> None:
        if (tile := tile_of(call, name)) is not None:
            found[tile] = call.args[2]

    tvm_ffi.structural_walk(statement, (tvm.ir.Call, look))
    return found


def tile_of(value: Expr, name: str) -> int | None:
    """The first operand of a call of the instruction `name`; None if it is no such call."""
    if not isinstance(value, tvm.ir.Call) or not value.op.same_as(_LLVM) or len(value.args) < 2:
        return None
    number, tile, *_ = value.args
    is_same = isinstance(number, tirx.IntImm) and int(number) == T.llvm_lookup_intrinsic_id(name)
    return int(tile) if is_same and isinstance(tile, tirx.IntImm) else None


_LLVM = tirx.call_llvm_intrin("void", "llvm.x86.tilerelease").op
