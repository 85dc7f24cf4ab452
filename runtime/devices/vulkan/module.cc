// Modules of kind "vulkan": parses the bytes that TVM's Vulkan backend writes into kernels.

#include <cstring>
#include <map>
#include <memory>
#include <string>

#include "arguments.h"
#include "bytes.h"
#include "definition.h"
#include "errors.h"
#include "launch.h"
#include "module.h"

namespace handglass {
namespace vulkan {
namespace {

namespace ffi = tvm::ffi;

Kernel ReadFunction(Bytes* bytes) {
  Kernel kernel;
  kernel.name = bytes->Text();
  for (uint64_t n = bytes->Count(4); n > 0; --n) {
    const DLDataType type = ReadType(bytes);
    const bool buffer = type.code == kDLOpaqueHandle;
    if (!buffer && type.bits != 32 && type.bits != 64) {
      Fail("kernel ", kernel.name, ": a scalar of ", int{type.bits}, " bits; 32 or 64 are possible");
    }
    if (buffer && kernel.buffers != kernel.arguments.size()) {
      Fail("kernel ", kernel.name, ": a buffer after a scalar");
    }
    kernel.buffers += buffer;
    kernel.arguments.push_back(type);
  }
  for (uint64_t n = bytes->Count(8); n > 0; --n) kernel.tags.push_back(bytes->Text());
  for (uint64_t n = bytes->Count(4); n > 0; --n) bytes->Take<int32_t>();  // extra information
  return kernel;
}

void ReadPayload(const std::string& payload, Kernel* kernel) {
  Bytes bytes(payload.data(), payload.size());
  kernel->uniform = (bytes.Take<uint32_t>() & 1) && kernel->scalars();
  const uint64_t count = bytes.Count(4);
  kernel->words.resize(count);
  if (count) std::memcpy(kernel->words.data(), bytes.Skip(count * 4), count * 4);
  kernel->facts = ReadShader(kernel->words, kernel->name);
}

std::map<std::string, Kernel> ReadKernels(const std::string& blob) {
  Bytes bytes(blob.data(), blob.size());
  const std::string format = bytes.Text();
  if (format != "vulkan") Fail("damaged module: format \"", format, "\", not \"vulkan\"");
  std::map<std::string, Kernel> kernels;
  for (uint64_t n = bytes.Count(8); n > 0; --n) {
    const std::string key = bytes.Text();
    kernels[key] = ReadFunction(&bytes);
  }
  for (uint64_t n = bytes.Count(8); n > 0; --n) {
    const std::string key = bytes.Text();
    const auto found = kernels.find(key);
    if (found == kernels.end()) Fail("damaged module: a shader without a function: ", key);
    ReadPayload(bytes.Text(), &found->second);
  }
  return kernels;
}

ffi::Module Load(const ffi::Bytes& bytes) {
  std::string blob(bytes.data(), bytes.size());
  Launchers<Launcher> launchers;
  for (auto& [key, kernel] : ReadKernels(blob)) {
    if (kernel.words.empty()) Fail("damaged module: a function without a shader: ", key);
    launchers[key] = std::make_shared<Launcher>(kernel);
  }
  return ffi::Module(
      ffi::make_object<KernelModule<Launcher>>(std::move(blob), std::move(launchers)));
}

}  // namespace

TVM_FFI_STATIC_INIT_BLOCK() {
  DefineOver("ffi.Module.load_from_bytes.vulkan", Load);
}

}  // namespace vulkan
}  // namespace handglass
