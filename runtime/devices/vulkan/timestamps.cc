#include "timestamps.h"

#include <chrono>

#include "device.h"
#include "errors.h"
#include "recorder.h"

namespace handglass {
namespace vulkan {
namespace {

constexpr uint32_t kQueries = 8192;

}  // namespace

Timestamps::Timestamps(Device& device) : device_(device) {
  if (!device.settings.timestamps || !device.physical.timestamp_bits) return;
  VkQueryPoolCreateInfo info{VK_STRUCTURE_TYPE_QUERY_POOL_CREATE_INFO};
  info.queryType = VK_QUERY_TYPE_TIMESTAMP;
  info.queryCount = kQueries;
  Check(device.functions.vkCreateQueryPool(device.handle, &info, nullptr, &pool_),
        "vkCreateQueryPool");
  for (uint32_t i = kQueries; i > 0; --i) spare_.push_back(i - 1);
}

Moment Timestamps::Mark() {
  device_.CheckAlive();
  Recorder& recorder = *device_.recorder;
  Moment moment;
  if (!pool_) {
    recorder.Sync();
    moment.host = std::chrono::duration_cast<std::chrono::nanoseconds>(
                      std::chrono::steady_clock::now().time_since_epoch())
                      .count();
    return moment;
  }
  if (spare_.empty()) Fail("more than ", kQueries, " timers of ", device_.Title(), " are unread");
  moment.query = spare_.back();
  spare_.pop_back();
  const VkCommandBuffer commands = recorder.Commands();
  moment.serial = recorder.serial();
  device_.functions.vkCmdResetQueryPool(commands, pool_, moment.query, 1);
  device_.functions.vkCmdWriteTimestamp(commands, VK_PIPELINE_STAGE_BOTTOM_OF_PIPE_BIT, pool_,
                                        moment.query);
  return moment;
}

uint64_t Timestamps::Ticks(const Moment& moment) {
  device_.recorder->Wait(moment.serial);
  uint64_t ticks = 0;
  const VkResult result = device_.functions.vkGetQueryPoolResults(
      device_.handle, pool_, moment.query, 1, sizeof ticks, &ticks, sizeof ticks,
      VK_QUERY_RESULT_64_BIT | VK_QUERY_RESULT_WAIT_BIT);
  Check(result, "vkGetQueryPoolResults on ", device_.Title());
  return ticks;
}

int64_t Timestamps::Between(const Moment& from, const Moment& to) {
  if (!pool_) return to.host - from.host;
  const uint32_t bits = device_.physical.timestamp_bits;
  const uint64_t mask = bits < 64 ? (uint64_t{1} << bits) - 1 : ~uint64_t{0};
  const uint64_t ticks = (Ticks(to) - Ticks(from)) & mask;
  return static_cast<int64_t>(static_cast<double>(ticks) *
                              device_.physical.limits().timestampPeriod);
}

void Timestamps::Forget(const Moment& moment) {
  if (pool_) spare_.push_back(moment.query);
}

}  // namespace vulkan
}  // namespace handglass
