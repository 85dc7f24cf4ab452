// "runtime.timer.KIND" for TVM's time_evaluator, and timestamps per kernel.
//
// `Device` has a `mutex`, and `timestamps` with Mark() -> Moment, Between(Moment, Moment) in
// nanoseconds, and Forget(Moment). `Source` opens devices: Device& Source::Open(int index).
#pragma once

#include <tvm/runtime/timer.h>

#include <tvm/ffi/container/array.h>
#include <tvm/ffi/function.h>

#include <map>
#include <mutex>
#include <string>
#include <vector>

#include "definition.h"
#include "failure.h"
#include "forks.h"

namespace handglass {

template <typename Device, typename Moment>
class TimerObject final : public tvm::runtime::TimerNode {
 public:
  explicit TimerObject(Device& device) : device_(device) {}
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

  TVM_FFI_DECLARE_OBJECT_INFO_FINAL(Device::kTimerType, TimerObject, tvm::runtime::TimerNode);

 private:
  void Mark() {
    std::lock_guard<std::mutex> lock(device_.mutex);
    moments_.push_back(device_.timestamps->Mark());
  }

  Device& device_;
  std::vector<Moment> moments_;
};

/* The timestamps of each device since the last Take. */
template <typename Source, typename Device, typename Moment>
class Stamps {
 public:
  /* Records one; returns their number. */
  int64_t Add(int64_t index) {
    Device& device = Source::Open(static_cast<int>(index));
    std::lock_guard<std::mutex> lock(device.mutex);
    std::vector<Moment>& moments = Of(index);
    moments.push_back(device.timestamps->Mark());
    return static_cast<int64_t>(moments.size());
  }

  /* Nanoseconds from the first timestamp to each; waits for them and clears them. */
  tvm::ffi::Array<int64_t> Take(int64_t index) {
    Device& device = Source::Open(static_cast<int>(index));
    std::lock_guard<std::mutex> lock(device.mutex);
    std::vector<Moment> moments;
    moments.swap(Of(index));
    tvm::ffi::Array<int64_t> since_first;
    for (const Moment& each : moments) {
      since_first.push_back(device.timestamps->Between(moments.front(), each));
    }
    for (const Moment& each : moments) device.timestamps->Forget(each);
    return since_first;
  }

 private:
  /* The list is guarded by its device's lock, the table by its own. */
  std::vector<Moment>& Of(int64_t index) {
    std::lock_guard<std::mutex> lock(mutex_);
    return moments_[index];
  }

  std::mutex mutex_;
  std::map<int64_t, std::vector<Moment>> moments_;
};

/* Registers the timer and handglass.KIND.stamp and .stamps. Once, while the library is loaded. */
template <typename Source, typename Device, typename Moment>
void DefineTimers() {
  static auto* stamps = new Stamps<Source, Device, Moment>();  // leaked on purpose: used at exit
  const std::string own = Words("handglass.", kKind, ".");
  DefineOver(Words("runtime.timer.", kKind), [](tvm::Device device) {
    return tvm::runtime::Timer(
        tvm::ffi::make_object<TimerObject<Device, Moment>>(Source::Open(device.device_id)));
  });
  DefineOver(own + "stamp", [](int64_t index) { return stamps->Add(index); });
  DefineOver(own + "stamps", [](int64_t index) { return stamps->Take(index); });
}

}  // namespace handglass
