// Element types of tensors in the device protocol, and conversions to and from numbers.
#pragma once

#include <array>
#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
#include <string>
#include <type_traits>
#include <utility>

namespace handglass {

/* The upper half of a float32. */
struct BFloat16 {
  uint16_t bits;
};

template <typename T>
constexpr bool kIsInteger = std::is_integral_v<T>;

/* Rounds to nearest even. */
template <typename T>
T Store(double value) {
  if constexpr (std::is_same_v<T, BFloat16>) {
    auto bits = std::bit_cast<uint32_t>(static_cast<float>(value));
    return {static_cast<uint16_t>((bits + 0x7fff + (bits >> 16 & 1)) >> 16)};
  } else {
    return static_cast<T>(value);
  }
}

template <typename T>
T StoreInteger(int64_t value) {
  if constexpr (kIsInteger<T>) return static_cast<T>(value);
  return Store<T>(static_cast<double>(value));
}

template <typename T>
double Number(T value) {
  if constexpr (std::is_same_v<T, BFloat16>) {
    return std::bit_cast<float>(uint32_t{value.bits} << 16);
  } else {
    return static_cast<double>(value);
  }
}

/* Calls `work.operator()<T>()` with the named type; false if the name is unknown. */
template <typename Work>
bool WithElementType(const std::string& name, Work&& work) {
  if (name == "float32")
    work.template operator()<float>();
  else if (name == "float16")
    work.template operator()<_Float16>();
  else if (name == "bfloat16")
    work.template operator()<BFloat16>();
  else if (name == "int8")
    work.template operator()<int8_t>();
  else if (name == "uint8")
    work.template operator()<uint8_t>();
  else if (name == "int32")
    work.template operator()<int32_t>();
  else if (name == "uint16")
    work.template operator()<uint16_t>();
  else if (name == "uint32")
    work.template operator()<uint32_t>();
  else if (name == "int64")
    work.template operator()<int64_t>();
  else
    return false;
  return true;
}

inline bool IsElementType(const std::string& name) {
  return WithElementType(name, []<typename>() {});
}

/* Smallest and largest value of an integer type. */
inline std::pair<int64_t, int64_t> IntegerRange(const std::string& name) {
  std::pair<int64_t, int64_t> range;
  WithElementType(name, [&]<typename T>() {
    if constexpr (kIsInteger<T>) {
      range = {std::numeric_limits<T>::min(), std::numeric_limits<T>::max()};
    }
  });
  return range;
}

}  // namespace handglass
