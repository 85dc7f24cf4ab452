#include "first_device.h"

#include <cctype>
#include <cstdlib>

#include "failure.h"

namespace handglass {
namespace {

std::string Lower(std::string text) {
  for (char& each : text) each = static_cast<char>(std::tolower(static_cast<unsigned char>(each)));
  return text;
}

bool Matches(const std::string& wanted, size_t index, const std::string& name) {
  const bool number = wanted.find_first_not_of("0123456789") == std::string::npos;
  if (number && wanted.size() < 4) return index == std::strtoul(wanted.c_str(), nullptr, 10);
  return Lower(name).find(Lower(wanted)) != std::string::npos;
}

}  // namespace

size_t IndexOfNamed(const std::vector<std::string>& names, const std::string& wanted,
                    const std::string& variable) {
  std::string known;
  for (size_t i = 0; i < names.size(); ++i) {
    if (Matches(wanted, i, names[i])) return i;
    known += Words(known.empty() ? "" : ", ", i, " = ", names[i]);
  }
  Fail(variable, "=", wanted, ": no such device; there is ", known.empty() ? "none" : known);
}

}  // namespace handglass
