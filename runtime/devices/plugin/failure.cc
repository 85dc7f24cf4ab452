#include "failure.h"

#include <tvm/ffi/error.h>

namespace handglass {

void Throw(const std::string& words) { throw tvm::ffi::Error("RuntimeError", words, ""); }

}  // namespace handglass
