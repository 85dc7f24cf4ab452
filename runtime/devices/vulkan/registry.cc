#include "registry.h"

#include <atomic>
#include <cstdlib>
#include <mutex>

#include "errors.h"
#include "forks.h"
#include "pipeline_cache.h"

namespace handglass {
namespace vulkan {
namespace {

// Leaked on purpose: tensors are freed while the interpreter exits, after static objects are gone.
std::atomic<Registry*> registry{nullptr};
std::mutex opening;

void SaveAll() {
  Registry* mine = registry;
  if (!mine || IsForked()) return;
  for (int i = 0; i < mine->size(); ++i) {
    Device* device = mine->Opened(i);
    if (!device || !device->mutex.try_lock()) continue;  // still used by a thread
    if (!device->lost()) device->pipelines->Save(true);
    device->mutex.unlock();
  }
}

}  // namespace

Registry::Registry() : settings_(ReadSettings()) {
  try {
    instance_ = MakeInstance();
    physical_ = FindDevices(instance_, settings_);
    if (physical_.empty()) {
      problem_ = "no Vulkan driver offers a device that computes with Vulkan 1.1";
    }
  } catch (const Absent& absent) {
    problem_ = absent.words;
  }
  devices_.resize(physical_.size());
}

Registry& Registry::Get() {
  CheckNotForked("Vulkan");
  if (Registry* mine = registry) return *mine;
  std::lock_guard<std::mutex> lock(opening);
  if (!registry) {
    registry = new Registry();
    WatchForks();
    std::atexit(SaveAll);
  }
  return *registry;
}

Registry* Registry::Find() noexcept {
  try {
    return &Get();
  } catch (...) {
    return nullptr;
  }
}

const PhysicalDevice& Registry::Physical(int index) const {
  if (!problem_.empty()) Fail("there is no device vulkan:", index, ": ", problem_);
  if (index < 0 || index >= size()) {
    Fail("there is no device vulkan:", index, "; this machine has ", size());
  }
  return physical_[index];
}

Device& Registry::Open(int index) {
  const PhysicalDevice& physical = Physical(index);
  std::lock_guard<std::mutex> lock(opening);
  std::unique_ptr<Device>& device = devices_[index];
  if (!device) device = std::make_unique<Device>(index, instance_, physical, settings_);
  return *device;
}

Device* Registry::Opened(int index) const {
  std::lock_guard<std::mutex> lock(opening);
  const bool known = index >= 0 && index < size();
  return known ? devices_[index].get() : nullptr;
}

}  // namespace vulkan
}  // namespace handglass
