// A graph of kernels that can be launched again and again: a chain, as the kernels in the stream.
#pragma once

#include <vector>

#include "kernel_launch.h"

namespace handglass {
namespace cuda {

/* The caller holds the device's lock, except for the destructor; its context is current. */
class Graph {
 public:
  explicit Graph(Device& device) : device_(device) {}
  Graph(const Graph&) = delete;
  Graph& operator=(const Graph&) = delete;

  /* Makes it of these kernels. Throws. */
  void Build(const std::vector<KernelLaunch>& launches);
  /* Whether it is of these kernels as they are, but for numbers in cells. */
  bool Has(const std::vector<KernelLaunch>& launches) const;
  /* Changes the nodes of kernels that differ; all are the same kernels. Throws. */
  void Update(const std::vector<KernelLaunch>& launches);
  /* Throws. */
  void Launch();
  /* Destroys it, which must be done. The driver keeps it until it has run. Code takes the device's
   * lock when it is destroyed: `retired` receives what must be destroyed without it. */
  void Drop(std::vector<KernelLaunch>* retired);

 private:
  Device& device_;
  std::vector<KernelLaunch> launches_;  // as they are in the graph
  std::vector<CUgraphNode> nodes_;
  CUgraph graph_ = nullptr;
  CUgraphExec executable_ = nullptr;
};

}  // namespace cuda
}  // namespace handglass
