#pragma once

#include "device.h"

namespace handglass {
namespace vulkan {

/* The current device of this thread in TVM, opened. Throws. */
Device& ActiveDevice();

}  // namespace vulkan
}  // namespace handglass
