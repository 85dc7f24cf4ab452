#include "registry.h"

#include <atomic>
#include <mutex>

#include "failure.h"
#include "forks.h"

namespace handglass {

const char* const kKind = "cuda";

namespace cuda {
namespace {

// Leaked on purpose: tensors are freed while the interpreter exits, after static objects are gone.
std::atomic<Registry*> registry{nullptr};
std::mutex opening;

}  // namespace

Registry::Registry() : settings_(ReadSettings()) {
  try {
    driver_ = OpenDriver(settings_.driver);
    physical_ = FindDevices(driver_, settings_);
    if (physical_.empty()) problem_ = "NVIDIA's driver lists no device";
  } catch (const Absent& absent) {
    problem_ = absent.words;
  }
  devices_.resize(physical_.size());
}

Registry& Registry::Get() {
  CheckNotForked("CUDA");
  if (Registry* mine = registry) return *mine;
  std::lock_guard<std::mutex> lock(opening);
  if (!registry) {
    registry = new Registry();
    WatchForks();
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
  if (!problem_.empty()) Fail("there is no device cuda:", index, ": ", problem_);
  if (index < 0 || index >= size()) {
    Fail("there is no device cuda:", index, "; this machine has ", size());
  }
  return physical_[index];
}

Device& Registry::Open(int index) {
  const PhysicalDevice& physical = Physical(index);
  std::lock_guard<std::mutex> lock(opening);
  std::unique_ptr<Device>& device = devices_[index];
  if (!device) device = std::make_unique<Device>(index, driver_, physical, settings_);
  return *device;
}

}  // namespace cuda
}  // namespace handglass
