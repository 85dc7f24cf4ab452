// Errors in words: each begins with "vulkan: " and says what, where and which value.
#pragma once

#include <sstream>
#include <string>

#include "headers.h"

namespace handglass {
namespace vulkan {

/* The parts, written one after another. */
template <typename... Parts>
std::string Words(const Parts&... parts) {
  std::ostringstream words;
  (words << ... << parts);
  return words.str();
}

/* Python sees a RuntimeError. In a file of its own: TVM's headers take a second to compile. */
[[noreturn]] void Throw(const std::string& words);

template <typename... Parts>
[[noreturn]] void Fail(const Parts&... parts) {
  Throw(Words("vulkan: ", parts...));
}

const char* NameOf(VkResult result);

/* Throws unless `result` is a success; `parts` say what was tried. */
template <typename... Parts>
void Check(VkResult result, const Parts&... parts) {
  if (result < 0) {
    Fail(Words(parts...), ": ", NameOf(result), " (", static_cast<int>(result), ")");
  }
}

inline bool IsOutOfMemory(VkResult result) {
  return result == VK_ERROR_OUT_OF_DEVICE_MEMORY || result == VK_ERROR_OUT_OF_HOST_MEMORY ||
         result == VK_ERROR_TOO_MANY_OBJECTS;
}

}  // namespace vulkan
}  // namespace handglass
