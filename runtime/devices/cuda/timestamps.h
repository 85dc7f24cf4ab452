// Timestamps of the device: events in the stream, read after they have happened.
#pragma once

#include <cstdint>
#include <vector>

#include "driver.h"

namespace handglass {
namespace cuda {

class Device;

struct Moment {
  CUevent event = nullptr;
};

class Timestamps {
 public:
  explicit Timestamps(Device& device) : device_(device) {}

  /* Records a timestamp after all work so far. Throws. */
  Moment Mark();
  /* Waits for both and returns the nanoseconds between them, with the driver's resolution of about
   * half a microsecond. Throws. */
  int64_t Between(const Moment& from, const Moment& to);
  void Forget(const Moment& moment) { spare_.push_back(moment.event); }

 private:
  Device& device_;
  std::vector<CUevent> spare_;
};

}  // namespace cuda
}  // namespace handglass
