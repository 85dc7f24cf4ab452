// A call that is repeated, such as the decoding of a token, as one launch of a graph.
//
// While a step is open, kernels are collected instead of started; its end starts them all. The first
// time, this is one by one; from the second on, it is a graph. Numbers that differ from the last time,
// for instance the position, are in device memory (cells.h), so that the graph need not be changed.
// What else differs (the address of a tensor, the number of workgroups) is changed in it. Whatever
// reaches the stream in between (a copy, a timestamp, a wait) first starts what was collected, and the
// rest of the step goes without a graph.
#pragma once

#include <memory>
#include <vector>

#include "cells.h"
#include "graph.h"
#include "kernel_launch.h"

namespace handglass {
namespace cuda {

/* The caller holds the device's lock, except for the destructor. Code takes that lock when it is
 * destroyed: what a step no longer needs is handed out, to be destroyed without it. */
class Step {
 public:
  explicit Step(Device& device) : device_(device), cells_(device) {}
  ~Step();
  Step(const Step&) = delete;
  Step& operator=(const Step&) = delete;

  /* Begins to collect, unless another step of the device is open. Throws. */
  void Begin();
  /* Starts what was collected; `retired` receives launches that are no longer needed. Throws. */
  void End(std::vector<KernelLaunch>* retired);

  bool is_collecting() const { return collecting_; }
  void Add(KernelLaunch launch) { launches_.push_back(std::move(launch)); }
  /* Starts what was collected, kernel by kernel, and collects no more. Throws. */
  void Flush();

 private:
  void Start(std::vector<KernelLaunch>* retired);
  void Close(std::vector<KernelLaunch>* retired);
  Graph& FittingGraph();
  void DropGraphs(std::vector<KernelLaunch>* retired);

  Device& device_;
  bool collecting_ = false;
  std::vector<KernelLaunch> launches_;  // of the open step
  std::vector<KernelLaunch> previous_;  // of the last one that was whole
  std::vector<std::unique_ptr<Graph>> graphs_;  // of the same kernels, the last one launched last
  Cells cells_;                                 // of all graphs
};

}  // namespace cuda
}  // namespace handglass
