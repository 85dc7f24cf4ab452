// Seconds of a monotonic clock.
#pragma once

#include <chrono>

namespace handglass {

inline double Now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

}  // namespace handglass
