// "runtime.timer.vulkan" for TVM's time_evaluator, and timestamps per kernel.
#include <tvm/runtime/timer.h>

#include <tvm/ffi/container/array.h>
#include <tvm/ffi/function.h>
#include <tvm/ffi/reflection/registry.h>

#include <map>
#include <mutex>
#include <vector>

#include "device.h"
#include "errors.h"
#include "registry.h"
#include "timestamps.h"

namespace handglass {
namespace vulkan {
namespace {

namespace ffi = tvm::ffi;
using Ours = handglass::vulkan::Device;

class TimerObject final : public tvm::runtime::TimerNode {
 public:
  explicit TimerObject(Ours& device) : device_(device) {}
  ~TimerObject() {
    if (IsForked()) return;
    std::lock_guard<std::mutex> lock(device_.mutex);
    for (const Moment& moment : moments_) device_.timestamps->Forget(moment);
  }

  void Start() final { Mark(); }
  void Stop() final { Mark(); }
  int64_t SyncAndGetElapsedNanos() final {
    std::lock_guard<std::mutex> lock(device_.mutex);
    if (moments_.size() != 2) Fail("timer: it was not started and stopped once each");
    return device_.timestamps->Between(moments_[0], moments_[1]);
  }

  TVM_FFI_DECLARE_OBJECT_INFO_FINAL("handglass.VulkanTimer", TimerObject, tvm::runtime::TimerNode);

 private:
  void Mark() {
    std::lock_guard<std::mutex> lock(device_.mutex);
    moments_.push_back(device_.timestamps->Mark());
  }

  Ours& device_;
  std::vector<Moment> moments_;
};

/* By device, guarded by the device's lock; the table has its own lock. */
std::vector<Moment>& Stamps(int64_t device) {
  static std::mutex mutex;
  static auto* stamps = new std::map<int64_t, std::vector<Moment>>();
  std::lock_guard<std::mutex> lock(mutex);
  return (*stamps)[device];
}

/* Records a timestamp; returns their number since TakeStamps. */
int64_t Stamp(int64_t index) {
  Ours& device = Registry::Get().Open(static_cast<int>(index));
  std::lock_guard<std::mutex> lock(device.mutex);
  std::vector<Moment>& stamps = Stamps(index);
  stamps.push_back(device.timestamps->Mark());
  return static_cast<int64_t>(stamps.size());
}

/* Nanoseconds from the first timestamp to each; waits for them and clears them. */
ffi::Array<int64_t> TakeStamps(int64_t index) {
  Ours& device = Registry::Get().Open(static_cast<int>(index));
  std::lock_guard<std::mutex> lock(device.mutex);
  std::vector<Moment> stamps;
  stamps.swap(Stamps(index));
  ffi::Array<int64_t> since_first;
  for (const Moment& stamp : stamps) {
    since_first.push_back(device.timestamps->Between(stamps.front(), stamp));
  }
  for (const Moment& stamp : stamps) device.timestamps->Forget(stamp);
  return since_first;
}

}  // namespace

TVM_FFI_STATIC_INIT_BLOCK() {
  tvm::ffi::reflection::GlobalDef()
      .def("runtime.timer.vulkan",
           [](tvm::Device device) {
             return tvm::runtime::Timer(
                 ffi::make_object<TimerObject>(Registry::Get().Open(device.device_id)));
           })
      .def("handglass.vulkan.stamp", Stamp)
      .def("handglass.vulkan.stamps", TakeStamps);
}

}  // namespace vulkan
}  // namespace handglass
