#include "environment.h"

#include <cmath>
#include <cstdlib>

#include "failure.h"

namespace handglass {

std::string Variable(const std::string& name) {
  const char* value = std::getenv(name.c_str());
  return value ? value : "";
}

double NumberVariable(const std::string& name, double otherwise, double least, double most) {
  const std::string text = Variable(name);
  if (text.empty()) return otherwise;
  char* end = nullptr;
  const double number = std::strtod(text.c_str(), &end);
  if (*end != '\0' || !std::isfinite(number) || number < least || number > most) {
    Fail(name, "=", text, ": not a number from ", least, " to ", most);
  }
  return number;
}

bool FlagVariable(const std::string& name, bool otherwise) {
  const std::string text = Variable(name);
  if (text.empty()) return otherwise;
  if (text != "0" && text != "1") Fail(name, "=", text, ": neither 0 nor 1");
  return text == "1";
}

}  // namespace handglass
