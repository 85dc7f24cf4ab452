// The device's own clock: moments between commands, read after the commands have run.
#pragma once

#include <cstdint>
#include <vector>

#include "loader.h"

namespace handglass {
namespace vulkan {

class Device;

/* Where the device has no clock, a moment is the host's, after all earlier commands have run. */
struct Moment {
  uint32_t query = 0;
  uint64_t serial = 0;  // of the submission that writes it
  int64_t host = 0;     // nanoseconds, without a clock of the device's
};

class Timestamps {
 public:
  explicit Timestamps(Device& device);

  /* Records a moment: after all commands so far. Throws when too many are unread. */
  Moment Mark();
  /* Waits for both; nanoseconds between them. */
  int64_t Between(const Moment& from, const Moment& to);
  void Forget(const Moment& moment);

 private:
  uint64_t Ticks(const Moment& moment);

  Device& device_;
  VkQueryPool pool_ = VK_NULL_HANDLE;  // null: the device has no clock
  std::vector<uint32_t> spare_;
};

}  // namespace vulkan
}  // namespace handglass
