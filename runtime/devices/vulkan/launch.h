// A kernel launch: maps arguments to descriptors and constants, and extents to a grid.
#pragma once

#include <tvm/ffi/function.h>

#include <memory>
#include <mutex>
#include <vector>

#include "kernel.h"
#include "pipeline.h"

namespace handglass {
namespace vulkan {

/* A kernel and its pipeline on each device that has run it. */
class Launcher {
 public:
  explicit Launcher(Kernel kernel);

  /* Records a launch on the current device of this thread.
   *
   * `arguments` are the handles (addresses of Memory), the scalars, then one extent per tag. */
  void Launch(tvm::ffi::PackedArgs arguments);

 private:
  std::shared_ptr<Pipeline> PipelineOf(Device& device);
  void Grid(const TVMFFIAny* extents, Device& device, uint32_t* grid) const;

  const Kernel kernel_;
  std::vector<std::shared_ptr<Pipeline>> pipelines_;  // by device; each under its device's lock
  std::mutex mutex_;                                  // of the vector
};

}  // namespace vulkan
}  // namespace handglass
