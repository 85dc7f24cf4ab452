// The driver's library, opened at run time.
#pragma once

#include <string>

#include "driver_api.h"
#include "failure.h"

namespace handglass {
namespace cuda {

struct Driver {
  Functions functions;
  int version = 0;  // 1000 * major + 10 * minor of the newest CUDA that it supports

  std::string VersionText() const { return Words(version / 1000, ".", version % 1000 / 10); }
  /* "CUDA_ERROR_OUT_OF_MEMORY (2)" */
  std::string NameOf(CUresult result) const;
};

/* States why this machine has no CUDA device. Internal: the registry catches it. */
struct Absent {
  std::string words;
};

/* Opens `library`, or libcuda.so.1 if it is empty, and initializes it. Throws Absent. */
Driver OpenDriver(const std::string& library);

}  // namespace cuda
}  // namespace handglass
