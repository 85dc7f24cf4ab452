// Types, sizes and memory of tensors.
#pragma once

#include <tvm/ffi/container/tensor.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace handglass {

namespace ffi = tvm::ffi;

/* Largest size of a dimension, and largest number of bytes of a tensor. */
constexpr int64_t kMaxTensorBytes = int64_t{1} << 47;
constexpr size_t kMaxRank = 16;

/* A dtype by its numpy name; bfloat16 is stored as uint16. InputError, starting with `where`, for
 * an unknown name. */
DLDataType DataType(const std::string& name, const std::string& where = "tensor");

/* Bytes of a tensor. InputError, starting with `where`, if a size or the product of the sizes is
 * out of bounds; a size of 0 counts as 1 in the product. */
size_t BytesOf(const std::vector<int64_t>& shape, DLDataType type,
               const std::string& where = "tensor");

/* "(2, 3)", for messages. */
std::string ShapeText(const std::vector<int64_t>& shape);

/* Memory for compiled code: a multiple of 64 bytes, aligned to 64 bytes. */
using Memory = std::shared_ptr<void>;
constexpr size_t kAlignment = 64;

/* Uninitialised memory. DeviceError if there is not enough of it. */
Memory Allocate(size_t bytes);

/* Zeros whose pages are allocated when they are first written. DeviceError if there is not enough
 * memory. */
Memory UntouchedZeros(size_t bytes);

/* A tensor over `memory`, which lives as long as the tensor. */
ffi::Tensor TensorOver(Memory memory, const std::vector<int64_t>& shape, DLDataType type);

/* An uninitialised tensor with memory of its own. */
ffi::Tensor EmptyTensor(const std::vector<int64_t>& shape, DLDataType type);

}  // namespace handglass
