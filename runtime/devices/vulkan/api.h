// TVM's view of the devices: allocation, copies, synchronisation, attributes.
#pragma once

#include <tvm/runtime/device_api.h>

#include "device.h"

namespace handglass {
namespace vulkan {

/* The current device of this thread in TVM, opened. Throws. */
Device& ActiveDevice();

/* "device_api.vulkan": lives as long as the process. */
tvm::runtime::DeviceAPI* GlobalApi();

}  // namespace vulkan
}  // namespace handglass
