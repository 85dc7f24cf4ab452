#include "settings.h"

#include "environment.h"

namespace handglass {
namespace vulkan {
Settings ReadSettings() {
  Settings settings;
  settings.device = Variable("HANDGLASS_VULKAN_DEVICE");
  settings.timeout = NumberVariable("HANDGLASS_VULKAN_TIMEOUT", settings.timeout, 0.001, 1e6);
  settings.launches =
      static_cast<int64_t>(NumberVariable("HANDGLASS_VULKAN_LAUNCHES", 64, 1, 1 << 20));
  settings.block_bytes =
      static_cast<int64_t>(NumberVariable("HANDGLASS_VULKAN_BLOCK_MIB", 64, 1, 4096) * (1 << 20));
  settings.staging = FlagVariable("HANDGLASS_VULKAN_STAGING", settings.staging);
  settings.push_descriptor =
      FlagVariable("HANDGLASS_VULKAN_PUSH_DESCRIPTOR", settings.push_descriptor);
  settings.timestamps = FlagVariable("HANDGLASS_VULKAN_TIMESTAMPS", settings.timestamps);
  settings.pipeline_cache = FlagVariable("HANDGLASS_VULKAN_PIPELINE_CACHE", settings.pipeline_cache);
  return settings;
}

std::string CacheFolder() {
  const std::string cache = Variable("XDG_CACHE_HOME");
  if (!cache.empty()) return cache + "/handglass/vulkan";
  const std::string home = Variable("HOME");
  return home.empty() ? "" : home + "/.cache/handglass/vulkan";
}

}  // namespace vulkan
}  // namespace handglass
