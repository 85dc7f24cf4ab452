#include "subgroup.h"

#include <string>

#include "device.h"
#include "errors.h"

namespace handglass {
namespace vulkan {
namespace {

std::string Sentence(const SubgroupSizes& sizes) {
  if (sizes.least == sizes.most) return Words("has subgroups of ", sizes.most);
  return Words("has subgroups of ", sizes.least, " to ", sizes.most,
               sizes.choosable ? "" : " and does not let a kernel choose");
}

/* The size to request, or 0 if every size of the device fits. */
uint32_t Wanted(const Kernel& kernel, const Device& device) {
  const SubgroupNeed& need = kernel.facts.subgroup;
  const SubgroupSizes sizes = SizesOf(device.physical);
  if (!need.exactly && sizes.least >= need.size) return 0;
  if (sizes.choosable && sizes.least <= need.size && need.size <= sizes.most) return need.size;
  if (need.exactly && sizes.least == need.size && sizes.most == need.size) return 0;
  Fail("kernel ", kernel.name, " is made for subgroups of ", need.size, " threads",
       need.exactly ? "" : " or more", "; ", device.Title(), " ", Sentence(sizes),
       ": compile for a target that fits it");
}

/* A required size also limits the workgroup. */
void CheckWorkgroup(const Kernel& kernel, const Device& device, uint32_t size) {
  const auto& local = kernel.facts.local_size;
  const uint64_t threads = uint64_t{1} * local[0] * local[1] * local[2];
  const uint64_t most = device.physical.subgroup_size.maxComputeWorkgroupSubgroups;
  if (threads <= most * size) return;
  Fail("kernel ", kernel.name, ": a workgroup of ", threads, " threads, above the ", most,
       " subgroups (maxComputeWorkgroupSubgroups) of ", size, " that ", device.Title(), " takes");
}

}  // namespace

SubgroupSizes SizesOf(const PhysicalDevice& device) {
  const auto& range = device.subgroup_size;
  const uint32_t usual = device.subgroup.subgroupSize;
  SubgroupSizes sizes{usual, usual, false};
  // drivers without the extension leave zeros and have one size
  if (range.minSubgroupSize) sizes.least = range.minSubgroupSize;
  if (range.maxSubgroupSize) sizes.most = range.maxSubgroupSize;
  sizes.choosable = device.features->subgroup_size.subgroupSizeControl &&
                    (range.requiredSubgroupSizeStages & VK_SHADER_STAGE_COMPUTE_BIT);
  return sizes;
}

SubgroupRequest RequestFor(const Kernel& kernel, const Device& device) {
  SubgroupRequest request;
  const SubgroupNeed& need = kernel.facts.subgroup;
  if (!need.size) return request;
  const uint32_t size = Wanted(kernel, device);
  if (size) CheckWorkgroup(kernel, device, size);
  request.size.requiredSubgroupSize = size;
  // full subgroups may be requested if they fill the rows of the workgroup
  const bool full = device.physical.features->subgroup_size.computeFullSubgroups;
  if (need.exactly && full && kernel.facts.local_size[0] % need.size == 0) {
    request.flags = VK_PIPELINE_SHADER_STAGE_CREATE_REQUIRE_FULL_SUBGROUPS_BIT;
  }
  return request;
}

}  // namespace vulkan
}  // namespace handglass
