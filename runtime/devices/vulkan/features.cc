#include "features.h"

#include <algorithm>

#include "errors.h"

namespace handglass {
namespace vulkan {
namespace {

/* A feature structure, its extension, and the version that adopted it. */
struct Origin {
  void* structure;
  const char* extension;
  uint32_t core_since;
};

constexpr uint32_t kNever = UINT32_MAX;

}  // namespace

Features::Features(const Instance& instance, VkPhysicalDevice device, uint32_t api_version) {
  ReadExtensions(instance, device);
  const Origin origins[] = {
      {&storage16, "VK_KHR_16bit_storage", VK_API_VERSION_1_1},
      {&storage8, "VK_KHR_8bit_storage", VK_API_VERSION_1_2},
      {&float16_int8, "VK_KHR_shader_float16_int8", VK_API_VERSION_1_2},
      {&subgroup_types, "VK_KHR_shader_subgroup_extended_types", VK_API_VERSION_1_2},
      {&memory_model, "VK_KHR_vulkan_memory_model", VK_API_VERSION_1_2},
      {&uniform_layout, "VK_KHR_uniform_buffer_standard_layout", VK_API_VERSION_1_2},
      {&scalar_layout, "VK_EXT_scalar_block_layout", VK_API_VERSION_1_2},
      {&dot_product, "VK_KHR_shader_integer_dot_product", VK_API_VERSION_1_3},
      {&subgroup_size, "VK_EXT_subgroup_size_control", VK_API_VERSION_1_3},
      {&maintenance4, "VK_KHR_maintenance4", VK_API_VERSION_1_3},
      {&cooperative_matrix, VK_KHR_COOPERATIVE_MATRIX_EXTENSION_NAME, kNever},
  };
  for (const Origin& origin : origins) {
    const bool offered = Has(origin.extension);
    if (!offered && api_version < origin.core_since) continue;
    if (offered) wanted_.push_back(origin.extension);
    auto* node = static_cast<VkBaseOutStructure*>(origin.structure);
    node->pNext = static_cast<VkBaseOutStructure*>(core_.pNext);
    core_.pNext = node;
  }
  // the first two are required by others; the last is mandatory if offered
  for (const char* extension :
       {"VK_KHR_storage_buffer_storage_class", "VK_KHR_shader_float_controls", "VK_KHR_spirv_1_4",
        "VK_KHR_push_descriptor", "VK_KHR_driver_properties", "VK_KHR_portability_subset"}) {
    if (Has(extension)) wanted_.push_back(extension);
  }
  instance.functions.vkGetPhysicalDeviceFeatures2(device, &core_);
  KeepWanted();
}

/* Of the Vulkan 1.0 features only the types: the bounds checks of robustBufferAccess cost time. */
void Features::KeepWanted() {
  const VkPhysicalDeviceFeatures found = core_.features;
  core_.features = {};
  core_.features.shaderInt16 = found.shaderInt16;
  core_.features.shaderInt64 = found.shaderInt64;
  core_.features.shaderFloat64 = found.shaderFloat64;
  cooperative_matrix.cooperativeMatrixRobustBufferAccess = VK_FALSE;
}

void Features::ReadExtensions(const Instance& instance, VkPhysicalDevice device) {
  const auto enumerate = instance.functions.vkEnumerateDeviceExtensionProperties;
  uint32_t count = 0;
  Check(enumerate(device, nullptr, &count, nullptr), "vkEnumerateDeviceExtensionProperties");
  std::vector<VkExtensionProperties> properties(count);
  Check(enumerate(device, nullptr, &count, properties.data()),
        "vkEnumerateDeviceExtensionProperties");
  for (const VkExtensionProperties& each : properties) extensions_.push_back(each.extensionName);
}

bool Features::Has(const char* extension) const {
  return std::find(extensions_.begin(), extensions_.end(), extension) != extensions_.end();
}

std::vector<const char*> Features::Extensions() const { return wanted_; }

std::vector<std::pair<const char*, bool>> Features::List() const {
  return {
      {"shaderFloat16", float16_int8.shaderFloat16},
      {"shaderFloat64", core_.features.shaderFloat64},
      {"shaderInt8", float16_int8.shaderInt8},
      {"shaderInt16", core_.features.shaderInt16},
      {"shaderInt64", core_.features.shaderInt64},
      {"storageBuffer8BitAccess", storage8.storageBuffer8BitAccess},
      {"uniformAndStorageBuffer8BitAccess", storage8.uniformAndStorageBuffer8BitAccess},
      {"storageBuffer16BitAccess", storage16.storageBuffer16BitAccess},
      {"uniformAndStorageBuffer16BitAccess", storage16.uniformAndStorageBuffer16BitAccess},
      {"shaderIntegerDotProduct", dot_product.shaderIntegerDotProduct},
      {"subgroupSizeControl", subgroup_size.subgroupSizeControl},
      {"computeFullSubgroups", subgroup_size.computeFullSubgroups},
      {"shaderSubgroupExtendedTypes", subgroup_types.shaderSubgroupExtendedTypes},
      {"vulkanMemoryModel", memory_model.vulkanMemoryModel},
      {"vulkanMemoryModelDeviceScope", memory_model.vulkanMemoryModelDeviceScope},
      {"uniformBufferStandardLayout", uniform_layout.uniformBufferStandardLayout},
      {"scalarBlockLayout", scalar_layout.scalarBlockLayout},
      {"maintenance4", maintenance4.maintenance4},
      {"cooperativeMatrix", cooperative_matrix.cooperativeMatrix},
      {"pushDescriptor", Has("VK_KHR_push_descriptor")},
  };
}

}  // namespace vulkan
}  // namespace handglass
