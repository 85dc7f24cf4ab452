"""CUDA C++ of attention (flash_nest.py): a workgroup's tile of rows, whatever its warps multiply.

Warps multiply float16 (flash_tile.py), codes of int8 (flash_codes.py) or float32 (flash_floats.py).
On tensor cores, a warp keeps the sums of its rows, their maxima and the sums of their weights in
registers. Scores are the accumulators of `mma.sync` and, rounded to float16 in pairs, already have
the layout of its left operand for the product with the values. What a warp does with a step of
positions:

    scores = queries keys^T      m16n8k16, keys by ldmatrix
    weights = exp2(scores - most), sums *= exp2(old most - most)
    sums += weights values       m16n8k16, values by ldmatrix.trans

Rows of shared memory are an odd number of 16-byte units apart, and the halves of every fifth to
eighth row of a panel of keys are swapped, so that the eight addresses of a matrix are in different
banks.

Queries that are held in registers come through the last stage, which is filled after them.

Keys and values are copied by cp.async while earlier ones are multiplied. Chips before 8.0 have
neither that nor m16n8k16; they copy through registers and multiply twice.
"""

from __future__ import annotations

from .flash_codes import CODES
from .flash_codes_stage import STAGE
from .flash_floats import FLOATS
from .flash_tile import TILE
from .warp_functions import ARITHMETIC, MEMORY

NAME = "handglass_flash"

