// Reads the bytes of a module: little-endian integers and length-prefixed strings.
#pragma once

#include <cstdint>
#include <cstring>
#include <string>

#include "failure.h"

namespace handglass {

/* Never reads past the end; throws instead. */
class Bytes {
 public:
  Bytes(const char* data, size_t size) : at_(data), end_(data + size) {}

  template <typename Number>
  Number Take() {
    Number value;
    std::memcpy(&value, Skip(sizeof value), sizeof value);
    return value;
  }
  std::string Text() {
    const uint64_t size = Count(1);
    return std::string(Skip(size), size);
  }
  /* Reads a count of items of at least `least` bytes each. */
  uint64_t Count(uint64_t least) {
    const auto count = Take<uint64_t>();
    if (count > static_cast<uint64_t>(end_ - at_) / least) Bad();
    return count;
  }
  const char* Skip(uint64_t size) {
    if (size > static_cast<uint64_t>(end_ - at_)) Bad();
    const char* here = at_;
    at_ += size;
    return here;
  }
  bool done() const { return at_ == end_; }

 private:
  [[noreturn]] static void Bad() { Fail("damaged module: the bytes end too early"); }

  const char* at_;
  const char* end_;
};

}  // namespace handglass
