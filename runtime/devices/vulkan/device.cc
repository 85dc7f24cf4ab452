#include "device.h"

#include "errors.h"
#include "pipeline_cache.h"
#include "recorder.h"
#include "timestamps.h"

namespace handglass {
namespace vulkan {
namespace {

VkDevice CreateDevice(const Instance& instance, const PhysicalDevice& physical) {
  const float priority = 1;
  VkDeviceQueueCreateInfo queue{VK_STRUCTURE_TYPE_DEVICE_QUEUE_CREATE_INFO};
  queue.queueFamilyIndex = physical.queue_family;
  queue.queueCount = 1;
  queue.pQueuePriorities = &priority;
  const std::vector<const char*> extensions = physical.features->Extensions();
  VkDeviceCreateInfo info{VK_STRUCTURE_TYPE_DEVICE_CREATE_INFO, physical.features->chain()};
  info.queueCreateInfoCount = 1;
  info.pQueueCreateInfos = &queue;
  info.enabledExtensionCount = static_cast<uint32_t>(extensions.size());
  info.ppEnabledExtensionNames = extensions.data();
  VkDevice device = VK_NULL_HANDLE;
  Check(instance.functions.vkCreateDevice(physical.handle, &info, nullptr, &device),
        physical.name, " cannot be opened");
  return device;
}

}  // namespace

Device::Device(int index, const Instance& instance, const PhysicalDevice& physical,
               const Settings& settings)
    : index(index), physical(physical), settings(settings) {
  handle = CreateDevice(instance, physical);
  functions = LoadDevice(instance, handle);
  functions.vkGetDeviceQueue(handle, physical.queue_family, 0, &queue);
  memory = std::make_unique<Memory>(physical, handle, functions,
                                    static_cast<uint64_t>(settings.block_bytes), settings.staging);
  recorder = std::make_unique<Recorder>(*this);
  pipelines = std::make_unique<PipelineCache>(*this);
  timestamps = std::make_unique<Timestamps>(*this);
}

Device::~Device() = default;

std::string Device::Title() const { return Words("vulkan:", index, " (", physical.name, ")"); }

double Device::Timeout() const {
  if (settings.timeout > 0) return settings.timeout;
  return physical.properties.deviceType == VK_PHYSICAL_DEVICE_TYPE_CPU ? 3600 : 60;
}

void Device::CheckAlive() const {
  if (lost()) Fail(lost_, "; nothing more can run on it in this process");
}

void Device::Lose(const std::string& why) {
  lost_ = why;
  Fail(why);
}

uint64_t Device::Allocate(uint64_t bytes) {
  CheckAlive();
  uint64_t address = 0;
  VkResult result = memory->Allocate(bytes, &address);
  if (IsOutOfMemory(result)) {
    recorder->Sync();  // returns memory that was freed while commands used it
    result = memory->Allocate(bytes, &address);
  }
  if (result != VK_SUCCESS) OutOfMemory(bytes, result);
  return address;
}

void Device::OutOfMemory(uint64_t bytes, VkResult result) {
  if (!IsOutOfMemory(result)) Check(result, "allocation of ", bytes, " bytes on ", Title());
  if (bytes > memory->largest()) {
    Fail("out of memory: allocation of ", bytes, " bytes on ", Title(), ", whose largest is ",
         memory->largest());
  }
  const MemoryStatistics& now = memory->statistics();
  Fail("out of memory: allocation of ", bytes, " bytes on ", Title(), ": ", now.live_bytes,
       " bytes are in use by ", now.live_buffers, " tensors, the heap has ", memory->heap_bytes());
}

void Device::Sync() {
  recorder->Sync();
  pipelines->Save(false);
}

void Device::Free(uint64_t address) {
  if (lost()) return;
  const Place place = memory->Find(address);
  if (!place.allocation || place.offset) return;
  if (place.allocation->last_use > recorder->completed()) {
    recorder->ReleaseLater(address, place.allocation);
  } else {
    memory->Release(address);
  }
}

}  // namespace vulkan
}  // namespace handglass
