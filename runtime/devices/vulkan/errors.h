// Error messages: each begins with "vulkan: " and states what failed, where, and the value.
#pragma once

#include <sstream>
#include <string>

#include "headers.h"

namespace handglass {
namespace vulkan {

/* Concatenates the parts. */
template <typename... Parts>
std::string Words(const Parts&... parts) {
  std::ostringstream words;
  (words << ... << parts);
  return words.str();
}

/* Python sees a RuntimeError. In a separate file: TVM's headers take a second to compile. */
[[noreturn]] void Throw(const std::string& words);

template <typename... Parts>
[[noreturn]] void Fail(const Parts&... parts) {
  Throw(Words("vulkan: ", parts...));
}

const char* NameOf(VkResult result);

/* Throws unless `result` is a success code; `parts` describe the call. */
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
