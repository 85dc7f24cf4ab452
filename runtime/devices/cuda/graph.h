// Captured graphs: the kernels of a call, recorded once and started again as one.
#pragma once

#include <memory>
#include <set>

#include "device.h"

namespace handglass {
namespace cuda {

/* A graph that is being captured, then one that can be launched. */
class Capture {
 public:
  /* Begins to record what is started on the device's stream. The caller holds the device's lock, as
   * for all functions but Launch and the destructor. Throws. */
  explicit Capture(Device& device);
  ~Capture();
  Capture(const Capture&) = delete;
  Capture& operator=(const Capture&) = delete;

  /* Ends the recording and prepares the graph for launches. Throws. */
  void End();
  /* Starts the recorded kernels. Throws. */
  void Launch();
  /* Keeps the code of a recorded kernel. */
  void Keep(std::shared_ptr<void> code) { kept_.insert(std::move(code)); }
  /* The number of recorded operations. */
  size_t nodes() const { return nodes_; }

 private:
  Device& device_;
  const int64_t arena_;
  CUgraphExec executable_ = nullptr;
  size_t nodes_ = 0;
  std::set<std::shared_ptr<void>> kept_;
};

}  // namespace cuda
}  // namespace handglass
