// The devices of this process: listed once, opened on first use, never closed.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "device.h"
#include "driver.h"
#include "physical.h"
#include "settings.h"

namespace handglass {
namespace cuda {

class Registry {
 public:
  /* Throws on an invalid setting, and in a process forked from one that used CUDA:
   * the context belongs to the parent. */
  static Registry& Get();
  /* The same, but returns null instead of throwing. */
  static Registry* Find() noexcept;

  const std::vector<PhysicalDevice>& physical() const { return physical_; }
  const Driver& driver() const { return driver_; }
  int size() const { return static_cast<int>(physical_.size()); }
  /* Opens it if necessary. Throws for an invalid index. */
  Device& Open(int index);
  /* The properties of device `index`. Throws for an invalid index. */
  const PhysicalDevice& Physical(int index) const;
  /* Why there are no devices; empty if there are some. */
  const std::string& problem() const { return problem_; }

 private:
  Registry();

  Settings settings_;
  std::string problem_;
  Driver driver_;
  std::vector<PhysicalDevice> physical_;
  std::vector<std::unique_ptr<Device>> devices_;
};

/* The devices, for the templates that all plug-ins share. */
struct Source {
  static Device& Open(int index) { return Registry::Get().Open(index); }
};

}  // namespace cuda
}  // namespace handglass
