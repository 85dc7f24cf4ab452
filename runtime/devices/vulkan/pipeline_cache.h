// Compiled pipelines on disk: $XDG_CACHE_HOME/handglass/vulkan/pipelines/*.bin.
#pragma once

#include <chrono>
#include <string>

#include "loader.h"

namespace handglass {
namespace vulkan {

class Device;

class PipelineCache {
 public:
  /* Reads the file of this device and driver; ignores a damaged file or one of another driver. */
  explicit PipelineCache(const Device& device);

  VkPipelineCache handle() const { return handle_; }
  void Added();
  /* Writes the file if a pipeline was added and some time has passed (or `now`). Never throws: a
   * full or read-only disk only costs time at the next start. */
  void Save(bool now) noexcept;

 private:
  void Write(const std::string& bytes) const;

  const Device& device_;
  std::string folder_;
  std::string file_;
  VkPipelineCache handle_ = VK_NULL_HANDLE;
  bool added_ = false;
  std::chrono::steady_clock::time_point last_;
};

}  // namespace vulkan
}  // namespace handglass
