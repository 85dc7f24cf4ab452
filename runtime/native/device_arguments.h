// Creates the arguments of a call from a client's description, in several copies if requested.
//
// With several copies, timing covers more memory than the caches hold. Contents are generated from
// a seed, so no large data is transferred.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "fields.h"
#include "json.h"
#include "tensors.h"

namespace handglass {

/* Random numbers or a constant; integer values are exact. */
struct Fill {
  enum class Kind { kNormal, kUniform, kConstant } kind = Kind::kConstant;
  double low = 0, high = 0;  // for floats: the range, twice the constant, or twice the scale
  int64_t integer_low = 0, integer_high = 0;  // for integers
};

/* Describes a tensor. bfloat16 is stored as bit patterns: one in a uint16, two in a uint32. */
struct TensorItem {
  std::vector<int64_t> shape;
  std::string dtype;
  Fill fill;
  bool bfloat16 = false;

  size_t bytes() const;
  void Write(void* data, uint64_t seed) const;
};

using Item = std::variant<int64_t, TensorItem>;

std::vector<Item> ReadItems(const Json::List& list);

class DeviceArguments {
 public:
  /* DeviceError if they need more memory than is available. */
  DeviceArguments(std::vector<Item> items, int64_t copies, uint64_t seed);

  int64_t bytes() const { return bytes_; }
  const std::vector<Item>& items() const { return items_; }

  /* The arguments for a compiled function, by copy. */
  const std::vector<std::vector<ffi::AnyView>>& calls() const { return calls_; }

  /* Refills copy 0 as if it had been made with this seed. */
  void Refill(uint64_t seed);

  /* The data of a tensor in copy 0, null for a number. */
  void* Data(size_t item) const;

 private:
  std::vector<Item> items_;
  int64_t bytes_ = 0;
  std::vector<std::vector<std::optional<ffi::Tensor>>> tensors_;  // by copy and item
  std::vector<std::vector<ffi::AnyView>> calls_;
};

}  // namespace handglass
