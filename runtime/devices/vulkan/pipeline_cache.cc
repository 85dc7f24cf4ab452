#include "pipeline_cache.h"

#include <sys/stat.h>
#include <unistd.h>

#include <cstdio>
#include <cstring>
#include <fstream>
#include <iterator>
#include <vector>

#include "device.h"
#include "errors.h"

namespace handglass {
namespace vulkan {
namespace {

constexpr size_t kLargest = size_t{256} << 20;
constexpr std::chrono::seconds kPause(2);

std::string Hex(const uint8_t* bytes, size_t count) {
  static const char* digits = "0123456789abcdef";
  std::string text;
  for (size_t i = 0; i < count; ++i) {
    text += digits[bytes[i] >> 4];
    text += digits[bytes[i] & 15];
  }
  return text;
}

/* mkdir -p */
void MakeFolders(const std::string& folder) {
  for (size_t at = folder.find('/', 1); at != std::string::npos; at = folder.find('/', at + 1)) {
    mkdir(folder.substr(0, at).c_str(), 0777);
  }
  mkdir(folder.c_str(), 0777);
}

std::string ReadFile(const std::string& path) {
  std::ifstream file(path, std::ios::binary | std::ios::ate);
  if (!file || file.tellg() < 0 || static_cast<size_t>(file.tellg()) > kLargest) return "";
  file.seekg(0);
  return std::string(std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>());
}

/* The header of the specification: drivers should check it too, but some crash instead. */
bool IsOf(const std::string& bytes, const PhysicalDevice& physical) {
  struct Header {
    uint32_t size, version, vendor, device;
    uint8_t uuid[VK_UUID_SIZE];
  } header;
  if (bytes.size() <= sizeof header) return false;
  std::memcpy(&header, bytes.data(), sizeof header);
  const VkPhysicalDeviceProperties& mine = physical.properties;
  return header.size >= sizeof header && header.size <= bytes.size() && header.version == 1 &&
         header.vendor == mine.vendorID && header.device == mine.deviceID &&
         !std::memcmp(header.uuid, mine.pipelineCacheUUID, VK_UUID_SIZE);
}

/* A frame around the driver's bytes that detects a torn or altered file: FNV-1a. */
uint64_t Sum(const char* bytes, size_t count) {
  uint64_t sum = 0xcbf29ce484222325;
  for (size_t i = 0; i < count; ++i) sum = (sum ^ static_cast<uint8_t>(bytes[i])) * 0x100000001b3;
  return sum;
}

std::string Unframe(const std::string& file) {
  uint64_t sum = 0;
  if (file.size() < sizeof sum) return "";
  std::memcpy(&sum, file.data(), sizeof sum);
  const std::string bytes = file.substr(sizeof sum);
  return sum == Sum(bytes.data(), bytes.size()) ? bytes : "";
}

}  // namespace

PipelineCache::PipelineCache(const Device& device)
    : device_(device), last_(std::chrono::steady_clock::now()) {
  const PhysicalDevice& physical = device.physical;
  if (device.settings.pipeline_cache && !CacheFolder().empty()) {
    folder_ = CacheFolder() + "/pipelines";
    file_ = Words(folder_, "/", Hex(physical.id.deviceUUID, VK_UUID_SIZE), "-",
                  physical.properties.driverVersion, "-",
                  Hex(physical.properties.pipelineCacheUUID, VK_UUID_SIZE), ".bin");
  }
  std::string bytes = file_.empty() ? "" : Unframe(ReadFile(file_));
  if (!IsOf(bytes, physical)) bytes.clear();
  VkPipelineCacheCreateInfo info{VK_STRUCTURE_TYPE_PIPELINE_CACHE_CREATE_INFO};
  info.initialDataSize = bytes.size();
  info.pInitialData = bytes.data();
  VkResult result =
      device.functions.vkCreatePipelineCache(device.handle, &info, nullptr, &handle_);
  if (result != VK_SUCCESS && !bytes.empty()) {
    info.initialDataSize = 0;
    result = device.functions.vkCreatePipelineCache(device.handle, &info, nullptr, &handle_);
  }
  Check(result, "vkCreatePipelineCache");
}

void PipelineCache::Added() {
  added_ = true;
  last_ = std::chrono::steady_clock::now();
}

void PipelineCache::Save(bool now) noexcept {
  if (!added_ || file_.empty()) return;
  if (!now && std::chrono::steady_clock::now() - last_ < kPause) return;
  added_ = false;
  const auto get = device_.functions.vkGetPipelineCacheData;
  size_t size = 0;
  if (get(device_.handle, handle_, &size, nullptr) != VK_SUCCESS || size > kLargest) return;
  std::string bytes(size, '\0');
  if (get(device_.handle, handle_, &size, &bytes[0]) != VK_SUCCESS) return;
  bytes.resize(size);
  Write(bytes);
}

/* Written under a unique name, then renamed: other processes see the old file or the new one. */
void PipelineCache::Write(const std::string& bytes) const {
  MakeFolders(folder_);
  const std::string part = Words(file_, ".", getpid(), ".part");
  const uint64_t sum = Sum(bytes.data(), bytes.size());
  {
    std::ofstream file(part, std::ios::binary | std::ios::trunc);
    file.write(reinterpret_cast<const char*>(&sum), sizeof sum);
    file.write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
    file.close();
    if (!file) {
      std::remove(part.c_str());
      return;
    }
  }
  if (std::rename(part.c_str(), file_.c_str()) != 0) std::remove(part.c_str());
}

}  // namespace vulkan
}  // namespace handglass
