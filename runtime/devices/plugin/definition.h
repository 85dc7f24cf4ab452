// Registers functions under the names that TVM's own runtime for a kind would use.
#pragma once

#include <tvm/ffi/function.h>

#include <string>
#include <utility>

namespace handglass {

/* Replaces TVM's own function, which may be registered: a module's bytes are read by the runtime
 * for which they were written. */
template <typename Typed>
void DefineOver(const std::string& name, Typed&& function) {
  tvm::ffi::Function::SetGlobal(
      name, tvm::ffi::Function::FromTyped(std::forward<Typed>(function), name), true);
}

}  // namespace handglass
