// Settings from the environment, read once when the driver is opened.
//
//   HANDGLASS_CUDA_DEVICE     index or part of a name: this device becomes cuda:0
//   HANDGLASS_CUDA_DRIVER     the driver's library instead of libcuda.so.1
//   HANDGLASS_CUDA_BLOCK_MIB  size of the blocks that tensors are cut out of (64); 0: each
//                             tensor is an allocation of the driver, for tools that check bounds
//   HANDGLASS_CUDA_STAGING    1: copy through pinned buffers also where host and device share memory
//   HANDGLASS_CUDA_GRAPHS     0: start the kernels of a repeated call one by one
//   HANDGLASS_CUDA_BLOCKING   1: wait after each kernel, so that an error names the one that failed
#pragma once

#include <cstdint>
#include <string>

namespace handglass {
namespace cuda {

struct Settings {
  std::string device;
  std::string driver;
  uint64_t block_bytes = uint64_t{64} << 20;
  bool staging = false;
  bool blocking = false;
  bool graphs = true;
};

/* Throws for a value that is not a number or out of range. */
Settings ReadSettings();

}  // namespace cuda
}  // namespace handglass
