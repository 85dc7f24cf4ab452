#include "pipeline.h"

#include <atomic>
#include <vector>

#include "device.h"
#include "errors.h"
#include "pipeline_cache.h"
#include "subgroup.h"

namespace handglass {
namespace vulkan {
namespace {

std::atomic<int64_t> live_pipelines{0};

}  // namespace

int64_t LivePipelines() { return live_pipelines; }

Pipeline::Pipeline(const Kernel& kernel, Device& device) : name(kernel.name), device_(device) {
  CheckKernel(kernel, device);
  push = device.settings.push_descriptor && device.functions.vkCmdPushDescriptorSetKHR &&
         device.physical.features->Has("VK_KHR_push_descriptor") &&
         kernel.buffers + kernel.uniform <= device.physical.push_descriptor.maxPushDescriptors;
  try {
    MakeSetLayout(kernel);
    MakeLayout(kernel);
    Compile(kernel);
  } catch (...) {
    Destroy();
    throw;
  }
  device.pipelines->Added();
  live_pipelines += 1;
}

Pipeline::~Pipeline() {
  Destroy();
  live_pipelines -= 1;
}

void Pipeline::Destroy() {
  if (device_.lost()) return;
  const DeviceFunctions& f = device_.functions;
  f.vkDestroyPipeline(device_.handle, handle, nullptr);
  f.vkDestroyPipelineLayout(device_.handle, layout, nullptr);
  f.vkDestroyDescriptorSetLayout(device_.handle, set_layout, nullptr);
}

void Pipeline::MakeSetLayout(const Kernel& kernel) {
  std::vector<VkDescriptorSetLayoutBinding> bindings;
  for (uint32_t i = 0; i < kernel.buffers + kernel.uniform; ++i) {
    VkDescriptorSetLayoutBinding binding{};
    binding.binding = i;
    binding.descriptorType =
        i < kernel.buffers ? VK_DESCRIPTOR_TYPE_STORAGE_BUFFER : VK_DESCRIPTOR_TYPE_UNIFORM_BUFFER;
    binding.descriptorCount = 1;
    binding.stageFlags = VK_SHADER_STAGE_COMPUTE_BIT;
    bindings.push_back(binding);
  }
  VkDescriptorSetLayoutCreateInfo info{VK_STRUCTURE_TYPE_DESCRIPTOR_SET_LAYOUT_CREATE_INFO};
  info.flags = push ? VK_DESCRIPTOR_SET_LAYOUT_CREATE_PUSH_DESCRIPTOR_BIT_KHR : 0;
  info.bindingCount = static_cast<uint32_t>(bindings.size());
  info.pBindings = bindings.data();
  Check(device_.functions.vkCreateDescriptorSetLayout(device_.handle, &info, nullptr, &set_layout),
        "kernel ", name, ": vkCreateDescriptorSetLayout");
}

void Pipeline::MakeLayout(const Kernel& kernel) {
  VkPushConstantRange range{VK_SHADER_STAGE_COMPUTE_BIT, 0, kernel.scalar_bytes()};
  VkPipelineLayoutCreateInfo info{VK_STRUCTURE_TYPE_PIPELINE_LAYOUT_CREATE_INFO};
  info.setLayoutCount = 1;
  info.pSetLayouts = &set_layout;
  info.pushConstantRangeCount = kernel.scalars() && !kernel.uniform ? 1 : 0;
  info.pPushConstantRanges = &range;
  Check(device_.functions.vkCreatePipelineLayout(device_.handle, &info, nullptr, &layout),
        "kernel ", name, ": vkCreatePipelineLayout");
}

void Pipeline::Compile(const Kernel& kernel) {
  const SubgroupRequest subgroup = RequestFor(kernel, device_);
  const DeviceFunctions& f = device_.functions;
  VkShaderModuleCreateInfo shader{VK_STRUCTURE_TYPE_SHADER_MODULE_CREATE_INFO};
  shader.codeSize = kernel.words.size() * 4;
  shader.pCode = kernel.words.data();
  VkShaderModule module = VK_NULL_HANDLE;
  Check(f.vkCreateShaderModule(device_.handle, &shader, nullptr, &module), "kernel ", name,
        ": the driver of ", device_.Title(), " does not take its SPIR-V");
  VkComputePipelineCreateInfo info{VK_STRUCTURE_TYPE_COMPUTE_PIPELINE_CREATE_INFO};
  info.stage.sType = VK_STRUCTURE_TYPE_PIPELINE_SHADER_STAGE_CREATE_INFO;
  info.stage.pNext = subgroup.size.requiredSubgroupSize ? &subgroup.size : nullptr;
  info.stage.flags = subgroup.flags;
  info.stage.stage = VK_SHADER_STAGE_COMPUTE_BIT;
  info.stage.module = module;
  info.stage.pName = name.c_str();
  info.layout = layout;
  const VkResult result = f.vkCreateComputePipelines(device_.handle, device_.pipelines->handle(),
                                                     1, &info, nullptr, &handle);
  f.vkDestroyShaderModule(device_.handle, module, nullptr);
  Check(result, "kernel ", name, " cannot be compiled by the driver of ", device_.Title());
}

}  // namespace vulkan
}  // namespace handglass
