// Error messages: each begins with the kind ("vulkan: ") and states what failed, where, the value.
#pragma once

#include <sstream>
#include <string>

namespace handglass {

/* The kind of this plug-in: the name in --device and in TVM. Each kind defines it. */
extern const char* const kKind;

/* Concatenates the parts. */
template <typename... Parts>
std::string Words(const Parts&... parts) {
  std::ostringstream words;
  (words << ... << parts);
  return words.str();
}

/* Python sees a RuntimeError. In a separate file: TVM's headers take a second to compile. */
[[noreturn]] void Throw(const std::string& words);

template <typename... Parts>
[[noreturn]] void Fail(const Parts&... parts) {
  Throw(Words(kKind, ": ", parts...));
}

}  // namespace handglass
