// Reads the keys of a JSON object: each of its type and in its range, and none that nobody knows.
#pragma once

#include <cstdint>
#include <limits>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "json.h"

namespace handglass {

/* One object; `where` names it in the words of an InputError. */
class Fields {
 public:
  Fields(const Json& table, std::string where);

  bool Has(std::string_view name) const { return table_.Find(name) != nullptr; }
  std::string Text(std::string_view name, size_t longest = 120);
  int64_t Integer(std::string_view name, int64_t low, int64_t high);
  double Number(std::string_view name, double low, double high);
  const Json::List& List(std::string_view name, size_t longest);
  const Json& Any(std::string_view name) { return Take(name); }
  /* The whole, key by key. */
  const Json::Object& All() const { return *table_.As<Json::Object>(); }
  Fields Inner(std::string_view name);

  /* An error if there are keys that were not asked for. */
  void Done() const;

  const std::string& where() const { return where_; }

 private:
  const Json& Take(std::string_view name);

  const Json& table_;
  std::string where_;
  std::set<std::string_view> unread_;
};

/* A list of integers from 0 on, such as a shape. */
std::vector<int64_t> Sizes(const Json::List& list, const std::string& where);

/* A list of texts. */
std::vector<std::string> Texts(const Json::List& list, const std::string& where);

}  // namespace handglass
