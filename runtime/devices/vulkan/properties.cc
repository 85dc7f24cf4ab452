// "device_api.vulkan.get_target_property": the attributes of a TVM target of kind "vulkan".
#include <tvm/ffi/function.h>
#include <tvm/ffi/reflection/registry.h>
#include <tvm/ffi/string.h>
#include <tvm/runtime/device_api.h>

#include <algorithm>
#include <string>
#include <unordered_map>

#include "errors.h"
#include "registry.h"

namespace handglass {
namespace vulkan {
namespace {

namespace ffi = tvm::ffi;

using Property = ffi::Any (*)(const PhysicalDevice&);

ffi::Any Flag(bool value) { return ffi::Any(value); }
ffi::Any Number(uint64_t value) {
  // some drivers report "no limit" as 2^64 - 1
  return ffi::Any(static_cast<int64_t>(std::min<uint64_t>(value, INT64_MAX)));
}
ffi::Any Text(const std::string& value) { return ffi::Any(ffi::String(value)); }

uint32_t SubgroupOperations(const PhysicalDevice& d) {
  const bool compute = d.subgroup.supportedStages & VK_SHADER_STAGE_COMPUTE_BIT;
  return compute ? d.subgroup.supportedOperations : 0;
}

// The names of TVM's target kind.
const std::unordered_map<std::string, Property>& Table() {
  using P = const PhysicalDevice&;
  static const auto* table = new std::unordered_map<std::string, Property>{
      {"supports_float16", [](P d) { return Flag(d.features->float16_int8.shaderFloat16); }},
      {"supports_float32", [](P) { return Flag(true); }},
      {"supports_float64", [](P d) { return Flag(d.features->core_.features.shaderFloat64); }},
      {"supports_int8", [](P d) { return Flag(d.features->float16_int8.shaderInt8); }},
      {"supports_int16", [](P d) { return Flag(d.features->core_.features.shaderInt16); }},
      {"supports_int32", [](P) { return Flag(true); }},
      {"supports_int64", [](P d) { return Flag(d.features->core_.features.shaderInt64); }},
      {"supports_8bit_buffer",
       [](P d) { return Flag(d.features->storage8.storageBuffer8BitAccess); }},
      {"supports_16bit_buffer",
       [](P d) { return Flag(d.features->storage16.storageBuffer16BitAccess); }},
      {"supports_storage_buffer_storage_class", [](P) { return Flag(true); }},
      {"supports_push_descriptor",
       [](P d) { return Flag(d.features->Has("VK_KHR_push_descriptor")); }},
      {"supports_dedicated_allocation", [](P) { return Flag(true); }},
      {"supports_integer_dot_product",
       [](P d) { return Flag(d.features->dot_product.shaderIntegerDotProduct); }},
      {"supports_cooperative_matrix",
       [](P d) { return Flag(d.features->cooperative_matrix.cooperativeMatrix); }},
      {"supported_subgroup_operations", [](P d) { return Number(SubgroupOperations(d)); }},
      {"max_num_threads", [](P d) { return Number(d.limits().maxComputeWorkGroupInvocations); }},
      {"max_threads_per_block",
       [](P d) { return Number(d.limits().maxComputeWorkGroupInvocations); }},
      // one: with more, TVM omits barriers that Vulkan needs
      {"thread_warp_size", [](P) { return Number(1); }},
      {"max_block_size_x", [](P d) { return Number(d.limits().maxComputeWorkGroupSize[0]); }},
      {"max_block_size_y", [](P d) { return Number(d.limits().maxComputeWorkGroupSize[1]); }},
      {"max_block_size_z", [](P d) { return Number(d.limits().maxComputeWorkGroupSize[2]); }},
      {"max_push_constants_size", [](P d) { return Number(d.limits().maxPushConstantsSize); }},
      {"max_uniform_buffer_range", [](P d) { return Number(d.limits().maxUniformBufferRange); }},
      {"max_storage_buffer_range", [](P d) { return Number(d.limits().maxStorageBufferRange); }},
      {"max_per_stage_descriptor_storage_buffer",
       [](P d) { return Number(d.limits().maxPerStageDescriptorStorageBuffers); }},
      {"max_shared_memory_per_block",
       [](P d) { return Number(d.limits().maxComputeSharedMemorySize); }},
      {"device_type", [](P d) { return Text(NameOfType(d.properties.deviceType)); }},
      {"device_name", [](P d) { return Text(d.name); }},
      {"driver_name", [](P d) { return Text(d.driver.driverName); }},
      {"driver_version", [](P d) { return Number(d.properties.driverVersion); }},
      {"vulkan_api_version", [](P d) { return Number(d.api_version); }},
      {"api_version", [](P d) { return Text(VersionText(d.api_version)); }},
      {"max_spirv_version",
       [](P d) {
         return Number(NewestSpirv(d));
       }},
  };
  return *table;
}

/* None for a name that the kind lacks: TVM then keeps its default. */
ffi::Any TargetProperty(tvm::Device device, const ffi::String& name) {
  const PhysicalDevice& physical = Registry::Get().Physical(device.device_id);
  const auto found = Table().find(std::string(name.data(), name.size()));
  return found == Table().end() ? ffi::Any() : found->second(physical);
}

}  // namespace

TVM_FFI_STATIC_INIT_BLOCK() {
  tvm::ffi::reflection::GlobalDef().def("device_api.vulkan.get_target_property", TargetProperty);
}

}  // namespace vulkan
}  // namespace handglass
