#include "settings.h"

#include <cmath>
#include <cstdlib>

#include "errors.h"

namespace handglass {
namespace vulkan {
namespace {

std::string Variable(const char* name) {
  const char* value = std::getenv(name);
  return value ? value : "";
}

double Number(const char* name, double otherwise, double least, double most) {
  const std::string text = Variable(name);
  if (text.empty()) return otherwise;
  char* end = nullptr;
  const double number = std::strtod(text.c_str(), &end);
  if (*end != '\0' || !std::isfinite(number) || number < least || number > most) {
    Fail(name, "=", text, ": not a number from ", least, " to ", most);
  }
  return number;
}

bool Flag(const char* name, bool otherwise) {
  const std::string text = Variable(name);
  if (text.empty()) return otherwise;
  if (text != "0" && text != "1") Fail(name, "=", text, ": neither 0 nor 1");
  return text == "1";
}

}  // namespace

Settings ReadSettings() {
  Settings settings;
  settings.device = Variable("HANDGLASS_VULKAN_DEVICE");
  settings.timeout = Number("HANDGLASS_VULKAN_TIMEOUT", settings.timeout, 0.001, 1e6);
  settings.launches =
      static_cast<int64_t>(Number("HANDGLASS_VULKAN_LAUNCHES", 64, 1, 1 << 20));
  settings.block_bytes =
      static_cast<int64_t>(Number("HANDGLASS_VULKAN_BLOCK_MIB", 64, 1, 4096) * (1 << 20));
  settings.staging = Flag("HANDGLASS_VULKAN_STAGING", settings.staging);
  settings.push_descriptor =
      Flag("HANDGLASS_VULKAN_PUSH_DESCRIPTOR", settings.push_descriptor);
  settings.timestamps = Flag("HANDGLASS_VULKAN_TIMESTAMPS", settings.timestamps);
  settings.pipeline_cache = Flag("HANDGLASS_VULKAN_PIPELINE_CACHE", settings.pipeline_cache);
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
