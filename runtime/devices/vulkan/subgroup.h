// The subgroup size that a kernel requires, and how it is requested from the driver.
#pragma once

#include <cstdint>

#include "kernel.h"
#include "physical.h"

namespace handglass {
namespace vulkan {

/* The subgroup sizes that a device may choose for a kernel. */
struct SubgroupSizes {
  uint32_t least = 0;
  uint32_t most = 0;
  bool choosable = false;  // a pipeline may request one
};

SubgroupSizes SizesOf(const PhysicalDevice& device);

/* The request in a pipeline's stage; the structure must outlive its creation. */
struct SubgroupRequest {
  VkPipelineShaderStageRequiredSubgroupSizeCreateInfo size{
      VK_STRUCTURE_TYPE_PIPELINE_SHADER_STAGE_REQUIRED_SUBGROUP_SIZE_CREATE_INFO};
  VkPipelineShaderStageCreateFlags flags = 0;
};

/* Size 0: no request is needed. Throws if the device cannot meet the kernel's requirement; names
 * the kernel, the size and the sizes of the device. */
SubgroupRequest RequestFor(const Kernel& kernel, const Device& device);

}  // namespace vulkan
}  // namespace handglass
