// Reads the fields of a JSON object, checks their types and ranges, and rejects unknown fields.
#pragma once

#include <cstdint>
#include <limits>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "json.h"

namespace handglass {

/* One object; `where` names it in error messages. */
class Fields {
 public:
  Fields(const Json& table, std::string where);

  bool Has(std::string_view name) const { return table_.Find(name) != nullptr; }
  std::string Text(std::string_view name, size_t longest = 120);
  int64_t Integer(std::string_view name, int64_t low, int64_t high);
  double Number(std::string_view name, double low, double high);
  bool Truth(std::string_view name);
  const Json::List& List(std::string_view name, size_t longest);
  const Json& Any(std::string_view name) { return Take(name); }
  /* All entries. */
  const Json::Object& All() const { return *table_.As<Json::Object>(); }
  Fields Inner(std::string_view name);

  /* InputError if there are fields that were never read. */
  void Done() const;

  const std::string& where() const { return where_; }

 private:
  const Json& Take(std::string_view name);

  const Json& table_;
  std::string where_;
  std::set<std::string_view> unread_;
};

/* A list of non-negative integers, such as a shape. */
std::vector<int64_t> Sizes(const Json::List& list, const std::string& where);

/* A list of strings. */
std::vector<std::string> Texts(const Json::List& list, const std::string& where);

}  // namespace handglass
