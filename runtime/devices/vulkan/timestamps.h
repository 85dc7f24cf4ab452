// Timestamps of the device, written between commands and read after the commands have run.
#pragma once

#include <cstdint>
#include <vector>

#include "loader.h"

namespace handglass {
namespace vulkan {

class Device;

/* Without a device clock, the host's time after all earlier commands have run. */
struct Moment {
  uint32_t query = 0;
  uint64_t serial = 0;  // of the submission that writes it
  int64_t host = 0;     // nanoseconds, without a device clock
};

class Timestamps {
 public:
  explicit Timestamps(Device& device);

  /* Records a timestamp after all commands so far. Throws if too many are unread. */
  Moment Mark();
  /* Waits for both and returns the nanoseconds between them. */
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
