// The physical devices of this machine and their properties, in the order of vulkan:N.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "features.h"
#include "loader.h"
#include "settings.h"

namespace handglass {
namespace vulkan {

/* Constant properties reported by the driver. */
struct PhysicalDevice {
  VkPhysicalDevice handle = VK_NULL_HANDLE;
  uint32_t api_version = 0;  // the lower of the loader's and the device's
  std::string name;
  VkPhysicalDeviceProperties properties{};
  VkPhysicalDeviceIDProperties id{VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_ID_PROPERTIES};
  VkPhysicalDeviceMaintenance3Properties maintenance3{
      VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_MAINTENANCE_3_PROPERTIES};
  VkPhysicalDeviceSubgroupProperties subgroup{
      VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_SUBGROUP_PROPERTIES};
  VkPhysicalDeviceSubgroupSizeControlProperties subgroup_size{
      VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_SUBGROUP_SIZE_CONTROL_PROPERTIES};
  VkPhysicalDeviceShaderIntegerDotProductProperties dot_product{
      VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_SHADER_INTEGER_DOT_PRODUCT_PROPERTIES};
  VkPhysicalDevicePushDescriptorPropertiesKHR push_descriptor{
      VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_PUSH_DESCRIPTOR_PROPERTIES_KHR};
  VkPhysicalDeviceDriverProperties driver{VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_DRIVER_PROPERTIES};
  VkPhysicalDeviceMemoryProperties memory{};
  std::vector<VkCooperativeMatrixPropertiesKHR> matrices;
  std::unique_ptr<Features> features;
  uint32_t queue_family = 0;
  uint32_t timestamp_bits = 0;

  const VkPhysicalDeviceLimits& limits() const { return properties.limits; }
};

const char* NameOfType(VkPhysicalDeviceType type);
/* "1.3.0" */
std::string VersionText(uint32_t version);
/* Version word of the newest SPIR-V that the device accepts: 0x00010300 is 1.3. */
uint32_t NewestSpirv(const PhysicalDevice& device);

/* All devices with compute and Vulkan 1.1: discrete first, then integrated, virtual and CPU; the
 * one that HANDGLASS_VULKAN_DEVICE names comes first. Throws if it names none of them. */
std::vector<PhysicalDevice> FindDevices(const Instance& instance, const Settings& settings);

}  // namespace vulkan
}  // namespace handglass
