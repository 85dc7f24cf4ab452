#include "tensors.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstdlib>
#include <map>

#include "errors.h"

namespace handglass {
namespace {

/* Keeps the memory of a tensor alive. */
struct Held {
  Memory memory;
  void AllocData(DLTensor* tensor) { tensor->data = memory.get(); }
  void FreeData(DLTensor*) {}
};

}  // namespace

DLDataType DataType(const std::string& name, const std::string& where) {
  static const std::map<std::string, DLDataType> types = {
      {"float64", {kDLFloat, 64, 1}}, {"float32", {kDLFloat, 32, 1}},
      {"float16", {kDLFloat, 16, 1}}, {"bfloat16", {kDLUInt, 16, 1}},
      {"int8", {kDLInt, 8, 1}},       {"int16", {kDLInt, 16, 1}},
      {"int32", {kDLInt, 32, 1}},     {"int64", {kDLInt, 64, 1}},
      {"uint8", {kDLUInt, 8, 1}},     {"uint16", {kDLUInt, 16, 1}},
      {"uint32", {kDLUInt, 32, 1}},   {"uint64", {kDLUInt, 64, 1}},
      {"bool", {kDLBool, 8, 1}}};
  auto found = types.find(name);
  if (found == types.end()) throw InputError(where, ": dtype '", name, "' is unknown");
  return found->second;
}

size_t BytesOf(const std::vector<int64_t>& shape, DLDataType type, const std::string& where) {
  int64_t bytes = (type.bits + 7) / 8;
  bool fits = shape.size() <= kMaxRank, empty = false;
  for (int64_t size : shape) {
    // the other sizes are checked even if one is 0, because strides are their products
    fits = fits && size >= 0 && size <= kMaxTensorBytes &&
           !__builtin_mul_overflow(bytes, std::max<int64_t>(size, 1), &bytes) &&
           bytes <= kMaxTensorBytes;
    empty = empty || size == 0;
  }
  if (!fits) throw InputError(where, ": shape is too large or not the shape of a tensor");
  return empty ? 0 : static_cast<size_t>(bytes);
}

std::string ShapeText(const std::vector<int64_t>& shape) {
  std::string text;
  for (int64_t size : shape) text += (text.empty() ? "" : ", ") + std::to_string(size);
  return "(" + text + ")";
}

Memory Allocate(size_t bytes) {
  void* data = nullptr;
  size_t rest = bytes % kAlignment;
  size_t padded = bytes + (rest > 0 || bytes == 0 ? kAlignment - rest : 0);
  if (padded < bytes || posix_memalign(&data, kAlignment, padded) != 0) {
    throw DeviceError("not enough memory for another ", bytes, " bytes");
  }
  return Memory(data, std::free);
}

Memory UntouchedZeros(size_t bytes) {
  size_t size = bytes == 0 ? 1 : bytes;
  void* data = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (data == MAP_FAILED) throw DeviceError("not enough memory for another ", bytes, " bytes");
  madvise(data, size, MADV_NOHUGEPAGE);  // writing one token would zero a whole huge page
  return Memory(data, [size](void* old) { munmap(old, size); });
}

ffi::Tensor TensorOver(Memory memory, const std::vector<int64_t>& shape, DLDataType type) {
  ffi::ShapeView view(shape.data(), shape.size());
  return ffi::Tensor::FromNDAlloc(Held{std::move(memory)}, view, type, DLDevice{kDLCPU, 0});
}

ffi::Tensor EmptyTensor(const std::vector<int64_t>& shape, DLDataType type) {
  return TensorOver(Allocate(BytesOf(shape, type)), shape, type);
}

}  // namespace handglass
