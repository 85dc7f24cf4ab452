#pragma once

#include <cstdint>

namespace handglass {

/* The next multiple of `to`. */
inline uint64_t RoundUp(uint64_t value, uint64_t to) { return (value + to - 1) / to * to; }

}  // namespace handglass
