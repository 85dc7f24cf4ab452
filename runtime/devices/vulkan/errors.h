// Errors of the Vulkan API, as messages.
#pragma once

#include "failure.h"
#include "headers.h"

namespace handglass {
namespace vulkan {

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
