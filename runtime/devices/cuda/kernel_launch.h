// A kernel with its arguments, as the driver gets it: at once, or as a node of a graph.
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
  std::vector<uint64_t> arguments;  // of a kernel with cells, the last one is their address or null
  std::vector<size_t> cells;        // the arguments that it reads from them, unless that is null

  /* Whether it differs at most in numbers that are in cells. */
  bool HasSameNode(const KernelLaunch& other) const;
};

/* Whether two calls started the same kernels in the same order, whatever their arguments. */
bool HaveSameKernels(const std::vector<KernelLaunch>& one, const std::vector<KernelLaunch>& other);

/* Pointers to the arguments, as the driver wants them. It reads them during the call only. */
std::vector<void*> PointersTo(const std::vector<uint64_t>& arguments);

/* Starts a kernel. Throws. */
void StartKernel(Device& device, const KernelLaunch& launch);

}  // namespace cuda
}  // namespace handglass
