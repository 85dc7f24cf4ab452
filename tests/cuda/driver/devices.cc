// The driver, its devices and their contexts.
#include <cstdio>
#include <cstring>

#include "machine.h"

namespace emulated {
namespace {

thread_local std::vector<Device*> contexts;

Device* DeviceOf(CUdevice number) {
  for (Device& device : TheMachine().devices) {
    if (device.number == number) return &device;
  }
  return nullptr;
}

struct Shared {
  int capability;
  int optin;  // bytes that a block can ask for
};

constexpr Shared kShared[] = {{75, 65536},   {80, 166912},  {86, 101376}, {87, 166912},
                              {89, 101376},  {90, 232448},  {100, 232448}, {101, 232448},
                              {110, 232448}, {120, 101376}};

int SharedOptin(int capability) {
  for (const Shared& each : kShared) {
    if (each.capability == capability) return each.optin;
  }
  return 49152;
}

int Attribute(const Device& device, CUdevice_attribute attribute) {
  switch (attribute) {
    case CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR:
      return device.capability / 10;
    case CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR:
      return device.capability % 10;
    case CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_BLOCK:
    case CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_X:
    case CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_Y:
      return 1024;
    case CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_Z:
      return 64;
    case CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_X:
      return 0x7fffffff;
    case CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_Y:
    case CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_Z:
      return 65535;
    case CU_DEVICE_ATTRIBUTE_WARP_SIZE:
      return 32;
    case CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK:
      return 49152;
    case CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN:
      return SharedOptin(device.capability);
    case CU_DEVICE_ATTRIBUTE_MAX_REGISTERS_PER_BLOCK:
    case CU_DEVICE_ATTRIBUTE_MAX_REGISTERS_PER_MULTIPROCESSOR:
      return 65536;
    case CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT:
      return 8;
    case CU_DEVICE_ATTRIBUTE_INTEGRATED:
      return TheMachine().settings.integrated;
    case CU_DEVICE_ATTRIBUTE_MANAGED_MEMORY:
      return 1;
    default:
      return 0;
  }
}

}  // namespace

Device* CurrentDevice() { return contexts.empty() ? nullptr : contexts.back(); }

}  // namespace emulated

using namespace emulated;

EMULATED cuInit(unsigned int) {
  const Guard guard(Lock());
  const auto result = static_cast<CUresult>(TheMachine().settings.init_result);
  TheMachine().started = result == CUDA_SUCCESS;
  return result;
}

EMULATED cuDriverGetVersion(int* version) {
  *version = TheMachine().settings.version;
  return CUDA_SUCCESS;
}

EMULATED cuGetErrorName(CUresult result, const char** name) {
  switch (result) {
#define NAME(each) \
  case each:       \
    *name = #each; \
    return CUDA_SUCCESS;
    NAME(CUDA_ERROR_INVALID_VALUE)
    NAME(CUDA_ERROR_OUT_OF_MEMORY)
    NAME(CUDA_ERROR_NOT_INITIALIZED)
    NAME(CUDA_ERROR_SYSTEM_DRIVER_MISMATCH)
    NAME(CUDA_ERROR_DEVICE_UNAVAILABLE)
    NAME(CUDA_ERROR_INVALID_CONTEXT)
    NAME(CUDA_ERROR_NO_BINARY_FOR_GPU)
    NAME(CUDA_ERROR_INVALID_PTX)
    NAME(CUDA_ERROR_UNSUPPORTED_PTX_VERSION)
    NAME(CUDA_ERROR_NOT_FOUND)
    NAME(CUDA_ERROR_ILLEGAL_ADDRESS)
    NAME(CUDA_ERROR_LAUNCH_FAILED)
#undef NAME
    default:
      return CUDA_ERROR_INVALID_VALUE;
  }
}

EMULATED cuDeviceGetCount(int* count) {
  if (!TheMachine().started) return CUDA_ERROR_NOT_INITIALIZED;
  *count = static_cast<int>(TheMachine().devices.size());
  return CUDA_SUCCESS;
}

EMULATED cuDeviceGet(CUdevice* device, int number) {
  *device = number;
  return DeviceOf(number) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_DEVICE;
}

EMULATED cuDeviceGetName(char* name, int size, CUdevice number) {
  std::snprintf(name, static_cast<size_t>(size), "Emulated sm_%d",
                DeviceOf(number)->capability);
  return CUDA_SUCCESS;
}

EMULATED cuDeviceGetUuid_v2(CUuuid* uuid, CUdevice number) {
  std::memset(uuid, 0, sizeof *uuid);
  uuid->bytes[15] = static_cast<char>(number + 1);
  return CUDA_SUCCESS;
}

EMULATED cuDeviceTotalMem(size_t* bytes, CUdevice) {
  *bytes = TheMachine().settings.memory;
  return CUDA_SUCCESS;
}

EMULATED cuDeviceGetAttribute(int* value, CUdevice_attribute attribute, CUdevice number) {
  *value = Attribute(*DeviceOf(number), attribute);
  return CUDA_SUCCESS;
}

EMULATED cuDevicePrimaryCtxRetain(CUcontext* context, CUdevice number) {
  if (!TheMachine().started) return CUDA_ERROR_NOT_INITIALIZED;
  *context = reinterpret_cast<CUcontext>(DeviceOf(number));
  return CUDA_SUCCESS;
}

EMULATED cuCtxPushCurrent(CUcontext context) {
  contexts.push_back(reinterpret_cast<Device*>(context));
  return CUDA_SUCCESS;
}

EMULATED cuCtxPopCurrent(CUcontext* context) {
  if (contexts.empty()) return CUDA_ERROR_INVALID_CONTEXT;
  *context = reinterpret_cast<CUcontext>(contexts.back());
  contexts.pop_back();
  return CUDA_SUCCESS;
}
