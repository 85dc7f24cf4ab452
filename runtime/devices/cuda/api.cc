#include "device_api.h"

#include "registry.h"
#include "transfer.h"

namespace handglass {
namespace cuda {
namespace {

namespace ffi = tvm::ffi;

class Api final : public PluginDeviceApi<Source, Device, kDLCUDA> {
 public:
  void GetAttr(tvm::Device device, tvm::runtime::DeviceAttrKind kind, ffi::Any* result) final {
    if (kind == tvm::runtime::kExist) {
      Registry* registry = Registry::Find();
      const bool known = registry && device.device_id >= 0 && device.device_id < registry->size();
      *result = static_cast<int64_t>(known);
      return;
    }
    const Registry& registry = Registry::Get();
    Answer(registry.Physical(device.device_id), registry.driver(), kind, result);
  }

  bool SupportsDevicePointerArithmeticsOnHost() final { return true; }

 private:
  static void Answer(const PhysicalDevice& has, const Driver& driver,
                     tvm::runtime::DeviceAttrKind kind, ffi::Any* result) {
    const int* block = has.max_block;
    switch (kind) {
      case tvm::runtime::kMaxThreadsPerBlock:
        *result = int64_t{has.max_threads_per_block};
        break;
      case tvm::runtime::kWarpSize:
        *result = int64_t{has.warp_size};
        break;
      case tvm::runtime::kMaxSharedMemoryPerBlock:
        *result = int64_t{has.shared_per_block};
        break;
      case tvm::runtime::kComputeVersion:
        *result = ffi::String(Words(has.capability / 10, ".", has.capability % 10));
        break;
      case tvm::runtime::kDeviceName:
        *result = ffi::String(has.name);
        break;
      case tvm::runtime::kMaxClockRate:
        *result = int64_t{has.clock_khz};
        break;
      case tvm::runtime::kMultiProcessorCount:
        *result = int64_t{has.multiprocessors};
        break;
      case tvm::runtime::kMaxThreadDimensions:
        *result = ffi::String(Words("[", block[0], ", ", block[1], ", ", block[2], "]"));
        break;
      case tvm::runtime::kMaxRegistersPerBlock:
        *result = int64_t{has.registers_per_block};
        break;
      case tvm::runtime::kApiVersion:
      case tvm::runtime::kDriverVersion:
        *result = int64_t{driver.version};
        break;
      case tvm::runtime::kL2CacheSizeBytes:
        *result = int64_t{has.l2};
        break;
      case tvm::runtime::kTotalGlobalMemory:
        *result = static_cast<int64_t>(has.memory);
        break;
      default:  // not reported by CUDA: None
        break;
    }
  }
};

}  // namespace

TVM_FFI_STATIC_INIT_BLOCK() { DefineDeviceApi<Api, Source>(); }

}  // namespace cuda
}  // namespace handglass
