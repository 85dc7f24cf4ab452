// TVM's runtime inside this program: libraries by our own loader, and tensors over memory of ours.
#pragma once

#include <tvm/ffi/container/tensor.h>
#include <tvm/ffi/extra/module.h>
#include <tvm/ffi/function.h>

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "mapping.h"

namespace handglass {

namespace ffi = tvm::ffi;

/* A library whose bytes have this hash; MismatchError for any other. */
ffi::Module OpenLibrary(const std::shared_ptr<const Mapping>& file, const std::string& sha256);

/* A type by numpy's name; bfloat16 is held as uint16. InputError for one that is unknown. */
DLDataType DataType(const std::string& name);

int64_t CountOf(const std::vector<int64_t>& shape);

/* Memory that compiled code may read: a multiple of 64 bytes, at a multiple of 64 bytes. */
using Memory = std::shared_ptr<void>;
constexpr size_t kAlignment = 64;

/* Unset; DeviceError if there is no more. */
Memory Allocate(size_t bytes);

/* Zeros that take memory page by page as they are written. */
Memory UntouchedZeros(size_t bytes);

/* A tensor over `memory`, which lives as long as the tensor. */
ffi::Tensor TensorOver(Memory memory, const std::vector<int64_t>& shape, DLDataType type);

/* A tensor with memory of its own, not set. */
ffi::Tensor EmptyTensor(const std::vector<int64_t>& shape, DLDataType type);

/* The first line of what TVM's errors say, without the trace. */
std::string FirstLineOf(const ffi::Error& error);

}  // namespace handglass
