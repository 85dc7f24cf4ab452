#include "timer.h"

#include "device.h"
#include "registry.h"
#include "timestamps.h"

namespace handglass {
namespace vulkan {

TVM_FFI_STATIC_INIT_BLOCK() { DefineTimers<Source, Device, Moment>(); }

}  // namespace vulkan
}  // namespace handglass
