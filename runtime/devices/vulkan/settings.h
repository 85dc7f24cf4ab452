// Settings from the environment, read once when the instance is created.
//
//   HANDGLASS_VULKAN_DEVICE           index or part of a name: this device becomes vulkan:0
//   HANDGLASS_VULKAN_TIMEOUT          seconds that a submission may take before the device counts as
//                                     lost (60; of a driver that computes on the CPU 3600)
//   HANDGLASS_VULKAN_LAUNCHES         kernels recorded before they are submitted (64)
//   HANDGLASS_VULKAN_BLOCK_MIB        size of the blocks that tensors are cut out of (64)
//   HANDGLASS_VULKAN_STAGING          1: copy through staging buffers also where memory is mapped
//   HANDGLASS_VULKAN_PUSH_DESCRIPTOR  0: descriptor pools even where the device can push
//   HANDGLASS_VULKAN_TIMESTAMPS       0: timers use the clock of the host
//   HANDGLASS_VULKAN_PIPELINE_CACHE   0: no compiled pipelines on disk
#pragma once

#include <cstdint>
#include <string>

namespace handglass {
namespace vulkan {

struct Settings {
  std::string device;
  double timeout = 0;  // 0: by the kind of device
  int64_t launches = 64;
  int64_t block_bytes = int64_t{64} << 20;
  bool staging = false;
  bool push_descriptor = true;
  bool timestamps = true;
  bool pipeline_cache = true;
};

/* Throws for a value that is not a number or out of range. */
Settings ReadSettings();

/* $XDG_CACHE_HOME/handglass/vulkan, or the same under ~/.cache; empty if neither is set. */
std::string CacheFolder();

}  // namespace vulkan
}  // namespace handglass
