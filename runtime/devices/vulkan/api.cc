#include "api.h"

#include <tvm/ffi/function.h>
#include <tvm/ffi/reflection/registry.h>

#include <algorithm>
#include <vector>

#include "errors.h"
#include "forks.h"
#include "pipeline_cache.h"
#include "recorder.h"
#include "registry.h"
#include "transfer.h"

namespace handglass {
namespace vulkan {
namespace {

namespace ffi = tvm::ffi;
using tvm::Device;  // of TVM: a type and an index; ours is vulkan::Device
using Ours = handglass::vulkan::Device;

thread_local int active = 0;

Ours& Open(Device device) { return Registry::Get().Open(device.device_id); }

bool IsVulkan(Device device) { return device.device_type == kDLVulkan; }

uint64_t AddressOf(const void* pointer, size_t offset) {
  return reinterpret_cast<uint64_t>(pointer) + offset;
}

class Api final : public tvm::runtime::DeviceAPI {
 public:
  void SetDevice(Device device) final { active = device.device_id; }

  void GetAttr(Device device, tvm::runtime::DeviceAttrKind kind, ffi::Any* result) final {
    if (kind == tvm::runtime::kExist) {
      Registry* registry = Registry::Find();
      const bool known = registry && device.device_id >= 0 && device.device_id < registry->size();
      *result = static_cast<int64_t>(known);
      return;
    }
    Answer(Registry::Get().Physical(device.device_id), kind, result);
  }

  void* AllocDataSpace(Device device, size_t bytes, size_t, DLDataType) final {
    Ours& ours = Open(device);
    std::lock_guard<std::mutex> lock(ours.mutex);
    return reinterpret_cast<void*>(ours.Allocate(bytes));
  }

  void FreeDataSpace(Device device, void* pointer) final {
    if (IsForked()) return;  // the device belongs to the parent
    Ours& ours = Open(device);
    std::lock_guard<std::mutex> lock(ours.mutex);
    ours.Free(AddressOf(pointer, 0));
  }

  void StreamSync(Device device, TVMStreamHandle) final {
    Ours& ours = Open(device);
    std::lock_guard<std::mutex> lock(ours.mutex);
    ours.CheckAlive();
    ours.recorder->Sync();
    ours.pipelines->Save(false);
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

 protected:
  void CopyDataFromTo(const void* from, size_t from_offset, void* to, size_t to_offset,
                      size_t bytes, Device from_device, Device to_device, DLDataType,
                      TVMStreamHandle) final {
    if (bytes == 0) return;
    if (IsVulkan(from_device) && IsVulkan(to_device)) {
      Between(from_device, AddressOf(from, from_offset), to_device, AddressOf(to, to_offset), bytes);
    } else if (IsVulkan(to_device)) {
      Ours& ours = Open(to_device);
      std::lock_guard<std::mutex> lock(ours.mutex);
      ours.CheckAlive();
      Upload(ours, static_cast<const char*>(from) + from_offset, AddressOf(to, to_offset), bytes);
    } else {
      Ours& ours = Open(from_device);
      std::lock_guard<std::mutex> lock(ours.mutex);
      ours.CheckAlive();
      Download(ours, AddressOf(from, from_offset), static_cast<char*>(to) + to_offset, bytes);
    }
  }

 private:
  /* Two devices share no memory: copy through the host. */
  static void Between(Device from_device, uint64_t from, Device to_device, uint64_t to,
                      size_t bytes) {
    Ours& source = Open(from_device);
    Ours& target = Open(to_device);
    if (&source == &target) {
      std::lock_guard<std::mutex> lock(source.mutex);
      source.CheckAlive();
      CopyWithin(source, from, to, bytes);
      return;
    }
    std::vector<char> host(bytes);
    {
      std::lock_guard<std::mutex> lock(source.mutex);
      source.CheckAlive();
      Download(source, from, host.data(), bytes);
    }
    std::lock_guard<std::mutex> lock(target.mutex);
    target.CheckAlive();
    Upload(target, host.data(), to, bytes);
  }

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

Ours& ActiveDevice() { return Registry::Get().Open(active); }

tvm::runtime::DeviceAPI* GlobalApi() {
  static Api* api = new Api();  // leaked on purpose: tensors are freed while the process exits
  return api;
}

TVM_FFI_STATIC_INIT_BLOCK() {
  tvm::ffi::reflection::GlobalDef().def_packed(
      "device_api.vulkan", [](ffi::PackedArgs, ffi::Any* result) {
        *result = static_cast<void*>(GlobalApi());
      });
}

}  // namespace vulkan
}  // namespace handglass
