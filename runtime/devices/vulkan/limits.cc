// Checks whether a device can run a kernel, before the driver, which may crash or miscompile it.
#include <algorithm>

#include "device.h"
#include "errors.h"
#include "kernel.h"

namespace handglass {
namespace vulkan {
namespace {

/* A SPIR-V capability and the device feature that it requires. */
struct Need {
  uint32_t capability;
  const char* name;
  bool (*met)(const PhysicalDevice&);
};

template <VkSubgroupFeatureFlagBits kOperation>
bool Subgroup(const PhysicalDevice& device) {
  return (device.subgroup.supportedOperations & kOperation) &&
         (device.subgroup.supportedStages & VK_SHADER_STAGE_COMPUTE_BIT);
}

const Need kNeeds[] = {
    {9, "Float16", [](auto& d) { return d.features->float16_int8.shaderFloat16 != 0; }},
    {10, "Float64", [](auto& d) { return d.features->core_.features.shaderFloat64 != 0; }},
    {11, "Int64", [](auto& d) { return d.features->core_.features.shaderInt64 != 0; }},
    {22, "Int16", [](auto& d) { return d.features->core_.features.shaderInt16 != 0; }},
    {39, "Int8", [](auto& d) { return d.features->float16_int8.shaderInt8 != 0; }},
    {61, "GroupNonUniform", Subgroup<VK_SUBGROUP_FEATURE_BASIC_BIT>},
    {62, "GroupNonUniformVote", Subgroup<VK_SUBGROUP_FEATURE_VOTE_BIT>},
    {63, "GroupNonUniformArithmetic", Subgroup<VK_SUBGROUP_FEATURE_ARITHMETIC_BIT>},
    {64, "GroupNonUniformBallot", Subgroup<VK_SUBGROUP_FEATURE_BALLOT_BIT>},
    {65, "GroupNonUniformShuffle", Subgroup<VK_SUBGROUP_FEATURE_SHUFFLE_BIT>},
    {66, "GroupNonUniformShuffleRelative", Subgroup<VK_SUBGROUP_FEATURE_SHUFFLE_RELATIVE_BIT>},
    {67, "GroupNonUniformClustered", Subgroup<VK_SUBGROUP_FEATURE_CLUSTERED_BIT>},
    {68, "GroupNonUniformQuad", Subgroup<VK_SUBGROUP_FEATURE_QUAD_BIT>},
    {4433, "StorageBuffer16BitAccess",
     [](auto& d) { return d.features->storage16.storageBuffer16BitAccess != 0; }},
    {4434, "UniformAndStorageBuffer16BitAccess",
     [](auto& d) { return d.features->storage16.uniformAndStorageBuffer16BitAccess != 0; }},
    {4448, "StorageBuffer8BitAccess",
     [](auto& d) { return d.features->storage8.storageBuffer8BitAccess != 0; }},
    {4449, "UniformAndStorageBuffer8BitAccess",
     [](auto& d) { return d.features->storage8.uniformAndStorageBuffer8BitAccess != 0; }},
    {5345, "VulkanMemoryModel",
     [](auto& d) { return d.features->memory_model.vulkanMemoryModel != 0; }},
    {6018, "DotProductInput4x8BitPacked",
     [](auto& d) { return d.features->dot_product.shaderIntegerDotProduct != 0; }},
    {6019, "DotProduct",
     [](auto& d) { return d.features->dot_product.shaderIntegerDotProduct != 0; }},
    {6022, "CooperativeMatrixKHR",
     [](auto& d) { return d.features->cooperative_matrix.cooperativeMatrix != 0; }},
};

class Checker {
 public:
  Checker(const Kernel& kernel, const Device& device)
      : kernel_(kernel), device_(device), limits_(device.physical.limits()) {}

  void Check() const {
    Capabilities();
    Version();
    const auto& size = kernel_.facts.local_size;
    for (int i = 0; i < 3; ++i) {
      AtMost("workgroup size", size[i], limits_.maxComputeWorkGroupSize[i],
             "maxComputeWorkGroupSize");
    }
    AtMost("workgroup of invocations", uint64_t{1} * size[0] * size[1] * size[2],
           limits_.maxComputeWorkGroupInvocations, "maxComputeWorkGroupInvocations");
    AtMost("bytes of shared memory", kernel_.facts.shared_bytes,
           limits_.maxComputeSharedMemorySize, "maxComputeSharedMemorySize");
    AtMost("buffers", kernel_.buffers,
           std::min(limits_.maxPerStageDescriptorStorageBuffers,
                    limits_.maxDescriptorSetStorageBuffers),
           "maxPerStageDescriptorStorageBuffers");
    Scalars();
    EntryPoint();
  }

 private:
  void Capabilities() const {
    for (uint32_t capability : kernel_.facts.capabilities) {
      for (const Need& need : kNeeds) {
        if (need.capability == capability && !need.met(device_.physical)) {
          Fail("kernel ", kernel_.name, " needs the capability ", need.name, ", which ",
               device_.Title(), " does not have; compile for a target without it");
        }
      }
    }
  }

  void Version() const {
    const uint32_t newest = NewestSpirv(device_.physical);
    if (kernel_.facts.version > newest) {
      Fail("kernel ", kernel_.name, " is SPIR-V 1.", kernel_.facts.version >> 8 & 255,
           "; the newest that ", device_.Title(), " takes is 1.", newest >> 8 & 255);
    }
  }

  void Scalars() const {
    if (kernel_.uniform) {
      AtMost("bytes of scalars", kernel_.scalar_bytes(), limits_.maxUniformBufferRange,
             "maxUniformBufferRange");
    } else {
      AtMost("bytes of scalars", kernel_.scalar_bytes(), limits_.maxPushConstantsSize,
             "maxPushConstantsSize");
    }
  }

  void EntryPoint() const {
    const auto& names = kernel_.facts.entry_points;
    if (std::find(names.begin(), names.end(), kernel_.name) == names.end()) {
      Fail("kernel ", kernel_.name, ": its SPIR-V has no compute entry point of that name");
    }
  }

  void AtMost(const char* what, uint64_t value, uint64_t most, const char* limit) const {
    if (value <= most) return;
    Fail("kernel ", kernel_.name, ": ", what, ": ", value, ", above the ", most, " (", limit,
         ") of ", device_.Title());
  }

  const Kernel& kernel_;
  const Device& device_;
  const VkPhysicalDeviceLimits& limits_;
};

}  // namespace

void CheckKernel(const Kernel& kernel, const Device& device) { Checker(kernel, device).Check(); }

}  // namespace vulkan
}  // namespace handglass
