#include "timestamps.h"

#include "device.h"

namespace handglass {
namespace cuda {

Moment Timestamps::Mark() {
  device_.CheckAlive();
  const Functions& f = device_.driver.functions;
  const Current current(device_);
  device_.Flush();
  Moment moment;
  if (spare_.empty()) {
    device_.Check(f.cuEventCreate(&moment.event, CU_EVENT_DEFAULT), "cuEventCreate");
  } else {
    moment.event = spare_.back();
    spare_.pop_back();
  }
  device_.Check(f.cuEventRecord(moment.event, device_.stream), "cuEventRecord");
  return moment;
}

int64_t Timestamps::Between(const Moment& from, const Moment& to) {
  device_.CheckAlive();
  const Functions& f = device_.driver.functions;
  const Current current(device_);
  for (const Moment& each : {from, to}) {
    device_.Check(f.cuEventSynchronize(each.event), "waiting for a timestamp");
  }
  float milliseconds = 0;
  device_.Check(f.cuEventElapsedTime(&milliseconds, from.event, to.event), "cuEventElapsedTime");
  return static_cast<int64_t>(static_cast<double>(milliseconds) * 1e6);
}

}  // namespace cuda
}  // namespace handglass
