// Ranges for a profiler of NVIDIA's: there is none here, so a range is nothing. `vm.cc` names the
// type; the header is not in the wheel.
#ifndef HANDGLASS_SUPPORT_NVTX_H_
#define HANDGLASS_SUPPORT_NVTX_H_

#include <string>

namespace tvm {
namespace support {

struct NVTXScopedRange {
  explicit NVTXScopedRange(const std::string&) {}
};

}  // namespace support
}  // namespace tvm
#endif  // HANDGLASS_SUPPORT_NVTX_H_