_WEIGHTS = """
static __device__ __forceinline__ float handglass_flash_exp2(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}
// Adds up what the four lanes of a row have.
static __device__ __forceinline__ float handglass_flash_total(float total) {
  total += __shfl_xor_sync(~0u, total, 1);
  return total + __shfl_xor_sync(~0u, total, 2);
}
"""
_COPIES = """
// Copies a chunk of keys and values to shared memory. Keys beyond the last panel or row are those
// of the last one, values beyond `end` are zeros.
template <class Flash, int D, bool PANELS, int CHUNK>
static __device__ __forceinline__ void handglass_flash_fetch(
    unsigned stage, const handglass_half* keys, const handglass_half* values, int start, int end,
    int positions) {
  constexpr int kUnits = CHUNK * (D / 8), kRow = D / 8;
  int thread = threadIdx.x + 32 * threadIdx.y, last = positions * kRow - 1;
  const handglass_half* from = keys + (long long)start * D;
  #pragma unroll
  for (int round = 0; round < (kUnits + Flash::kThreads - 1) / Flash::kThreads; ++round) {
    int unit = round * Flash::kThreads + thread;
    if (kUnits % Flash::kThreads != 0 && unit >= kUnits) break;
    int to = PANELS ? unit ^ (unit >> 3 & 1) : unit / kRow * (kRow | 1) + unit % kRow;
    int source = min(unit, last - start * kRow);
    handglass_flash_copy(stage + 16 * to, from + 8 * source, true);
  }
  from = values + (long long)start * D;
  #pragma unroll
  for (int round = 0; round < (kUnits + Flash::kThreads - 1) / Flash::kThreads; ++round) {
    int unit = round * Flash::kThreads + thread;
    if (kUnits % Flash::kThreads != 0 && unit >= kUnits) break;
    bool is_seen = unit < (end - start) * kRow;
    handglass_flash_copy(
        stage + 2 * Flash::kKeys + 16 * (unit / kRow * (kRow | 1) + unit % kRow),
        is_seen ? from + 8 * unit : values, is_seen);
  }
}
"""
_RESULT = """
// Where results go: rows of all heads side by side, or parts of the positions to be merged later.
template <int D, int GROUP, bool SPLIT>
struct HandglassFlashOut {
  float *out, *marks;
  int head, heads, count, part;

  __device__ __forceinline__ float* at(int r) const {
    if (SPLIT) return out + (first_of_part() + r) * D;
    return out + ((long long)(r / GROUP) * heads * GROUP + head * GROUP + r % GROUP) * D;
  }
  __device__ __forceinline__ int first_of_part() const {
    return (part * heads + head) * count * GROUP;
  }
  __device__ __forceinline__ bool has(int r) const { return r < count * GROUP; }
  __device__ __forceinline__ void mark(int r, float most, float total) const {
    if (SPLIT) *(float2*)(marks + 2 * (first_of_part() + r)) = make_float2(most, total);
  }
  __device__ __forceinline__ float factor(float total) const { return SPLIT ? 1 : 1 / total; }
};
template <class Flash, class Out>
static __device__ __forceinline__ void handglass_flash_finish(
    const Flash& flash, void* pool, int first_row, const Out& out) {
  constexpr int kApart = Flash::kApart, kAcross = Flash::kAcross;
  float* shared = (float*)pool;
  float* kept = shared + kAcross * Flash::kRows * kApart;
  int lane = threadIdx.x, across = threadIdx.y / Flash::kDown;
  if (kAcross > 1) __syncthreads();  // all have read their keys and values
  flash.rows([&](int r, float peak, float total, bool tells, auto put) {
    if (kAcross > 1) {
      int place = across * Flash::kRows + r - first_row;
      put(shared + place * kApart, 1.0f);
      if (tells) *(float2*)(kept + 2 * place) = make_float2(peak, total);
    } else if (out.has(r)) {
      put(out.at(r), out.factor(total));
      if (tells) out.mark(r, peak, total);
    }
  });
  if (kAcross == 1) return;
  __syncthreads();
  for (int place = threadIdx.y; place < Flash::kRows; place += Flash::kThreads / 32) {
    int r = first_row + place;
    float most = kept[2 * place], total = 0, weights[kAcross];
    #pragma unroll
    for (int a = 1; a < kAcross; ++a) most = fmaxf(most, kept[2 * (a * Flash::kRows + place)]);
    #pragma unroll
    for (int a = 0; a < kAcross; ++a) {
      float2 mark = *(const float2*)(kept + 2 * (a * Flash::kRows + place));
      weights[a] = handglass_flash_exp2(mark.x - most);
      total += weights[a] * mark.y;
    }
    if (!out.has(r)) continue;
    float factor = out.factor(total);
    #pragma unroll
    for (int e = 2 * lane; e < Flash::kD; e += 64) {
      float low = 0, high = 0;
      #pragma unroll
      for (int a = 0; a < kAcross; ++a) {
        float2 sum = *(const float2*)(shared + (a * Flash::kRows + place) * kApart + e);
        low += weights[a] * sum.x;
        high += weights[a] * sum.y;
      }
      *(float2*)(out.at(r) + e) = make_float2(low * factor, high * factor);
    }
    if (lane == 0) out.mark(r, most, total);
  }
}
"""
_WORKGROUP = """
// `stored`: keys and values of all heads, and the scales of int8.
template <class Flash, bool SPLIT, class... Stored>
static __device__ __forceinline__ void handglass_flash(
    void* pool, float* out, float* marks, int tile, int head, int part, int heads,
    int parts, int count, int first_limit, int key_positions, int positions, Stored... stored) {
  constexpr int kChunk = Flash::kChunk, kStages = Flash::kStages;
  Flash flash;
  flash.first_limit = first_limit;
  flash.count = count;
  int first_row = tile * Flash::kRows;
  int end = flash.limit_of(first_row + Flash::kRows - 1);
  int chunks = (end + kChunk - 1) / kChunk, first = 0;
  if (SPLIT) {
    int share = (chunks + parts - 1) / parts;
    first = part * share;
    chunks = max(0, min(share, chunks - first));
  }
  typename Flash::Cache cache(head, key_positions, positions, stored...);
  unsigned memory = (unsigned)__cvta_generic_to_shared(pool);
  auto fetch = [&](int chunk) {
    if (chunk < chunks)
      cache.fetch(memory + 2 * (chunk % kStages * Flash::kStage), (first + chunk) * kChunk, end);
    handglass_flash_commit();
  };
  #pragma unroll
  for (int chunk = 0; chunk < kStages - 1; ++chunk) fetch(chunk);
  __syncthreads();  // the queries are in shared memory
  flash.start(memory + 2 * (kStages - Flash::kHeld) * Flash::kStage, first_row);
  #pragma unroll 1
  for (int chunk = 0; chunk < chunks; ++chunk) {
    if (kStages == 1) {
      if (Flash::kHeld || chunk > 0) __syncthreads();
      fetch(chunk);
    }
    handglass_flash_wait<(kStages > 2 ? kStages - 2 : 0)>();
    __syncthreads();  // the chunk is there, and all are done with the one before
    if (kStages > 1) fetch(chunk + kStages - 1);
    flash.chunk(memory + 2 * (chunk % kStages * Flash::kStage), (first + chunk) * kChunk);
  }
  handglass_flash_wait<0>();
  handglass_flash_finish(
      flash, pool, first_row,
      HandglassFlashOut<Flash::kD, Flash::kGroup, SPLIT>{out, marks, head, heads, count, part});
}
"""


def _guarded(name: str, code: str) -> str:
    """TVM prints the source once per name, and each workgroup has a name of its own."""
    return f"#ifndef HANDGLASS_FLASH_{name}\n#define HANDGLASS_FLASH_{name}\n{code}#endif\n"


_WEIGHTS_CODE = MEMORY + _guarded("WEIGHTS", _WEIGHTS)
_GRID_CODE = _guarded("GRID", _RESULT + _WORKGROUP)
_HALVES_CODE = ARITHMETIC + _WEIGHTS_CODE + _guarded("HALVES", _COPIES + TILE)
CODE = {
    "": _HALVES_CODE + _GRID_CODE,
    "float16": _HALVES_CODE + _GRID_CODE,
    "int8": _HALVES_CODE + _guarded("CODES", STAGE + CODES) + _GRID_CODE,
    "float32": _WEIGHTS_CODE + _guarded("FLOATS", FLOATS) + _GRID_CODE,
}
"""By the type of the cache that is read as it is; without float16, there is no header for it."""
