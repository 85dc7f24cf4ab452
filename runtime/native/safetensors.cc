#include "safetensors.h"

#include <algorithm>
#include <cstring>

#include "errors.h"
#include "fields.h"

namespace handglass {
namespace {

constexpr size_t kLongest = 200;          // part of a name in a message
constexpr uint64_t kMaxHeader = 8 << 20;  // as in runtime/bundle/tensors.py

/* safetensors code -> dtype name in this project. */
std::string TypeName(const std::string& code, const std::string& where) {
  static const std::map<std::string, std::string> names = {
      {"BOOL", "bool"},  {"U8", "uint8"},    {"I8", "int8"},       {"U16", "uint16"},
      {"I16", "int16"},  {"U32", "uint32"},  {"I32", "int32"},     {"U64", "uint64"},
      {"I64", "int64"},  {"F16", "float16"}, {"BF16", "bfloat16"}, {"F32", "float32"},
      {"F64", "float64"}};
  auto found = names.find(code);
  if (found == names.end()) throw InputError(where, ": dtype ", code, " is unknown");
  return found->second;
}

}  // namespace

Safetensors::Safetensors(std::shared_ptr<const Mapping> file) : file_(std::move(file)) {
  std::string where = file_->path().string();
  uint64_t length = 0;
  if (file_->size() >= 8) std::memcpy(&length, file_->data(), 8);
  if (file_->size() < 8 || length > kMaxHeader || length > file_->size() - 8) {
    throw InputError(where, ": its header has ", length, " bytes (limit ", kMaxHeader,
                     "); not a safetensors file, or truncated");
  }
  try {
    // parsed in a copy: another process may change a mapped file meanwhile
    Json header = Json::Parse(std::string(file_->text().substr(8, length)));
    for (const auto& [name, value] : Fields(header, where).All()) {
      if (name != "__metadata__") ReadEntry(name, value, 8 + length);
    }
  } catch (const JsonError& error) {
    throw InputError(where, ": the header is not valid JSON: ", error.what());
  }
  CheckCoverage(8 + length);
}

void Safetensors::ReadEntry(const std::string& name, const Json& value, size_t data) {
  std::string where = Words(file_->path().string(), ": tensor '", name.substr(0, kLongest), "'");
  Fields fields(value, where);
  StoredTensor stored;
  stored.dtype = TypeName(fields.Text("dtype"), where);
  stored.shape = Sizes(fields.List("shape", kMaxRank), where);
  std::vector<int64_t> offsets = Sizes(fields.List("data_offsets", 2), where);
  fields.Done();
  stored.bytes = BytesOf(stored.shape, DataType(stored.dtype), where);
  if (offsets.size() != 2 || offsets[0] > offsets[1] ||
      static_cast<size_t>(offsets[1] - offsets[0]) != stored.bytes) {
    throw InputError(where, ": data_offsets must span its ", stored.bytes, " bytes, got ",
                     Shown(*value.Find("data_offsets")));
  }
  stored.start = data + static_cast<size_t>(offsets[0]);
  tensors_.emplace(name, std::move(stored));
}

/* Checks that the tensors cover the data without overlaps or gaps, up to the last byte. */
void Safetensors::CheckCoverage(size_t data) const {
  std::vector<const StoredTensor*> order;
  for (const auto& [name, stored] : tensors_) order.push_back(&stored);
  std::sort(order.begin(), order.end(), [](const StoredTensor* a, const StoredTensor* b) {
    return std::pair(a->start, a->bytes) < std::pair(b->start, b->bytes);
  });
  size_t reached = data;
  for (const StoredTensor* stored : order) {
    if (stored->start != reached) reached = file_->size() + 1;
    reached += stored->bytes;
    if (reached > file_->size()) break;
  }
  if (reached != file_->size()) {
    throw InputError(file_->path().string(), ": the tensors overlap or leave gaps");
  }
}

ffi::Tensor Safetensors::Tensor(const StoredTensor& stored) const {
  auto* data = const_cast<uint8_t*>(file_->data()) + stored.start;
  if (reinterpret_cast<uintptr_t>(data) % kAlignment == 0) {
    return TensorOver(Memory(file_, data), stored.shape, DataType(stored.dtype));
  }
  ffi::Tensor copy = EmptyTensor(stored.shape, DataType(stored.dtype));
  std::memcpy(copy.data_ptr(), data, stored.bytes);
  return copy;
}

}  // namespace handglass
