// TVM's view of the devices: allocation, copies, synchronisation, attributes.
#pragma once

#include <tvm/runtime/device_api.h>

#include "device.h"

namespace handglass {
namespace vulkan {

/* The device that TVM has set for this thread, opened. Throws. */
Device& ActiveDevice();

/* "device_api.vulkan": lives as long as the process. */
tvm::runtime::DeviceAPI* GlobalApi();

}  // namespace vulkan
}  // namespace handglass
