#include "options.h"

#include <algorithm>
#include <charconv>

#include "errors.h"

namespace handglass {

Options::Options(const std::vector<std::string>& arguments, const std::vector<std::string>& valued,
                 const std::vector<std::string>& plain) {
  auto contains = [](const std::vector<std::string>& list, const std::string& item) {
    return std::find(list.begin(), list.end(), item) != list.end();
  };
  for (size_t i = 0; i < arguments.size(); ++i) {
    const std::string& argument = arguments[i];
    if (argument == "-" || !argument.starts_with('-')) {
      words_.push_back(argument);
      continue;
    }
    size_t equals = argument.starts_with("--") ? argument.find('=') : argument.npos;
    std::string name = argument.substr(0, equals);
    if (contains(plain, name) && equals == argument.npos) {
      given_[name];
    } else if (!contains(valued, name)) {
      throw UsageError("unknown flag ", argument, "; see handglass-native --help");
    } else if (equals != argument.npos) {
      given_[name].push_back(argument.substr(equals + 1));
    } else if (i + 1 < arguments.size()) {
      given_[name].push_back(arguments[++i]);
    } else {
      throw UsageError(name, " needs a value");
    }
  }
}

std::vector<std::string> Options::All(const std::string& flag) const {
  auto found = given_.find(flag);
  return found == given_.end() ? std::vector<std::string>() : found->second;
}

std::optional<std::string> Options::Text(const std::string& flag) const {
  std::vector<std::string> values = All(flag);
  if (values.size() > 1) throw UsageError(flag, " is given ", values.size(), " times");
  if (values.empty()) return std::nullopt;
  return values.front();
}

std::optional<int64_t> Options::Integer(const std::string& flag, int64_t low, int64_t high) const {
  std::optional<std::string> text = Text(flag);
  if (!text) return std::nullopt;
  int64_t value = 0;
  const char* end = text->data() + text->size();
  auto [rest, error] = std::from_chars(text->data(), end, value);
  if (error != std::errc() || rest != end || value < low || value > high) {
    throw UsageError(flag, " ", *text, ": must be a whole number from ", low, " to ", high);
  }
  return value;
}

const std::string& Options::Word(const std::string& what) const {
  if (words_.size() != 1) throw UsageError("expected ", what, ", got ", words_.size(), " words");
  return words_.front();
}

}  // namespace handglass
