#include "device_arguments.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <random>

#include "element_types.h"
#include "errors.h"
#include "machine.h"

namespace handglass {
namespace {

constexpr int64_t kMaxSize = int64_t{1} << 40, kMaxTensors = 1 << 16;
constexpr double kLargest = 1e30;  // well within float32 and bfloat16
constexpr double kSpared = 0.9;    // usable fraction of the available memory

bool IsFloat(const std::string& dtype) { return dtype.find("float") != dtype.npos; }

Fill ReadScale(Fields& fields) {
  double scale = fields.Number("scale", 0, kLargest);
  return {Fill::Kind::kNormal, scale, scale, 0, 0};
}

Fill ReadRange(Fields& fields, const std::string& dtype, const char* low, const char* high,
               Fill::Kind kind) {
  Fill fill = {kind, 0, 0, 0, 0};
  if (IsFloat(dtype)) {
    fill.low = fields.Number(low, -kLargest, kLargest);
    fill.high = fields.Number(high, -kLargest, kLargest);
  } else {
    auto [least, most] = IntegerRange(dtype);
    fill.integer_low = fields.Integer(low, least, most);
    fill.integer_high = fields.Integer(high, least, most);
  }
  if (fill.low > fill.high || fill.integer_low > fill.integer_high) {
    throw InputError(fields.where(), ": low is above high");
  }
  return fill;
}

/* The fill for tensors of `dtype`, and whether its numbers are stored as bfloat16. */
Fill ReadFill(Fields fields, const std::string& dtype, bool* bfloat16) {
  std::string kind = fields.Text("kind");
  Fill fill;
  *bfloat16 = kind == "bfloat16" || dtype == "bfloat16";
  if (kind == "bfloat16" && dtype != "bfloat16" && dtype != "uint16" && dtype != "uint32") {
    throw InputError("fill 'bfloat16' needs dtype bfloat16, uint16 or uint32, not ", dtype);
  } else if (kind == "normal" && !IsFloat(dtype)) {
    throw InputError("fill 'normal' makes floats, ", dtype, " takes 'uniform' or 'constant'");
  } else if (kind == "normal" || kind == "bfloat16") {
    fill = ReadScale(fields);
  } else if (kind == "uniform") {
    fill = ReadRange(fields, dtype, "low", "high", Fill::Kind::kUniform);
  } else if (kind == "constant") {
    fill = ReadRange(fields, dtype, "value", "value", Fill::Kind::kConstant);
  } else {
    throw InputError(fields.where(), ": 'kind' must be one of normal, bfloat16, uniform, constant");
  }
  fields.Done();
  return fill;
}

Item ReadItem(const Json& value, const std::string& where) {
  Fields fields(value, where);
  if (fields.Has("int")) {
    using Limits = std::numeric_limits<int64_t>;
    int64_t number = fields.Integer("int", Limits::min(), Limits::max());
    fields.Done();
    return number;
  }
  TensorItem item;
  item.shape = Sizes(fields.List("shape", kMaxRank), where + ", shape");
  for (int64_t size : item.shape) {
    if (size < 1 || size > kMaxSize) {
      throw InputError(where, ": a size of a shape must be from 1 to ", kMaxSize, ", got ", size);
    }
  }
  item.dtype = fields.Text("dtype");
  if (!IsElementType(item.dtype)) throw InputError(where, ": dtype '", item.dtype, "' is unknown");
  BytesOf(item.shape, DataType(item.dtype), where);
  item.fill = ReadFill(fields.Inner("fill"), item.dtype, &item.bfloat16);
  fields.Done();
  return item;
}

/* Fills `count` elements of a type one after another. */
template <typename T>
void WriteElements(T* to, size_t count, const Fill& fill, std::mt19937_64& random) {
  std::normal_distribution<float> normal(0, 1);
  std::uniform_real_distribution<double> real(fill.low, fill.high);
  std::uniform_int_distribution<int64_t> integer(fill.integer_low, fill.integer_high);
  for (size_t i = 0; i < count; ++i) {
    switch (fill.kind) {
      case Fill::Kind::kNormal:
        to[i] = Store<T>(normal(random) * fill.high);
        break;
      case Fill::Kind::kUniform:
        to[i] = kIsInteger<T> ? StoreInteger<T>(integer(random)) : Store<T>(real(random));
        break;
      case Fill::Kind::kConstant:
        to[i] = kIsInteger<T> ? StoreInteger<T>(fill.integer_low) : Store<T>(fill.low);
        break;
    }
  }
}

/* Throws if memory is short: Linux would overcommit and kill the process later. */
void CheckMemory(double bytes) {
  auto available = AvailableMemory();
  if (available && bytes > static_cast<double>(*available) * kSpared) {
    throw DeviceError("the arguments need ", std::llround(bytes / 1e6), " MB, the device has ",
                      *available / 1000000, " available; request fewer copies");
  }
}

}  // namespace

size_t TensorItem::bytes() const { return BytesOf(shape, DataType(dtype)); }

void TensorItem::Write(void* data, uint64_t seed) const {
  std::mt19937_64 random(seed);
  if (bfloat16) {
    WriteElements(static_cast<BFloat16*>(data), bytes() / sizeof(BFloat16), fill, random);
    return;
  }
  WithElementType(dtype, [&]<typename T>() {
    WriteElements(static_cast<T*>(data), bytes() / sizeof(T), fill, random);
  });
}

std::vector<Item> ReadItems(const Json::List& list) {
  std::vector<Item> items;
  for (const Json& value : list) {
    items.push_back(ReadItem(value, "item " + std::to_string(items.size())));
  }
  return items;
}

DeviceArguments::DeviceArguments(std::vector<Item> items, int64_t copies, uint64_t seed)
    : items_(std::move(items)) {
  auto count = static_cast<int64_t>(items_.size());
  if (copies < 1 || copies > kMaxTensors / std::max<int64_t>(count, 1)) {
    throw InputError(copies, " copies of ", count, " items; ", kMaxTensors, " are possible");
  }
  double needed = 0;
  for (const Item& item : items_) {
    if (const auto* tensor = std::get_if<TensorItem>(&item)) {
      needed += static_cast<double>(tensor->bytes() + kAlignment) * static_cast<double>(copies);
    }
  }
  CheckMemory(needed);
  tensors_.resize(static_cast<size_t>(copies));
  calls_.resize(static_cast<size_t>(copies));
  for (size_t copy = 0; copy < tensors_.size(); ++copy) {
    tensors_[copy].reserve(items_.size());  // the views below point into it
    for (const Item& item : items_) {
      const auto* tensor = std::get_if<TensorItem>(&item);
      if (tensor == nullptr) {
        tensors_[copy].emplace_back();
        calls_[copy].emplace_back(std::get<int64_t>(item));
      } else {
        bytes_ += static_cast<int64_t>(tensor->bytes());
        tensors_[copy].emplace_back(EmptyTensor(tensor->shape, DataType(tensor->dtype)));
        calls_[copy].emplace_back(*tensors_[copy].back());
      }
    }
  }
  Refill(seed);
  for (size_t copy = 1; copy < tensors_.size(); ++copy) {
    for (size_t i = 0; i < items_.size(); ++i) {
      if (const auto* tensor = std::get_if<TensorItem>(&items_[i])) {
        std::memcpy(tensors_[copy][i]->data_ptr(), Data(i), tensor->bytes());
      }
    }
  }
}

void DeviceArguments::Refill(uint64_t seed) {
  for (size_t i = 0; i < items_.size(); ++i) {
    constexpr uint64_t kStride = 0x9e3779b97f4a7c15;  // items of one seed differ
    if (const auto* tensor = std::get_if<TensorItem>(&items_[i])) {
      tensor->Write(Data(i), seed + (i + 1) * kStride);
    }
  }
}

void* DeviceArguments::Data(size_t item) const {
  const auto& tensor = tensors_.front()[item];
  return tensor ? tensor->data_ptr() : nullptr;
}

}  // namespace handglass
