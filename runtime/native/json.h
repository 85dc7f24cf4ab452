// JSON (RFC 8259), strictly: one value, no key twice, valid UTF-8, nothing nested deeper than 64.
#pragma once

#include <cstdint>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

namespace handglass {

/* What was read is not JSON; the words say where. */
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

  /* In one line; numbers that are not finite are a JsonError. */
  std::string Dump() const;

  /* The value if it is of that type, else null; an integer is no double. */
  template <typename T>
  const T* As() const {
    return std::get_if<T>(&value_);
  }

  /* The value of a key, null where this is no object or has none such. */
  const Json* Find(std::string_view key) const;

 private:
  std::variant<std::nullptr_t, bool, int64_t, double, std::string, List, Object> value_ = nullptr;
};

/* At most `longest` bytes of a value as text, for the words of an error. */
std::string Shown(const Json& value, size_t longest = 80);

}  // namespace handglass
