// One open device: its context, its stream, its memory, and whether it still answers.
//
// All work goes to one stream, in the order of the calls. It is a blocking stream, so that it is
// ordered with the default stream of other libraries in the process. Every method expects the
// caller to hold `mutex`.
#pragma once

#include <memory>
#include <mutex>
#include <string>

#include "driver.h"
#include "memory.h"
#include "physical.h"
#include "settings.h"

namespace handglass {
namespace cuda {

class Staging;
class Step;
class Timestamps;

struct DeviceStatistics {
  uint64_t launches = 0;
  uint64_t graph_launches = 0;
  uint64_t graph_updates = 0;  // kernels that were changed in a graph for a launch
  uint64_t cell_writes = 0;    // copies of a graph's numbers to the device, at most one per launch
  uint64_t waits = 0;
  uint64_t uploaded_bytes = 0;
  uint64_t downloaded_bytes = 0;
  uint64_t staged_bytes = 0;  // of these, through pinned memory
};

class Device {
 public:
  static constexpr const char* kTimerType = "handglass.CudaTimer";

  Device(int index, const Driver& driver, const PhysicalDevice& physical,
         const Settings& settings);
  ~Device();
  Device(const Device&) = delete;
  Device& operator=(const Device&) = delete;

  /* "cuda:0 (NVIDIA ...)", for messages. */
  std::string Title() const;

  /* Throws if the device was lost earlier. */
  void CheckAlive() const;
  bool lost() const { return !lost_.empty(); }

  /* Throws unless `result` is a success; `parts` describe the call. An error that ends the context
   * marks the device as lost. */
  template <typename... Parts>
  void Check(CUresult result, const Parts&... parts) {
    if (result != CUDA_SUCCESS) Failed(result, Words(parts...));
  }

  /* Allocates memory for a tensor; returns unused blocks to the driver before it fails. Throws. */
  uint64_t Allocate(uint64_t bytes);
  /* May be called at any time, also for a lost device: never throws. */
  void Free(uint64_t address);

  /* Starts what an open step has collected: something else is about to reach the stream. */
  void Flush();
  /* Waits until all work has ended. */
  void Sync();
  /* Whether all work has ended. */
  bool IsIdle();
  /* Notes that a kernel was started. */
  void Launched(const std::string& kernel);

  const int index;
  const Driver& driver;
  const PhysicalDevice& physical;
  const Settings settings;
  CUcontext context = nullptr;
  CUstream stream = nullptr;
  std::unique_ptr<Memory> memory;
  std::unique_ptr<Staging> staging;
  std::unique_ptr<Timestamps> timestamps;
  Step* step = nullptr;  // the open one
  DeviceStatistics statistics;
  std::mutex mutex;

 private:
  [[noreturn]] void Failed(CUresult result, const std::string& what);
  [[noreturn]] void OutOfMemory(uint64_t bytes);

  std::string lost_;
  std::string newest_kernel_;
};

/* Makes a device's context current in this thread, and restores the previous one at the end. */
class Current {
 public:
  explicit Current(Device& device);
  ~Current();
  Current(const Current&) = delete;
  Current& operator=(const Current&) = delete;

 private:
  const Functions& functions_;
};

}  // namespace cuda
}  // namespace handglass
