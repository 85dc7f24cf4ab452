// Writes JSON, one value at a time.
#pragma once

#include <cstdint>
#include <sstream>
#include <string>

namespace handglass {

class Json {
 public:
  Json& Open(char bracket) {
    Comma();
    text_ << bracket;
    first_ = true;
    return *this;
  }
  Json& Close(char bracket) {
    text_ << bracket;
    first_ = false;
    return *this;
  }
  Json& Key(const char* key) {
    Comma();
    Quote(key);
    text_ << ':';
    first_ = true;
    return *this;
  }
  template <typename Number>
  Json& Value(Number value) {
    Comma();
    text_ << value;
    return *this;
  }
  Json& Value(const std::string& value) {
    Comma();
    Quote(value);
    return *this;
  }
  Json& Value(const char* value) { return Value(std::string(value)); }
  Json& Value(bool value) {
    Comma();
    text_ << (value ? "true" : "false");
    return *this;
  }
  template <typename Type>
  Json& Field(const char* key, const Type& value) {
    return Key(key).Value(value);
  }
  /* An array of `count` numbers. */
  template <typename Number>
  Json& List(const char* key, const Number* values, size_t count) {
    Key(key).Open('[');
    for (size_t i = 0; i < count; ++i) Value(values[i]);
    return Close(']');
  }
  std::string Text() const { return text_.str(); }

 private:
  void Comma() {
    if (!first_) text_ << ',';
    first_ = false;
  }
  /* Driver names are UTF-8; control characters are replaced. */
  void Quote(const std::string& value) {
    text_ << '"';
    for (char each : value) {
      if (each == '"' || each == '\\') text_ << '\\';
      if (static_cast<unsigned char>(each) >= 0x20) text_ << each;
    }
    text_ << '"';
  }

  std::ostringstream text_;
  bool first_ = true;
};

}  // namespace handglass
