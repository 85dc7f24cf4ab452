#include "settings.h"

#include "environment.h"

namespace handglass {
namespace cuda {

Settings ReadSettings() {
  Settings settings;
  settings.device = Variable("HANDGLASS_CUDA_DEVICE");
  settings.driver = Variable("HANDGLASS_CUDA_DRIVER");
  settings.block_bytes = static_cast<uint64_t>(
      NumberVariable("HANDGLASS_CUDA_BLOCK_MIB", 64, 0, 4096) * (1 << 20));
  settings.staging = FlagVariable("HANDGLASS_CUDA_STAGING", settings.staging);
  settings.blocking = FlagVariable("HANDGLASS_CUDA_BLOCKING", settings.blocking);
  settings.graphs = FlagVariable("HANDGLASS_CUDA_GRAPHS", settings.graphs);
  return settings;
}

}  // namespace cuda
}  // namespace handglass
