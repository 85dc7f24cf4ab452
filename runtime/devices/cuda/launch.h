// A kernel launch: converts arguments, and extents to a grid, and checks them against the device.
#pragma once

#include <dlpack/dlpack.h>
#include <tvm/ffi/function.h>

#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "code.h"

namespace handglass {
namespace cuda {

/* An extent of a launch: what the values after the arguments mean. */
struct Extent {
  enum Meaning { kGrid, kBlock, kShared } meaning;
  int axis;  // 0 to 2 for x, y, z
};

/* A kernel as the module describes it. */
struct Kernel {
  std::string name;
  std::vector<DLDataType> arguments;
  std::vector<Extent> extents;
  /* The arguments that the kernel reads from cells, if its last parameter, which is no argument, is
   * their address and not null (targets/codegen/cuda/cells.py). */
  std::vector<size_t> cells;
};

/* Throws for a tag of TVM that is not supported. */
Extent ReadExtent(const std::string& kernel, const std::string& tag);

class Launcher {
 public:
  Launcher(Kernel kernel, std::shared_ptr<Code> code);

  /* Starts the kernel on the current device of this thread.
   *
   * `arguments` are those of the kernel, pointers as handles, then one value per extent. */
  void Launch(tvm::ffi::PackedArgs arguments);

 private:
  /* The kernel on one device. */
  struct Loaded {
    CUfunction function = nullptr;
    int max_threads = 0;     // that its registers allow
    int static_shared = 0;   // bytes
    int dynamic_shared = 0;  // bytes that may be requested without asking again
  };

  struct Shape {
    unsigned int grid[3] = {1, 1, 1};
    unsigned int block[3] = {1, 1, 1};
    unsigned int shared = 0;
    bool is_empty() const { return !grid[0] || !grid[1] || !grid[2]; }
  };

  Loaded& On(Device& device);
  Shape ReadShape(const TVMFFIAny* values, const Device& device) const;
  unsigned int Bounded(int64_t value, int64_t most, const char* what, const Device& device) const;
  void CheckShape(const Shape& shape, const Loaded& loaded, const Device& device) const;
  void AskForShared(unsigned int bytes, Loaded* loaded, Device& device) const;
  void Start(const Shape& shape, const Loaded& loaded, const TVMFFIAny* values, Device& device);

  const Kernel kernel_;
  const std::shared_ptr<Code> code_;
  std::vector<Loaded> loaded_;  // by device
  std::mutex mutex_;            // of the vector
};

}  // namespace cuda
}  // namespace handglass
