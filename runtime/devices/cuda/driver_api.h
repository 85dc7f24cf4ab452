// The part of NVIDIA's driver API that is used here: types, values and entry points.
//
// Declared here so that a device can build the plug-in without CUDA's headers;
// tests/cuda/test_cuda_driver_api.py compares the declarations with cuda.h of CUDA 12 and 13. Functions
// bear the names of the symbols in libcuda.so.1, which cuda.h hides behind macros.
#pragma once

#include <cstddef>
#include <cstdint>

struct CUctx_st;
struct CUmod_st;
struct CUfunc_st;
struct CUstream_st;
struct CUevent_st;
struct CUgraph_st;
struct CUgraphExec_st;
struct CUgraphNode_st;
struct CUkern_st;

namespace handglass {
namespace cuda {

using CUdevice = int;
using CUdeviceptr = unsigned long long;
using CUcontext = CUctx_st*;
using CUmodule = CUmod_st*;
using CUfunction = CUfunc_st*;
using CUstream = CUstream_st*;
using CUevent = CUevent_st*;
using CUgraph = CUgraph_st*;
using CUgraphExec = CUgraphExec_st*;
using CUgraphNode = CUgraphNode_st*;
using CUkernel = CUkern_st*;

struct CUuuid {
  char bytes[16];
};

struct CUDA_KERNEL_NODE_PARAMS {
  CUfunction func;
  unsigned int gridDimX;
  unsigned int gridDimY;
  unsigned int gridDimZ;
  unsigned int blockDimX;
  unsigned int blockDimY;
  unsigned int blockDimZ;
  unsigned int sharedMemBytes;
  void** kernelParams;
  void** extra;
  CUkernel kern;
  CUcontext ctx;
};

enum CUresult : unsigned int {
  CUDA_SUCCESS = 0,
  CUDA_ERROR_OUT_OF_MEMORY = 2,
  CUDA_ERROR_STUB_LIBRARY = 34,
  CUDA_ERROR_NO_DEVICE = 100,
  CUDA_ERROR_INVALID_IMAGE = 200,
  CUDA_ERROR_NO_BINARY_FOR_GPU = 209,
  CUDA_ERROR_ECC_UNCORRECTABLE = 214,
  CUDA_ERROR_INVALID_PTX = 218,
  CUDA_ERROR_NVLINK_UNCORRECTABLE = 220,
  CUDA_ERROR_UNSUPPORTED_PTX_VERSION = 222,
  CUDA_ERROR_JIT_COMPILATION_DISABLED = 223,
  CUDA_ERROR_NOT_READY = 600,
  CUDA_ERROR_ILLEGAL_ADDRESS = 700,
  CUDA_ERROR_LAUNCH_TIMEOUT = 702,
  CUDA_ERROR_ASSERT = 710,
  CUDA_ERROR_HARDWARE_STACK_ERROR = 714,
  CUDA_ERROR_ILLEGAL_INSTRUCTION = 715,
  CUDA_ERROR_MISALIGNED_ADDRESS = 716,
  CUDA_ERROR_INVALID_ADDRESS_SPACE = 717,
  CUDA_ERROR_INVALID_PC = 718,
  CUDA_ERROR_LAUNCH_FAILED = 719,
  CUDA_ERROR_UNKNOWN = 999,
};

enum CUdevice_attribute : unsigned int {
  CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_BLOCK = 1,
  CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_X = 2,
  CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_Y = 3,
  CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_Z = 4,
  CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_X = 5,
  CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_Y = 6,
  CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_Z = 7,
  CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK = 8,
  CU_DEVICE_ATTRIBUTE_WARP_SIZE = 10,
  CU_DEVICE_ATTRIBUTE_MAX_REGISTERS_PER_BLOCK = 12,
  CU_DEVICE_ATTRIBUTE_CLOCK_RATE = 13,
  CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT = 16,
  CU_DEVICE_ATTRIBUTE_INTEGRATED = 18,
  CU_DEVICE_ATTRIBUTE_COMPUTE_MODE = 20,
  CU_DEVICE_ATTRIBUTE_MEMORY_CLOCK_RATE = 36,
  CU_DEVICE_ATTRIBUTE_GLOBAL_MEMORY_BUS_WIDTH = 37,
  CU_DEVICE_ATTRIBUTE_L2_CACHE_SIZE = 38,
  CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_MULTIPROCESSOR = 39,
  CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR = 75,
  CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR = 76,
  CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_MULTIPROCESSOR = 81,
  CU_DEVICE_ATTRIBUTE_MAX_REGISTERS_PER_MULTIPROCESSOR = 82,
  CU_DEVICE_ATTRIBUTE_MANAGED_MEMORY = 83,
  CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN = 97,
};

enum CUfunction_attribute : unsigned int {
  CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK = 0,
  CU_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES = 1,
  CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES = 8,
};

enum CUjit_option : unsigned int {
  CU_JIT_ERROR_LOG_BUFFER = 5,
  CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES = 6,
};

constexpr unsigned int CU_STREAM_DEFAULT = 0;
constexpr unsigned int CU_EVENT_DEFAULT = 0;
constexpr unsigned int CU_EVENT_DISABLE_TIMING = 2;
constexpr unsigned int CU_MEM_ATTACH_HOST = 2;
constexpr unsigned int CU_MEM_ATTACH_SINGLE = 4;

#define HANDGLASS_CUDA_FUNCTIONS(f)                                                             \
  f(cuInit, (unsigned int))                                                                     \
  f(cuDriverGetVersion, (int*))                                                                 \
  f(cuGetErrorName, (CUresult, const char**))                                                   \
  f(cuDeviceGetCount, (int*))                                                                   \
  f(cuDeviceGet, (CUdevice*, int))                                                              \
  f(cuDeviceGetName, (char*, int, CUdevice))                                                    \
  f(cuDeviceGetUuid_v2, (CUuuid*, CUdevice))                                                    \
  f(cuDeviceTotalMem_v2, (size_t*, CUdevice))                                                   \
  f(cuDeviceGetAttribute, (int*, CUdevice_attribute, CUdevice))                                 \
  f(cuDevicePrimaryCtxRetain, (CUcontext*, CUdevice))                                           \
  f(cuCtxPushCurrent_v2, (CUcontext))                                                           \
  f(cuCtxPopCurrent_v2, (CUcontext*))                                                           \
  f(cuMemGetInfo_v2, (size_t*, size_t*))                                                        \
  f(cuMemAlloc_v2, (CUdeviceptr*, size_t))                                                      \
  f(cuMemAllocManaged, (CUdeviceptr*, size_t, unsigned int))                                    \
  f(cuMemFree_v2, (CUdeviceptr))                                                                \
  f(cuMemHostAlloc, (void**, size_t, unsigned int))                                             \
  f(cuMemcpyHtoDAsync_v2, (CUdeviceptr, const void*, size_t, CUstream))                         \
  f(cuMemcpyDtoHAsync_v2, (void*, CUdeviceptr, size_t, CUstream))                               \
  f(cuMemcpyDtoDAsync_v2, (CUdeviceptr, CUdeviceptr, size_t, CUstream))                         \
  f(cuStreamCreate, (CUstream*, unsigned int))                                                  \
  f(cuStreamQuery, (CUstream))                                                                  \
  f(cuStreamSynchronize, (CUstream))                                                            \
  f(cuStreamAttachMemAsync, (CUstream, CUdeviceptr, size_t, unsigned int))                      \
  f(cuEventCreate, (CUevent*, unsigned int))                                                    \
  f(cuEventRecord, (CUevent, CUstream))                                                         \
  f(cuEventSynchronize, (CUevent))                                                              \
  f(cuEventElapsedTime, (float*, CUevent, CUevent))                                             \
  f(cuModuleLoadDataEx, (CUmodule*, const void*, unsigned int, CUjit_option*, void**))          \
  f(cuModuleUnload, (CUmodule))                                                                 \
  f(cuModuleGetFunction, (CUfunction*, CUmodule, const char*))                                  \
  f(cuFuncGetAttribute, (int*, CUfunction_attribute, CUfunction))                               \
  f(cuFuncSetAttribute, (CUfunction, CUfunction_attribute, int))                                \
  f(cuLaunchKernel, (CUfunction, unsigned int, unsigned int, unsigned int, unsigned int,        \
                     unsigned int, unsigned int, unsigned int, CUstream, void**, void**))       \
  f(cuGraphCreate, (CUgraph*, unsigned int))                                                    \
  f(cuGraphAddKernelNode_v2, (CUgraphNode*, CUgraph, const CUgraphNode*, size_t,                \
                              const CUDA_KERNEL_NODE_PARAMS*))                                  \
  f(cuGraphInstantiateWithFlags, (CUgraphExec*, CUgraph, unsigned long long))                   \
  f(cuGraphExecKernelNodeSetParams_v2, (CUgraphExec, CUgraphNode,                               \
                                        const CUDA_KERNEL_NODE_PARAMS*))                        \
  f(cuGraphLaunch, (CUgraphExec, CUstream))                                                     \
  f(cuGraphDestroy, (CUgraph))                                                                  \
  f(cuGraphExecDestroy, (CUgraphExec))

struct Functions {
#define HANDGLASS_CUDA_MEMBER(name, parameters) CUresult(*name) parameters = nullptr;
  HANDGLASS_CUDA_FUNCTIONS(HANDGLASS_CUDA_MEMBER)
#undef HANDGLASS_CUDA_MEMBER
};

}  // namespace cuda
}  // namespace handglass
