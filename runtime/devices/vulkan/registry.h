// The devices of this process: found once, opened when first used, never closed.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "device.h"
#include "loader.h"
#include "physical.h"
#include "settings.h"

namespace handglass {
namespace vulkan {

class Registry {
 public:
  /* Throws where a setting is wrong, and in a process that was forked from one that used Vulkan:
   * the device belongs to the parent. */
  static Registry& Get();
  /* Null instead of all that. */
  static Registry* Find() noexcept;

  const std::vector<PhysicalDevice>& physical() const { return physical_; }
  /* Opens it if need be. Throws for an index that there is not. */
  Device& Open(int index);
  /* Null if it was not opened yet. */
  Device* Opened(int index) const;
  int size() const { return static_cast<int>(physical_.size()); }
  /* The answers of device `index`. Throws for an index that there is not. */
  const PhysicalDevice& Physical(int index) const;
  /* Why there are no devices; empty where there are. */
  const std::string& problem() const { return problem_; }

 private:
  Registry();

  Settings settings_;
  std::string problem_;
  Instance instance_;
  std::vector<PhysicalDevice> physical_;
  std::vector<std::unique_ptr<Device>> devices_;
};

/* Whether this process inherited its devices from another: then they must not be touched. */
bool IsForked();

}  // namespace vulkan
}  // namespace handglass
