#include "timer.h"

#include "device.h"
#include "registry.h"
#include "timestamps.h"

namespace handglass {
namespace vulkan {
namespace {

struct Source {
  static Device& Open(int index) { return Registry::Get().Open(index); }
};

}  // namespace

TVM_FFI_STATIC_INIT_BLOCK() { DefineTimers<Source, Device, Moment>(); }

}  // namespace vulkan
}  // namespace handglass
