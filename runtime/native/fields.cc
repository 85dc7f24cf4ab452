#include "fields.h"

#include "errors.h"

namespace handglass {

Fields::Fields(const Json& table, std::string where) : table_(table), where_(std::move(where)) {
  const auto* object = table.As<Json::Object>();
  if (object == nullptr) throw InputError(where_, ": expected an object, got ", Shown(table));
  for (const auto& [name, value] : *object) unread_.insert(name);
}

const Json& Fields::Take(std::string_view name) {
  const Json* value = table_.Find(name);
  if (value == nullptr) throw InputError(where_, ": '", name, "' is missing");
  unread_.erase(name);
  return *value;
}

std::string Fields::Text(std::string_view name, size_t longest) {
  const Json& value = Take(name);
  const auto* text = value.As<std::string>();
  if (text == nullptr || text->empty() || text->size() > longest) {
    throw InputError(where_, ": '", name, "' must be a string of 1 to ", longest, " bytes, got ",
                     Shown(value));
  }
  return *text;
}

int64_t Fields::Integer(std::string_view name, int64_t low, int64_t high) {
  const Json& value = Take(name);
  const auto* integer = value.As<int64_t>();
  if (integer == nullptr || *integer < low || *integer > high) {
    throw InputError(where_, ": '", name, "' must be an integer from ", low, " to ", high, ", got ",
                     Shown(value));
  }
  return *integer;
}

double Fields::Number(std::string_view name, double low, double high) {
  const Json& value = Take(name);
  const auto* integer = value.As<int64_t>();
  const auto* number = value.As<double>();
  double found = integer ? static_cast<double>(*integer) : number ? *number : 0;
  if ((integer == nullptr && number == nullptr) || found < low || found > high) {
    throw InputError(where_, ": '", name, "' must be a finite number from ", low, " to ", high,
                     ", got ", Shown(value));
  }
  return found;
}

bool Fields::Truth(std::string_view name) {
  const Json& value = Take(name);
  const auto* truth = value.As<bool>();
  if (truth == nullptr) {
    throw InputError(where_, ": '", name, "' must be true or false, got ", Shown(value));
  }
  return *truth;
}

const Json::List& Fields::List(std::string_view name, size_t longest) {
  const Json& value = Take(name);
  const auto* list = value.As<Json::List>();
  if (list == nullptr || list->size() > longest) {
    throw InputError(where_, ": '", name, "' must be a list of at most ", longest, ", got ",
                     Shown(value));
  }
  return *list;
}

Fields Fields::Inner(std::string_view name) {
  return Fields(Take(name), Words(where_, ", '", name, "'"));
}

void Fields::Done() const {
  if (!unread_.empty()) throw InputError(where_, ": unknown field '", *unread_.begin(), "'");
}

std::vector<int64_t> Sizes(const Json::List& list, const std::string& where) {
  std::vector<int64_t> sizes;
  for (const Json& item : list) {
    const auto* size = item.As<int64_t>();
    if (size == nullptr || *size < 0) throw InputError(where, ": not a size: ", Shown(item));
    sizes.push_back(*size);
  }
  return sizes;
}

std::vector<std::string> Texts(const Json::List& list, const std::string& where) {
  std::vector<std::string> texts;
  for (const Json& item : list) {
    const auto* text = item.As<std::string>();
    if (text == nullptr) throw InputError(where, ": not a string: ", Shown(item));
    texts.push_back(*text);
  }
  return texts;
}

}  // namespace handglass
