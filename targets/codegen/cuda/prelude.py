"""CUDA C++ that is put before the kernels: the reductions across threads of reductions.py, and the
reading of a cell (cells.py).

All 32 lanes of a warp take part in each exchange, which the mask says: `__activemask()`, as TVM's
own code has it, names the lanes that happen to run together, and the hardware may part lanes at
any time. Lanes that a small block never had do not count.
"""

from __future__ import annotations

KERNELS = 'extern "C" __global__'
MARK = "handglass_"

REDUCTIONS = """
namespace handglass {
struct Add { template <class T> __device__ static T Of(T a, T b) { return a + b; } };
struct Max { template <class T> __device__ static T Of(T a, T b) { return max(a, b); } };
struct Min { template <class T> __device__ static T Of(T a, T b) { return min(a, b); } };

// Reduces the lanes whose indices differ in `bits`.
template <class Operation, class T, class... Bits>
__device__ __forceinline__ T Lanes(T value, Bits... bits) {
  ((value = Operation::Of(value, __shfl_xor_sync(0xffffffffu, value, bits))), ...);
  return value;
}

// Reduces all threads of a block of whole warps.
template <class Operation, class T>
__device__ __forceinline__ T Workgroup(T value) {
  __shared__ T partial[32];
  const unsigned thread = threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z);
  const unsigned warps = blockDim.x * blockDim.y * blockDim.z / 32;
  value = Lanes<Operation>(value, 1, 2, 4, 8, 16);
  __syncthreads();  // all threads have read the results of the previous reduction
  if (thread % 32 == 0) partial[thread / 32] = value;
  __syncthreads();
  T total = partial[0];
  for (unsigned warp = 1; warp < warps; ++warp) total = Operation::Of(total, partial[warp]);
  return total;
}
}  // namespace handglass
#define handglass_lanes_add handglass::Lanes<handglass::Add>
#define handglass_lanes_max handglass::Lanes<handglass::Max>
#define handglass_lanes_min handglass::Lanes<handglass::Min>
#define handglass_workgroup_add handglass::Workgroup<handglass::Add>
#define handglass_workgroup_max handglass::Workgroup<handglass::Max>
#define handglass_workgroup_min handglass::Workgroup<handglass::Min>
"""

CELLS = """
// A number from the cells of this launch, or as it was passed if the launch has none.
template <class Cell, class T>
__device__ __forceinline__ T handglass_cell(const Cell* cells, int index, T passed) {
  return cells ? static_cast<T>(cells[index]) : passed;
}
"""


def with_prelude(source: str) -> str:
    """The source with what its kernels call, after TVM's own declarations."""
    start = source.find(KERNELS)
    if start < 0 or MARK not in source:
        return source
    return source[:start] + REDUCTIONS + CELLS + source[start:]
