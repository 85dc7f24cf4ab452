// Entry points of libvulkan, resolved at run time: global, per instance, per device.
#pragma once

#include <string>

#include "headers.h"

namespace handglass {
namespace vulkan {

#define HANDGLASS_VULKAN_INSTANCE_FUNCTIONS(f) \
  f(vkEnumeratePhysicalDevices)                \
  f(vkGetPhysicalDeviceProperties)             \
  f(vkGetPhysicalDeviceProperties2)            \
  f(vkGetPhysicalDeviceFeatures2)              \
  f(vkGetPhysicalDeviceMemoryProperties)       \
  f(vkGetPhysicalDeviceQueueFamilyProperties)  \
  f(vkEnumerateDeviceExtensionProperties)      \
  f(vkCreateDevice)                            \
  f(vkGetDeviceProcAddr)

#define HANDGLASS_VULKAN_DEVICE_FUNCTIONS(f) \
  f(vkDestroyDevice)                         \
  f(vkGetDeviceQueue)                        \
  f(vkDeviceWaitIdle)                        \
  f(vkQueueSubmit)                           \
  f(vkAllocateMemory)                        \
  f(vkFreeMemory)                            \
  f(vkMapMemory)                             \
  f(vkCreateBuffer)                          \
  f(vkDestroyBuffer)                         \
  f(vkGetBufferMemoryRequirements)           \
  f(vkBindBufferMemory)                      \
  f(vkCreateFence)                           \
  f(vkResetFences)                           \
  f(vkWaitForFences)                         \
  f(vkCreateCommandPool)                     \
  f(vkResetCommandPool)                      \
  f(vkAllocateCommandBuffers)                \
  f(vkBeginCommandBuffer)                    \
  f(vkEndCommandBuffer)                      \
  f(vkCmdBindPipeline)                       \
  f(vkCmdBindDescriptorSets)                 \
  f(vkCmdPushConstants)                      \
  f(vkCmdDispatch)                           \
  f(vkCmdCopyBuffer)                         \
  f(vkCmdPipelineBarrier)                    \
  f(vkCmdResetQueryPool)                     \
  f(vkCmdWriteTimestamp)                     \
  f(vkCreateQueryPool)                       \
  f(vkGetQueryPoolResults)                   \
  f(vkCreateDescriptorSetLayout)             \
  f(vkDestroyDescriptorSetLayout)            \
  f(vkCreateDescriptorPool)                  \
  f(vkResetDescriptorPool)                   \
  f(vkAllocateDescriptorSets)                \
  f(vkUpdateDescriptorSets)                  \
  f(vkCreatePipelineLayout)                  \
  f(vkDestroyPipelineLayout)                 \
  f(vkCreatePipelineCache)                   \
  f(vkDestroyPipelineCache)                  \
  f(vkGetPipelineCacheData)                  \
  f(vkCreateShaderModule)                    \
  f(vkDestroyShaderModule)                   \
  f(vkCreateComputePipelines)                \
  f(vkDestroyPipeline)

#define HANDGLASS_VULKAN_MEMBER(name) PFN_##name name = nullptr;

/* An instance and its entry points. */
struct InstanceFunctions {
  HANDGLASS_VULKAN_INSTANCE_FUNCTIONS(HANDGLASS_VULKAN_MEMBER)
  // device extension, resolved through the instance; null if no driver has it
  PFN_vkGetPhysicalDeviceCooperativeMatrixPropertiesKHR
      vkGetPhysicalDeviceCooperativeMatrixPropertiesKHR = nullptr;
};

/* Entry points of one device, which call its driver directly. */
struct DeviceFunctions {
  HANDGLASS_VULKAN_DEVICE_FUNCTIONS(HANDGLASS_VULKAN_MEMBER)
  PFN_vkCmdPushDescriptorSetKHR vkCmdPushDescriptorSetKHR = nullptr;  // optional
};

#undef HANDGLASS_VULKAN_MEMBER

struct Instance {
  VkInstance handle = VK_NULL_HANDLE;
  uint32_t api_version = 0;
  InstanceFunctions functions;
};

/* States why this machine has no Vulkan. Internal: the registry catches it. */
struct Absent {
  std::string words;
};

/* Opens libvulkan and creates an instance. Throws Absent without libvulkan or a driver. */
Instance MakeInstance();

DeviceFunctions LoadDevice(const Instance& instance, VkDevice device);

}  // namespace vulkan
}  // namespace handglass
