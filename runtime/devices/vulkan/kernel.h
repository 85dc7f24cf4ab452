// A kernel in a module: its host arguments and its shader.
#pragma once

#include <dlpack/dlpack.h>

#include <cstdint>
#include <string>
#include <vector>

#include "spirv.h"

namespace handglass {
namespace vulkan {

struct Kernel {
  std::string name;
  std::vector<DLDataType> arguments;  // buffers (opaque handles) first, then scalars
  std::vector<std::string> tags;      // launch extents, in the order of the call
  std::vector<uint32_t> words;
  bool uniform = false;  // scalars come in a uniform buffer, not as push constants
  ShaderFacts facts;
  uint32_t buffers = 0;

  uint32_t scalars() const { return static_cast<uint32_t>(arguments.size()) - buffers; }
  uint32_t scalar_bytes() const { return 8 * scalars(); }
  bool Writes(uint32_t buffer) const {
    return buffer >= facts.writable.size() || facts.writable[buffer];
  }
};

class Device;

/* Throws if the device cannot run the kernel; names kernel, limit, value and device. */
void CheckKernel(const Kernel& kernel, const Device& device);

}  // namespace vulkan
}  // namespace handglass
