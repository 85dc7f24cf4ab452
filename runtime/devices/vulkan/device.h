// One logical device: its queue, its memory, its recorder, and whether it still answers.
#pragma once

#include <atomic>
#include <memory>
#include <mutex>
#include <string>

#include "loader.h"
#include "memory.h"
#include "physical.h"
#include "settings.h"

namespace handglass {
namespace vulkan {

class Recorder;
class PipelineCache;
class Timestamps;

class Device {
 public:
  static constexpr const char* kTimerType = "handglass.VulkanTimer";

  Device(int index, const Instance& instance, const PhysicalDevice& physical,
         const Settings& settings);
  ~Device();
  Device(const Device&) = delete;
  Device& operator=(const Device&) = delete;

  /* "vulkan:0 (llvmpipe ...)", for messages. */
  std::string Title() const;

  /* Seconds that a submission may take. */
  double Timeout() const;

  /* Throws if the device was lost earlier. */
  void CheckAlive() const;
  bool lost() const { return !lost_.empty(); }
  /* Marks the device as lost, so that the driver is not called again, and throws. */
  [[noreturn]] void Lose(const std::string& why);

  /* Allocates memory for a tensor; waits for pending frees before it fails. Throws. */
  uint64_t Allocate(uint64_t bytes);
  /* May be called at any time, also for a lost device: never throws. */
  void Free(uint64_t address);
  /* Waits until all recorded commands have run. */
  void Sync();

  const int index;
  const PhysicalDevice& physical;
  const Settings settings;
  VkDevice handle = VK_NULL_HANDLE;
  VkQueue queue = VK_NULL_HANDLE;
  DeviceFunctions functions;
  std::unique_ptr<Memory> memory;
  std::unique_ptr<Recorder> recorder;
  std::unique_ptr<PipelineCache> pipelines;
  std::unique_ptr<Timestamps> timestamps;
  std::mutex mutex;  // around all of the above

 private:
  [[noreturn]] void OutOfMemory(uint64_t bytes, VkResult result);

  std::string lost_;
};

}  // namespace vulkan
}  // namespace handglass
