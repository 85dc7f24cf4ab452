// A module whose kernels are functions of the plug-in, for TVM.
#pragma once

#include <tvm/ffi/extra/module.h>
#include <tvm/ffi/function.h>

#include <memory>
#include <string>
#include <unordered_map>

#include "failure.h"

namespace handglass {

template <typename Launcher>
using Launchers = std::unordered_map<std::string, std::shared_ptr<Launcher>>;

/* `Launcher` has Launch(PackedArgs). The bytes are kept to be saved unchanged. */
template <typename Launcher>
class KernelModule final : public tvm::ffi::ModuleObj {
 public:
  KernelModule(std::string blob, Launchers<Launcher> launchers)
      : blob_(std::move(blob)), launchers_(std::move(launchers)) {}

  const char* kind() const final { return kKind; }
  int GetPropertyMask() const final {
    return tvm::ffi::Module::kBinarySerializable | tvm::ffi::Module::kRunnable;
  }
  tvm::ffi::Bytes SaveToBytes() const final { return tvm::ffi::Bytes(blob_); }
  tvm::ffi::Optional<tvm::ffi::Function> GetFunction(const tvm::ffi::String& name) final {
    const auto found = launchers_.find(std::string(name.data(), name.size()));
    if (found == launchers_.end()) return std::nullopt;
    // the function may outlive the module
    return tvm::ffi::Function::FromPacked(
        [launcher = found->second](tvm::ffi::PackedArgs arguments, tvm::ffi::Any*) {
          launcher->Launch(arguments);
        });
  }

 private:
  const std::string blob_;
  const Launchers<Launcher> launchers_;
};

}  // namespace handglass
