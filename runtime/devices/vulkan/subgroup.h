// The width of subgroups that a kernel counts on, and what is asked of the driver for it.
#pragma once

#include <cstdint>

#include "kernel.h"
#include "physical.h"

namespace handglass {
namespace vulkan {

/* The widths that a device may give a kernel. */
struct SubgroupSizes {
  uint32_t least = 0;
  uint32_t most = 0;
  bool choosable = false;  // a pipeline may ask for one of them
};

SubgroupSizes SizesOf(const PhysicalDevice& device);

/* What the stage of a pipeline asks for; the structure is to outlive its creation. */
struct SubgroupRequest {
  VkPipelineShaderStageRequiredSubgroupSizeCreateInfo size{
      VK_STRUCTURE_TYPE_PIPELINE_SHADER_STAGE_REQUIRED_SUBGROUP_SIZE_CREATE_INFO};
  VkPipelineShaderStageCreateFlags flags = 0;
};

/* A size of 0: nothing need be asked for. Throws where the device cannot give what the kernel counts
 * on: the kernel, the size, those of the device. */
SubgroupRequest RequestFor(const Kernel& kernel, const Device& device);

}  // namespace vulkan
}  // namespace handglass
