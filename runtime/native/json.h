// A strict JSON (RFC 8259) reader and writer: no duplicate keys, valid UTF-8 without lone
// surrogates, a nesting depth of at most 64, at most 2^21 values, and numbers that are finite.
#pragma once

#include <cstdint>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

namespace handglass {

/* The text is not JSON. The message says why and at which byte. */
struct JsonError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

class Json {
 public:
  using List = std::vector<Json>;
  using Object = std::vector<std::pair<std::string, Json>>;  // as written

  Json() = default;  // null
  Json(bool value) : value_(value) {}
  Json(int value) : value_(int64_t{value}) {}
  Json(int64_t value) : value_(value) {}
  Json(double value) : value_(value) {}
  Json(const char* value) : value_(std::string(value)) {}
  Json(std::string value) : value_(std::move(value)) {}
  Json(List value) : value_(std::move(value)) {}
  Json(Object value) : value_(std::move(value)) {}

  static Json Parse(std::string_view text);

  /* The value as JSON text on one line. JsonError for a number that is not finite. */
  std::string Dump() const;

  /* The value if it has this type, otherwise null. An integer is not a double. */
  template <typename T>
  const T* As() const {
    return std::get_if<T>(&value_);
  }

  /* The value of a key, or null if this is not an object or lacks the key. */
  const Json* Find(std::string_view key) const;

 private:
  std::variant<std::nullptr_t, bool, int64_t, double, std::string, List, Object> value_ = nullptr;
};

/* A value as text for a message, truncated to `longest` bytes. */
std::string Shown(const Json& value, size_t longest = 80);

}  // namespace handglass
