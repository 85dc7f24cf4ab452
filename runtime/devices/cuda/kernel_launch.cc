#include "kernel_launch.h"

#include <algorithm>

#include "device.h"

namespace handglass {
namespace cuda {

bool KernelLaunch::HasSameNode(const KernelLaunch& other) const {
  if (function != other.function || shared != other.shared ||
      !std::equal(grid, grid + 3, other.grid) || !std::equal(block, block + 3, other.block)) {
    return false;
  }
  for (size_t i = 0; i < arguments.size(); ++i) {  // of the same function: as many
    if (arguments[i] == other.arguments[i]) continue;
    if (std::find(cells.begin(), cells.end(), i) == cells.end()) return false;
  }
  return true;
}

bool HaveSameKernels(const std::vector<KernelLaunch>& one, const std::vector<KernelLaunch>& other) {
  return std::equal(one.begin(), one.end(), other.begin(), other.end(),
                    [](const auto& a, const auto& b) { return a.function == b.function; });
}

std::vector<void*> PointersTo(const std::vector<uint64_t>& arguments) {
  std::vector<void*> pointers;
  for (const uint64_t& each : arguments) pointers.push_back(const_cast<uint64_t*>(&each));
  return pointers;
}

void StartKernel(Device& device, const KernelLaunch& launch) {
  std::vector<void*> pointers = PointersTo(launch.arguments);
  const unsigned int* grid = launch.grid;
  const unsigned int* block = launch.block;
  device.Check(device.driver.functions.cuLaunchKernel(
                   launch.function, grid[0], grid[1], grid[2], block[0], block[1], block[2],
                   launch.shared, device.stream, pointers.data(), nullptr),
               "kernel ", launch.kernel);
}

}  // namespace cuda
}  // namespace handglass
