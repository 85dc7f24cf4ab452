#include "physical.h"

#include <algorithm>
#include <optional>

#include "errors.h"
#include "first_device.h"

namespace handglass {
namespace vulkan {
namespace {

/* Prefers a family without graphics, which is not shared with the display. */
std::optional<uint32_t> ComputeFamily(const std::vector<VkQueueFamilyProperties>& families) {
  std::optional<uint32_t> found;
  for (uint32_t i = 0; i < families.size(); ++i) {
    const VkQueueFlags flags = families[i].queueFlags;
    if (!(flags & VK_QUEUE_COMPUTE_BIT) || families[i].queueCount == 0) continue;
    if (!(flags & VK_QUEUE_GRAPHICS_BIT)) return i;
    if (!found) found = i;
  }
  return found;
}

bool FindQueue(const Instance& instance, PhysicalDevice* device) {
  const auto ask = instance.functions.vkGetPhysicalDeviceQueueFamilyProperties;
  uint32_t count = 0;
  ask(device->handle, &count, nullptr);
  std::vector<VkQueueFamilyProperties> families(count);
  ask(device->handle, &count, families.data());
  const std::optional<uint32_t> family = ComputeFamily(families);
  if (!family) return false;
  device->queue_family = *family;
  device->timestamp_bits = families[*family].timestampValidBits;
  return true;
}

template <typename Structure>
void Chain(VkPhysicalDeviceProperties2* root, Structure* structure) {
  structure->pNext = root->pNext;
  root->pNext = structure;
}

void ReadProperties(const Instance& instance, PhysicalDevice* device) {
  VkPhysicalDeviceProperties2 root{VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_PROPERTIES_2};
  const Features& features = *device->features;
  const uint32_t version = device->api_version;
  Chain(&root, &device->id);
  Chain(&root, &device->maintenance3);
  Chain(&root, &device->subgroup);
  if (version >= VK_API_VERSION_1_2 || features.Has("VK_KHR_driver_properties")) {
    Chain(&root, &device->driver);
  }
  if (version >= VK_API_VERSION_1_3 || features.Has("VK_EXT_subgroup_size_control")) {
    Chain(&root, &device->subgroup_size);
  }
  if (version >= VK_API_VERSION_1_3 || features.Has("VK_KHR_shader_integer_dot_product")) {
    Chain(&root, &device->dot_product);
  }
  if (features.Has("VK_KHR_push_descriptor")) Chain(&root, &device->push_descriptor);
  instance.functions.vkGetPhysicalDeviceProperties2(device->handle, &root);
  device->properties = root.properties;
  device->name = root.properties.deviceName;
  instance.functions.vkGetPhysicalDeviceMemoryProperties(device->handle, &device->memory);
}

void ReadMatrices(const Instance& instance, PhysicalDevice* device) {
  const auto ask = instance.functions.vkGetPhysicalDeviceCooperativeMatrixPropertiesKHR;
  if (!ask || !device->features->cooperative_matrix.cooperativeMatrix) return;
  uint32_t count = 0;
  if (ask(device->handle, &count, nullptr) < 0) return;
  VkCooperativeMatrixPropertiesKHR empty{};
  empty.sType = VK_STRUCTURE_TYPE_COOPERATIVE_MATRIX_PROPERTIES_KHR;
  device->matrices.assign(count, empty);
  if (ask(device->handle, &count, device->matrices.data()) < 0) count = 0;
  device->matrices.resize(count);
}

std::optional<PhysicalDevice> Describe(const Instance& instance, VkPhysicalDevice handle) {
  PhysicalDevice device;
  device.handle = handle;
  instance.functions.vkGetPhysicalDeviceProperties(handle, &device.properties);
  device.api_version = std::min(device.properties.apiVersion, instance.api_version);
  if (device.api_version < VK_API_VERSION_1_1 || !FindQueue(instance, &device)) return {};
  device.features = std::make_unique<Features>(instance, handle, device.api_version);
  ReadProperties(instance, &device);
  ReadMatrices(instance, &device);
  return device;
}

int Rank(const PhysicalDevice& device) {
  switch (device.properties.deviceType) {
    case VK_PHYSICAL_DEVICE_TYPE_DISCRETE_GPU:
      return 0;
    case VK_PHYSICAL_DEVICE_TYPE_INTEGRATED_GPU:
      return 1;
    case VK_PHYSICAL_DEVICE_TYPE_VIRTUAL_GPU:
      return 2;
    case VK_PHYSICAL_DEVICE_TYPE_CPU:
      return 3;
    default:
      return 4;
  }
}

}  // namespace

const char* NameOfType(VkPhysicalDeviceType type) {
  switch (type) {
    case VK_PHYSICAL_DEVICE_TYPE_DISCRETE_GPU:
      return "discrete";
    case VK_PHYSICAL_DEVICE_TYPE_INTEGRATED_GPU:
      return "integrated";
    case VK_PHYSICAL_DEVICE_TYPE_VIRTUAL_GPU:
      return "virtual";
    case VK_PHYSICAL_DEVICE_TYPE_CPU:
      return "cpu";
    default:
      return "other";
  }
}

std::string VersionText(uint32_t version) {
  return Words(VK_API_VERSION_MAJOR(version), ".", VK_API_VERSION_MINOR(version), ".",
               VK_API_VERSION_PATCH(version));
}

uint32_t NewestSpirv(const PhysicalDevice& device) {
  if (device.api_version >= VK_API_VERSION_1_3) return 0x00010600;
  if (device.api_version >= VK_API_VERSION_1_2) return 0x00010500;
  return device.features->Has("VK_KHR_spirv_1_4") ? 0x00010400 : 0x00010300;
}

std::vector<PhysicalDevice> FindDevices(const Instance& instance, const Settings& settings) {
  const auto enumerate = instance.functions.vkEnumeratePhysicalDevices;
  uint32_t count = 0;
  const VkResult result = enumerate(instance.handle, &count, nullptr);
  // the loader's code for "drivers exist, but none starts"
  if (result == VK_ERROR_INITIALIZATION_FAILED) count = 0;
  if (result != VK_ERROR_INITIALIZATION_FAILED) Check(result, "vkEnumeratePhysicalDevices");
  std::vector<VkPhysicalDevice> handles(count);
  if (count) Check(enumerate(instance.handle, &count, handles.data()), "vkEnumeratePhysicalDevices");
  std::vector<PhysicalDevice> devices;
  for (VkPhysicalDevice handle : handles) {
    if (auto device = Describe(instance, handle)) devices.push_back(std::move(*device));
  }
  std::stable_sort(devices.begin(), devices.end(),
                   [](const auto& a, const auto& b) { return Rank(a) < Rank(b); });
  MoveNamedToFront(&devices, settings.device, "HANDGLASS_VULKAN_DEVICE");
  return devices;
}

}  // namespace vulkan
}  // namespace handglass
