// "handglass.vulkan.devices" and "handglass.vulkan.statistics": JSON for device selection.
#include <tvm/ffi/function.h>
#include <tvm/ffi/reflection/registry.h>
#include <tvm/ffi/string.h>

#include <mutex>

#include "device.h"
#include "errors.h"
#include "json.h"
#include "pipeline.h"
#include "recorder.h"
#include "registry.h"
#include "subgroup.h"
#include "uuid.h"

namespace handglass {
namespace vulkan {
namespace {

namespace ffi = tvm::ffi;

void AddIdentity(const PhysicalDevice& device, Json* json) {
  const VkPhysicalDeviceProperties& properties = device.properties;
  json->Field("name", device.name)
      .Field("device_type", NameOfType(properties.deviceType))
      .Field("vendor_id", properties.vendorID)
      .Field("device_id", properties.deviceID)
      .Field("driver_id", static_cast<uint32_t>(device.driver.driverID))
      .Field("driver_name", device.driver.driverName)
      .Field("driver_info", device.driver.driverInfo)
      .Field("driver_version", properties.driverVersion)
      .Field("api_version", VersionText(properties.apiVersion))
      .Field("usable_api_version", VersionText(device.api_version))
      .Field("uuid", UuidText(device.id.deviceUUID))
      .Field("driver_uuid", UuidText(device.id.driverUUID));
}

void AddLimits(const PhysicalDevice& device, Json* json) {
  const VkPhysicalDeviceLimits& limits = device.limits();
  json->Key("limits")
      .Open('{')
      .Field("max_storage_buffer_range", limits.maxStorageBufferRange)
      .Field("max_uniform_buffer_range", limits.maxUniformBufferRange)
      .Field("max_allocation", device.maintenance3.maxMemoryAllocationSize)
      .Field("max_shared_memory", limits.maxComputeSharedMemorySize)
      .Field("max_workgroup_invocations", limits.maxComputeWorkGroupInvocations)
      .List("max_workgroup_size", limits.maxComputeWorkGroupSize, 3)
      .List("max_workgroup_count", limits.maxComputeWorkGroupCount, 3)
      .Field("max_push_constants_size", limits.maxPushConstantsSize)
      .Field("max_storage_buffers", limits.maxPerStageDescriptorStorageBuffers)
      .Field("min_storage_buffer_offset_alignment", limits.minStorageBufferOffsetAlignment)
      .Field("timestamp_period", limits.timestampPeriod)
      .Field("timestamp_valid_bits", device.timestamp_bits)
      .Close('}');
}

void AddSubgroup(const PhysicalDevice& device, Json* json) {
  const SubgroupSizes sizes = SizesOf(device);
  json->Key("subgroup")
      .Open('{')
      .Field("size", device.subgroup.subgroupSize)
      .Field("min_size", sizes.least)
      .Field("max_size", sizes.most)
      .Field("supported_operations", device.subgroup.supportedOperations)
      .Field("supported_stages", device.subgroup.supportedStages)
      .Field("choosable", sizes.choosable)
      .Field("in_compute",
             (device.subgroup.supportedStages & VK_SHADER_STAGE_COMPUTE_BIT) != 0)
      .Close('}');
}

void AddMatrices(const PhysicalDevice& device, Json* json) {
  json->Key("cooperative_matrices").Open('[');
  for (const VkCooperativeMatrixPropertiesKHR& each : device.matrices) {
    json->Open('{')
        .Field("m", each.MSize)
        .Field("n", each.NSize)
        .Field("k", each.KSize)
        .Field("a", static_cast<uint32_t>(each.AType))
        .Field("b", static_cast<uint32_t>(each.BType))
        .Field("c", static_cast<uint32_t>(each.CType))
        .Field("result", static_cast<uint32_t>(each.ResultType))
        .Field("saturating", each.saturatingAccumulation != 0)
        .Field("scope", static_cast<uint32_t>(each.scope))
        .Close('}');
  }
  json->Close(']');
}

/* Unified: all device-local memory is host-visible. */
void AddMemory(const PhysicalDevice& device, Json* json) {
  const VkPhysicalDeviceMemoryProperties& memory = device.memory;
  bool local_only = false;
  json->Key("heaps").Open('[');
  for (uint32_t i = 0; i < memory.memoryHeapCount; ++i) {
    const bool local = memory.memoryHeaps[i].flags & VK_MEMORY_HEAP_DEVICE_LOCAL_BIT;
    bool visible = false;
    for (uint32_t j = 0; j < memory.memoryTypeCount; ++j) {
      visible |= memory.memoryTypes[j].heapIndex == i &&
                 (memory.memoryTypes[j].propertyFlags & VK_MEMORY_PROPERTY_HOST_VISIBLE_BIT);
    }
    local_only |= local && !visible;
    json->Open('{')
        .Field("bytes", memory.memoryHeaps[i].size)
        .Field("device_local", local)
        .Field("host_visible", visible)
        .Close('}');
  }
  json->Close(']').Field("unified_memory",
                         !local_only && device.properties.deviceType !=
                                            VK_PHYSICAL_DEVICE_TYPE_DISCRETE_GPU);
}

void AddDevices(const std::vector<PhysicalDevice>& devices, Json* json) {
  json->Key("devices").Open('[');
  for (const PhysicalDevice& device : devices) {
    json->Open('{');
    AddIdentity(device, json);
    AddLimits(device, json);
    AddSubgroup(device, json);
    json->Key("features").Open('{');
    for (const auto& [name, has] : device.features->List()) json->Field(name, has);
    json->Field("integerDotProduct4x8BitPackedSignedAccelerated",
               device.dot_product.integerDotProduct4x8BitPackedSignedAccelerated != 0);
    json->Close('}');
    AddMatrices(device, json);
    AddMemory(device, json);
    json->Close('}');
  }
  json->Close(']');
}

/* {"devices": [...], "problem": why there are none, or ""}. Throws on an invalid setting. */
std::string Devices() {
  const Registry& registry = Registry::Get();
  Json json;
  json.Open('{');
  AddDevices(registry.physical(), &json);
  return json.Field("problem", registry.problem()).Close('}').Text();
}

/* Counts since the device was opened; opens it if necessary. */
std::string Statistics(int64_t index) {
  Device& device = Registry::Get().Open(static_cast<int>(index));
  std::lock_guard<std::mutex> lock(device.mutex);
  const MemoryStatistics& memory = device.memory->statistics();
  const RecorderStatistics& recorder = device.recorder->statistics();
  return Json()
      .Open('{')
      .Field("device", device.Title())
      .Field("live_buffers", memory.live_buffers)
      .Field("live_bytes", memory.live_bytes)
      .Field("peak_bytes", memory.peak_bytes)
      .Field("allocations", memory.allocations)
      .Field("blocks", memory.blocks)
      .Field("block_bytes", memory.block_bytes)
      .Field("mapped", device.memory->mapped())
      .Field("launches", recorder.launches)
      .Field("submits", recorder.submits)
      .Field("barriers", recorder.barriers)
      .Field("waits", recorder.waits)
      .Field("staged_bytes", recorder.staged_bytes)
      .Field("host_chunks", device.recorder->host_chunks())
      .Field("descriptor_pools", device.recorder->descriptor_pools())
      .Field("pipelines", LivePipelines())
      .Field("lost", device.lost())
      .Close('}')
      .Text();
}

}  // namespace

TVM_FFI_STATIC_INIT_BLOCK() {
  tvm::ffi::reflection::GlobalDef()
      .def("handglass.vulkan.devices", [] { return ffi::String(Devices()); })
      .def("handglass.vulkan.statistics",
           [](int64_t index) { return ffi::String(Statistics(index)); });
}

}  // namespace vulkan
}  // namespace handglass
