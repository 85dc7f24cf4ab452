// A call that is repeated, such as the decoding of a token, as one launch of a graph.
//
// While a step is open, kernels are collected instead of started; its end starts them all. If a
// graph of the same kernels exists, it is launched again. Numbers that differ from the last time, for
// instance the position, are in device memory: kernels of a graph read them from its cells, which one
// copy in the stream writes before the launch. What else differs (an address, the number of
// workgroups) is changed in the graph. Whatever reaches the stream in between (a copy, a timestamp, a
// wait) first starts what was collected, and the rest of the step goes without a graph.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "driver.h"

namespace handglass {
namespace cuda {

class Code;
class Device;

/* A kernel launch with copies of its arguments. */
struct KernelLaunch {
  std::string kernel;
  std::shared_ptr<Code> code;  // holds the function
  CUfunction function = nullptr;
  unsigned int grid[3] = {1, 1, 1};
  unsigned int block[3] = {1, 1, 1};
  unsigned int shared = 0;
  std::vector<uint64_t> arguments;  // of a kernel with cells, the last one is their address: null
  std::vector<size_t> cells;        // the arguments that may be in them

  /* Whether it differs at most in numbers that are in cells. */
  bool HasSameNode(const KernelLaunch& other) const;
};

/* Starts a kernel. Throws. */
void StartKernel(Device& device, const KernelLaunch& launch);

/* The caller holds the device's lock, except for the destructor. Code takes that lock when it is
 * destroyed: what a step no longer needs is handed out, to be destroyed without it. */
class Step {
 public:
  explicit Step(Device& device) : device_(device) {}
  ~Step();
  Step(const Step&) = delete;
  Step& operator=(const Step&) = delete;

  /* Begins to collect, unless another step of the device is open. */
  void Begin();
  /* Starts what was collected; `retired` receives launches that are no longer needed. Throws. */
  void End(std::vector<KernelLaunch>* retired);

  bool is_collecting() const { return collecting_; }
  void Add(KernelLaunch launch) { launches_.push_back(std::move(launch)); }
  /* Starts what was collected, kernel by kernel, and collects no more. Throws. */
  void Flush();

 private:
  void Start();
  void Build();
  void Update();
  void AllocateCells();
  void PlaceCells();
  void WriteCells();
  void DropGraph();

  Device& device_;
  bool collecting_ = false;
  std::vector<KernelLaunch> launches_;  // of the open step
  std::vector<KernelLaunch> previous_;  // of the last one: those in the graph, if there is one
  std::vector<CUgraphNode> nodes_;
  uint64_t cells_ = 0;             // address of the cells of all kernels, if there are any
  std::vector<uint64_t> numbers_;  // what is in them
  CUgraph graph_ = nullptr;
  CUgraphExec executable_ = nullptr;
};

}  // namespace cuda
}  // namespace handglass
