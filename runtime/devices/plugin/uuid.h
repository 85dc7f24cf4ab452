#pragma once

#include <cstdint>
#include <cstdio>
#include <string>

namespace handglass {

/* 32 hexadecimal digits. */
inline std::string UuidText(const uint8_t* bytes) {
  std::string text;
  for (int i = 0; i < 16; ++i) {
    char digits[3];
    std::snprintf(digits, sizeof digits, "%02x", bytes[i]);
    text += digits;
  }
  return text;
}

}  // namespace handglass
