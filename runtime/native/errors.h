// Errors that a user can cause and correct, one per exit code, as in handglass/errors.py.
#pragma once

#include <sstream>
#include <stdexcept>
#include <string>

namespace handglass {

/* `kind` is the name of the class in the device protocol. */
class Error : public std::runtime_error {
 public:
  Error(int exit_code, const char* kind, const std::string& words)
      : std::runtime_error(words), exit_code(exit_code), kind(kind) {}

  const int exit_code;
  const char* const kind;
};

/* Concatenates the parts. */
template <typename... Parts>
std::string Words(const Parts&... parts) {
  std::ostringstream words;
  (words << ... << parts);
  return words.str();
}

template <typename... Parts>
Error UsageError(const Parts&... parts) {
  return Error(2, "input", Words(parts...));
}
template <typename... Parts>
Error InputError(const Parts&... parts) {
  return Error(3, "input", Words(parts...));
}
template <typename... Parts>
Error DeviceError(const Parts&... parts) {
  return Error(4, "device", Words(parts...));
}
template <typename... Parts>
Error MismatchError(const Parts&... parts) {
  return Error(5, "mismatch", Words(parts...));
}

}  // namespace handglass
