// A kernel compiled for one device.
#pragma once

#include <memory>
#include <string>

#include "kernel.h"
#include "loader.h"

namespace handglass {
namespace vulkan {

class Device;

class Pipeline {
 public:
  /* Checks the kernel against the device, then compiles it. Throws. */
  Pipeline(const Kernel& kernel, Device& device);
  ~Pipeline();
  Pipeline(const Pipeline&) = delete;
  Pipeline& operator=(const Pipeline&) = delete;

  const std::string name;
  VkPipeline handle = VK_NULL_HANDLE;
  VkPipelineLayout layout = VK_NULL_HANDLE;
  VkDescriptorSetLayout set_layout = VK_NULL_HANDLE;
  bool push = false;  // descriptors are pushed, not allocated

 private:
  void MakeSetLayout(const Kernel& kernel);
  void MakeLayout(const Kernel& kernel);
  void Compile(const Kernel& kernel);
  void Destroy();

  Device& device_;
};

/* Pipelines alive in this process, for statistics. */
int64_t LivePipelines();

}  // namespace vulkan
}  // namespace handglass
