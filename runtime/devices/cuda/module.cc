// Modules of kind "cuda": parses the bytes that targets/codegen/cuda/module_bytes.py writes.

#include "arguments.h"
#include "bytes.h"
#include "definition.h"
#include "launch.h"
#include "module.h"

namespace handglass {
namespace cuda {
namespace {

namespace ffi = tvm::ffi;

constexpr char kFormat[] = "handglass.cuda.2";
constexpr char kWithoutCells[] = "handglass.cuda.1";  // bundles that were compiled before

void CheckType(const Kernel& kernel, DLDataType type) {
  const bool is_float = type.code == kDLFloat;
  const bool known = type.code == kDLOpaqueHandle || type.code == kDLInt ||
                     type.code == kDLUInt || type.code == kDLBool || is_float;
  if (!known || type.lanes != 1 || type.bits > 64 || (is_float && type.bits < 32)) {
    Fail("kernel ", kernel.name, ": an argument of DLPack type ", int{type.code}, " with ",
         int{type.bits}, " bits and ", type.lanes, " lanes, which is not supported");
  }
}

void CheckCell(const Kernel& kernel, uint64_t number) {
  const bool is_argument = number < kernel.arguments.size();
  const uint8_t code = is_argument ? kernel.arguments[number].code : uint8_t{kDLOpaqueHandle};
  if (code == kDLInt || code == kDLUInt) return;
  Fail("damaged module: kernel ", kernel.name, " reads argument ", number,
       " from a cell, which is no integer of its ", kernel.arguments.size(), " arguments");
}

Kernel ReadKernel(Bytes* bytes, bool has_cells) {
  Kernel kernel;
  kernel.name = bytes->Text();
  for (uint64_t n = bytes->Count(4); n > 0; --n) {
    kernel.arguments.push_back(ReadType(bytes));
    CheckType(kernel, kernel.arguments.back());
  }
  for (uint64_t n = bytes->Count(8); n > 0; --n) {
    kernel.extents.push_back(ReadExtent(kernel.name, bytes->Text()));
  }
  for (uint64_t n = has_cells ? bytes->Count(8) : 0; n > 0; --n) {
    const auto number = bytes->Take<uint64_t>();
    CheckCell(kernel, number);
    kernel.cells.push_back(number);
  }
  return kernel;
}

ffi::Module Load(const ffi::Bytes& given) {
  std::string blob(given.data(), given.size());
  Bytes bytes(blob.data(), blob.size());
  const std::string format = bytes.Text();
  if (format != kFormat && format != kWithoutCells) {
    Fail("damaged module: format \"", format, "\", not \"", kFormat, "\"");
  }
  std::vector<Kernel> kernels;
  for (uint64_t n = bytes.Count(24); n > 0; --n) kernels.push_back(ReadKernel(&bytes, format == kFormat));
  std::vector<Image> images;
  for (uint64_t n = bytes.Count(16); n > 0; --n) {
    std::string architecture = bytes.Text();
    images.push_back(MakeImage(std::move(architecture), bytes.Text()));
  }
  if (images.empty()) Fail("damaged module: it has no code");
  if (!bytes.done()) Fail("damaged module: bytes after its end");
  const auto code = std::make_shared<Code>(std::move(images));
  Launchers<Launcher> launchers;
  for (Kernel& kernel : kernels) {
    const std::string name = kernel.name;
    launchers[name] = std::make_shared<Launcher>(std::move(kernel), code);
  }
  return ffi::Module(
      ffi::make_object<KernelModule<Launcher>>(std::move(blob), std::move(launchers)));
}

}  // namespace

TVM_FFI_STATIC_INIT_BLOCK() {
  DefineOver("ffi.Module.load_from_bytes.cuda", Load);
}

}  // namespace cuda
}  // namespace handglass
