#include "engine.h"

#include <sys/mman.h>

#include <cstdlib>
#include <map>

#include "elf_library.h"
#include "errors.h"
#include "module_internal.h"
#include "sha256.h"

namespace handglass {
namespace {

/* The interface through which TVM looks up the functions of a library. */
class LoadedLibrary final : public ffi::Library {
 public:
  explicit LoadedLibrary(std::shared_ptr<const Mapping> file) : library_(std::move(file)) {}

  void* GetSymbol(const ffi::String& name) final {
    return library_.Symbol(std::string(name.data(), name.size()));
  }

 private:
  ElfLibrary library_;
};

/* Allocated memory that a tensor keeps alive. */
struct Held {
  Memory memory;
  void AllocData(DLTensor* tensor) { tensor->data = memory.get(); }
  void FreeData(DLTensor*) {}
};

}  // namespace

ffi::Module OpenLibrary(const std::shared_ptr<const Mapping>& file, const std::string& sha256) {
  if (Sha256Hex(file->data(), file->size()) != sha256) {
    throw MismatchError(file->path().string(), ": its sha256 differs from the expected one");
  }
  try {
    return ffi::CreateLibraryModule(ffi::make_object<LoadedLibrary>(file));
  } catch (const ffi::Error& error) {
    throw MismatchError(file->path().string(), ": cannot be loaded: ", FirstLineOf(error));
  }
}

DLDataType DataType(const std::string& name) {
  static const std::map<std::string, DLDataType> types = {
      {"float64", {kDLFloat, 64, 1}}, {"float32", {kDLFloat, 32, 1}},
      {"float16", {kDLFloat, 16, 1}}, {"bfloat16", {kDLUInt, 16, 1}},
      {"int8", {kDLInt, 8, 1}},       {"int16", {kDLInt, 16, 1}},
      {"int32", {kDLInt, 32, 1}},     {"int64", {kDLInt, 64, 1}},
      {"uint8", {kDLUInt, 8, 1}},     {"uint16", {kDLUInt, 16, 1}},
      {"uint32", {kDLUInt, 32, 1}},   {"uint64", {kDLUInt, 64, 1}},
      {"bool", {kDLBool, 8, 1}}};
  auto found = types.find(name);
  if (found == types.end()) throw InputError("tensor type '", name, "' is unknown");
  return found->second;
}

int64_t CountOf(const std::vector<int64_t>& shape) {
  int64_t count = 1;
  for (int64_t size : shape) {
    if (__builtin_mul_overflow(count, size, &count)) throw InputError("a shape is too large");
  }
  return count;
}

Memory Allocate(size_t bytes) {
  size_t whole = (bytes + kAlignment - 1) / kAlignment * kAlignment;
  void* data = std::aligned_alloc(kAlignment, whole == 0 ? kAlignment : whole);
  if (data == nullptr) throw DeviceError("no memory for ", bytes, " bytes more");
  return Memory(data, std::free);
}

Memory UntouchedZeros(size_t bytes) {
  size_t size = bytes == 0 ? 1 : bytes;
  void* data = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (data == MAP_FAILED) throw DeviceError("no memory for ", bytes, " bytes more");
  madvise(data, size, MADV_NOHUGEPAGE);  // one token would zero a whole huge page
  return Memory(data, [size](void* old) { munmap(old, size); });
}

ffi::Tensor TensorOver(Memory memory, const std::vector<int64_t>& shape, DLDataType type) {
  ffi::ShapeView view(shape.data(), shape.size());
  return ffi::Tensor::FromNDAlloc(Held{std::move(memory)}, view, type, DLDevice{kDLCPU, 0});
}

ffi::Tensor EmptyTensor(const std::vector<int64_t>& shape, DLDataType type) {
  return TensorOver(Allocate(static_cast<size_t>(CountOf(shape)) * type.bits / 8), shape, type);
}

std::string FirstLineOf(const ffi::Error& error) {
  std::string words = error.message();
  return words.substr(0, words.find('\n'));
}

}  // namespace handglass
