// Numbers of a repeated call in device memory, where the kernels of its graphs read them.
//
// A position, for instance, is another one in each call. As parameters of kernels, such numbers would
// have to be changed in a graph kernel by kernel; here one copy changes them all.
#pragma once

#include <vector>

#include "kernel_launch.h"

namespace handglass {
namespace cuda {

/* The caller holds the device's lock. */
class Cells {
 public:
  explicit Cells(Device& device) : device_(device) {}

  /* Allocates cells for these kernels, unless it has some. Throws.
   *
   * Not while kernels are being collected: memory that is free may belong to tensors of those that
   * have not been started. */
  void Allocate(const std::vector<KernelLaunch>& launches);
  /* Passes each kernel the address of its cells. */
  void Place(std::vector<KernelLaunch>* launches) const;
  /* Starts a copy of the numbers if they have changed. The stream orders it: after all launches up to
   * now, which may still be reading, and before the next. Throws. */
  void Write(const std::vector<KernelLaunch>& launches);
  /* The stream is done with the cells before it does anything else in their place. */
  void Free();

 private:
  Device& device_;
  uint64_t address_ = 0;
  std::vector<uint64_t> numbers_;  // what is in them
};

}  // namespace cuda
}  // namespace handglass
