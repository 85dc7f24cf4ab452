// The arguments of a call: what a client describes, made here, in as many copies as it wants.
//
// Several copies let timing walk over more memory than the caches hold. Contents follow from a
// seed, so nothing large has to travel.
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

/* Random numbers, or one number everywhere; the value of integers is exact. */
struct Fill {
  enum class Kind { kNormal, kUniform, kConstant } kind = Kind::kConstant;
  double low = 0, high = 0;  // of floats; of a constant both, of a normal the scale
  int64_t integer_low = 0, integer_high = 0;  // of integers
};

/* A tensor still to be made; bfloat16 is held as bit patterns, in uint32 two a word. */
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
  /* DeviceError where they need more than there is. */
  DeviceArguments(std::vector<Item> items, int64_t copies, uint64_t seed);

  int64_t bytes() const { return bytes_; }
  const std::vector<Item>& items() const { return items_; }

  /* What a compiled function takes, copy by copy. */
  const std::vector<std::vector<ffi::AnyView>>& calls() const { return calls_; }

  /* Copy 0 as if it had been made with this seed. */
  void Refill(uint64_t seed);

  /* The memory of copy 0, null for a number. */
  void* Data(size_t item) const;

 private:
  std::vector<Item> items_;
  int64_t bytes_ = 0;
  std::vector<std::vector<std::optional<ffi::Tensor>>> tensors_;  // by copy and item
  std::vector<std::vector<ffi::AnyView>> calls_;
};

}  // namespace handglass
