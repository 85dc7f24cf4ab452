"""A kernel that multiplies on tensor cores and does little else, for a known answer.

It uses what the kernels of models use: 16-byte copies to shared memory, ldmatrix plain and
transposed, and mma.sync, each in the form that the chip has.
"""

from __future__ import annotations

from tvm import tirx
from tvm.script import tirx as S
from tvm.script.ir_builder import IRBuilder
from tvm.tirx.script.builder import ir as T

from ..loops import bound, int64, spatial
from .fragments import SIDE, WARP
from .warp_functions import ARITHMETIC, MEMORY

COLUMNS = 8
NAME = "handglass_probe"
CODE = (
    MEMORY
    + ARITHMETIC
    + """
// 16 rows of a (16 inputs) times b (16, 8), by one warp.
static __device__ __forceinline__ void handglass_probe(
    handglass_half* pool, const handglass_half* a, const handglass_half* b, float* out, int tile) {
  int lane = threadIdx.x, row = tile * 16 + (lane >> 2), column = 2 * (lane & 3);
  unsigned memory = (unsigned)__cvta_generic_to_shared(pool);
  handglass_flash_copy(memory + 16 * lane, a + 256 * tile + 8 * lane, true);
  handglass_flash_copy(memory + 512 + 16 * lane, b + 8 * (lane & 15), lane < 16);
  handglass_flash_commit();
  handglass_flash_wait<0>();
  __syncthreads();
  unsigned rows[4], columns[2];
  float sums[4] = {0, 0, 0, 0};
  handglass_flash_load4<false>(rows, memory + 32 * (lane & 15) + 16 * (lane >> 4));
  handglass_flash_load2<true>(columns, memory + 512 + 16 * (lane & 15));
  handglass_flash_multiply16(sums, rows, columns[0], columns[1]);
  *(float2*)(out + 8 * row + column) = make_float2(sums[0], sums[1]);
  *(float2*)(out + 8 * (row + 8) + column) = make_float2(sums[2], sums[3]);
}
"""
)


def product_probe(tiles: int) -> tirx.PrimFunc:
    """a (16 * tiles, 16) times b (16, 8), float16 -> float32; already scheduled."""
    rows = SIDE * tiles
    with IRBuilder() as builder, T.prim_func(s_tir=True):
        T.func_name("main")
        a = T.arg("a", tirx.decl_buffer((rows, SIDE), "float16", layout=None))
        b = T.arg("b", tirx.decl_buffer((SIDE, COLUMNS), "float16", layout=None))
        out = T.arg("out", tirx.decl_buffer((rows, COLUMNS), "float32", layout=None))
        with (
            bound(int64(tiles), "blockIdx.x") as tile,
            bound(int64(WARP), "threadIdx.x") as lane,
            T.sblock("product"),
        ):
            tile = spatial(tiles, tile)
            spatial(WARP, lane)
            pool = T.sblock_alloc_buffer((2 * SIDE * SIDE,), "float16", scope="shared")
            with T.sblock("warp"):
                T.reads(a[0:rows, 0:SIDE], b[0:SIDE, 0:COLUMNS])
                T.writes(out[0:rows, 0:COLUMNS], pool[0 : 2 * SIDE * SIDE])
                arguments = (pool.access_ptr("rw"), a.access_ptr("r"), b.access_ptr("r"))
                T.evaluate(
                    S.cuda.func_call(
                        NAME,
                        *(*arguments, out.access_ptr("w"), tile.astype("int32")),
                        source_code=CODE,
                    )
                )
    return builder.get()
