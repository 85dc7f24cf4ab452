// Parses a command line: positional words, and known flags with or without a value.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

namespace handglass {

class Options {
 public:
  /* `valued` take a value (`--name value` or `--name=value`), `plain` none; UsageError for others.
   */
  Options(const std::vector<std::string>& arguments, const std::vector<std::string>& valued,
          const std::vector<std::string>& plain);

  const std::vector<std::string>& words() const { return words_; }

  bool Has(const std::string& flag) const { return given_.contains(flag); }
  std::vector<std::string> All(const std::string& flag) const;
  std::optional<std::string> Text(const std::string& flag) const;
  std::optional<int64_t> Integer(const std::string& flag, int64_t low, int64_t high) const;

  /* The only positional word; UsageError, naming `what`, unless there is exactly one. */
  const std::string& Word(const std::string& what) const;

 private:
  std::vector<std::string> words_;
  std::map<std::string, std::vector<std::string>> given_;
};

}  // namespace handglass
