#include "device_api.h"

#include <tvm/ffi/function.h>

#include <algorithm>

#include "api.h"
#include "errors.h"
#include "registry.h"
#include "transfer.h"

namespace handglass {
namespace vulkan {
namespace {

namespace ffi = tvm::ffi;

class Api final : public PluginDeviceApi<Source, Device, kDLVulkan> {
 public:
  void GetAttr(tvm::Device device, tvm::runtime::DeviceAttrKind kind, ffi::Any* result) final {
    if (kind == tvm::runtime::kExist) {
      Registry* registry = Registry::Find();
      const bool known = registry && device.device_id >= 0 && device.device_id < registry->size();
      *result = static_cast<int64_t>(known);
      return;
    }
    Answer(Registry::Get().Physical(device.device_id), kind, result);
  }

  // an address is a number; a view may begin inside a tensor if the device can bind it there
  bool SupportsDevicePointerArithmeticsOnHost() final {
    const Registry* registry = Registry::Find();
    return registry && std::all_of(registry->physical().begin(), registry->physical().end(),
                                   [](const PhysicalDevice& each) {
                                     return each.limits().minStorageBufferOffsetAlignment <=
                                            tvm::runtime::kAllocAlignment;
                                   });
  }

 private:
  static void Answer(const PhysicalDevice& physical, tvm::runtime::DeviceAttrKind kind,
                     ffi::Any* result) {
    const VkPhysicalDeviceLimits& limits = physical.limits();
    switch (kind) {
      case tvm::runtime::kMaxThreadsPerBlock:
        *result = static_cast<int64_t>(limits.maxComputeWorkGroupInvocations);
        break;
      case tvm::runtime::kWarpSize:
        // Not the subgroup size: TVM would drop barriers between the lanes of a "warp", which is
        // right only where lanes run in step, and Vulkan does not promise that.
        *result = int64_t{1};
        break;
      case tvm::runtime::kMaxSharedMemoryPerBlock:
        *result = static_cast<int64_t>(limits.maxComputeSharedMemorySize);
        break;
      case tvm::runtime::kDeviceName:
        *result = ffi::String(physical.name);
        break;
      case tvm::runtime::kMaxThreadDimensions: {
        const auto& size = limits.maxComputeWorkGroupSize;
        *result = ffi::String(Words("[", size[0], ", ", size[1], ", ", size[2], "]"));
        break;
      }
      case tvm::runtime::kComputeVersion:
      case tvm::runtime::kApiVersion:
        *result = static_cast<int64_t>(physical.properties.apiVersion);
        break;
      case tvm::runtime::kDriverVersion:
        *result = static_cast<int64_t>(physical.properties.driverVersion);
        break;
      case tvm::runtime::kTotalGlobalMemory:
        *result = static_cast<int64_t>(TotalMemory(physical));
        break;
      default:  // not reported by Vulkan: None
        break;
    }
  }

  static uint64_t TotalMemory(const PhysicalDevice& physical) {
    uint64_t most = 0;
    for (uint32_t i = 0; i < physical.memory.memoryHeapCount; ++i) {
      const VkMemoryHeap& heap = physical.memory.memoryHeaps[i];
      if (heap.flags & VK_MEMORY_HEAP_DEVICE_LOCAL_BIT) most = std::max<uint64_t>(most, heap.size);
    }
    return most;
  }
};

}  // namespace

Device& ActiveDevice() { return Source::Open(ActiveIndex()); }

TVM_FFI_STATIC_INIT_BLOCK() { DefineDeviceApi<Api, Source>(); }

}  // namespace vulkan
}  // namespace handglass
