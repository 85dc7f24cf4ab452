// Parses enough of a SPIR-V shader to check it against a device before it is compiled.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

namespace handglass {
namespace vulkan {

/* The subgroup size that a kernel requires. 0: any. */
struct SubgroupNeed {
  uint32_t size = 0;
  bool exactly = false;  // false: at least
};

struct ShaderFacts {
  uint32_t version = 0;                          // 0x00010300 is 1.3
  std::vector<uint32_t> capabilities;
  std::vector<std::string> entry_points;         // of compute shaders
  std::array<uint32_t, 3> local_size{1, 1, 1};
  uint64_t shared_bytes = 0;                     // variables of class Workgroup
  SubgroupNeed subgroup;                         // of OpModuleProcessed
  std::vector<bool> writable;                    // by binding of set 0; false: decorated NonWritable
};

/* Throws if the words are not SPIR-V; the error names `kernel`. */
ShaderFacts ReadShader(const std::vector<uint32_t>& words, const std::string& kernel);

}  // namespace vulkan
}  // namespace handglass
