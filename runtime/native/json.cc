#include "json.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdlib>

namespace handglass {
namespace {

constexpr int kDeepest = 64;
constexpr int kMostValues = 1 << 21;  // two bytes of text can become 40 in memory

class Parser {
 public:
  explicit Parser(std::string_view text) : text_(text) {}

  Json Whole() {
    Json value = Value(0);
    SkipSpace();
    if (at_ != text_.size()) Fail("text after the value");
    return value;
  }

 private:
  [[noreturn]] void Fail(const char* what) const {
    throw JsonError(std::string(what) + " at byte " + std::to_string(at_));
  }

  char Peek() const { return at_ < text_.size() ? text_[at_] : '\0'; }

  bool Take(std::string_view wanted) {
    if (text_.substr(at_, wanted.size()) != wanted) return false;
    at_ += wanted.size();
    return true;
  }

  void SkipSpace() {
    while (at_ < text_.size() && std::string_view(" \t\n\r").find(text_[at_]) != text_.npos) ++at_;
  }

  Json Value(int depth) {
    if (depth > kDeepest) Fail("nested too deeply");
    if (++values_ > kMostValues) Fail("too many values");
    SkipSpace();
    if (Take("{")) return Object(depth);
    if (Take("[")) return List(depth);
    if (Take("\"")) return Text();
    if (Take("null")) return Json();
    if (Take("true")) return true;
    if (Take("false")) return false;
    return Number();
  }

  Json List(int depth) {
    Json::List list;
    SkipSpace();
    if (Take("]")) return list;
    do {
      list.push_back(Value(depth + 1));
      SkipSpace();
    } while (Take(","));
    if (!Take("]")) Fail("expected , or ]");
    return list;
  }

  Json Object(int depth) {
    Json::Object object;
    SkipSpace();
    if (Take("}")) return object;
    do {
      SkipSpace();
      if (!Take("\"")) Fail("expected a key");
      std::string key = Text();
      SkipSpace();
      if (!Take(":")) Fail("expected :");
      object.emplace_back(std::move(key), Value(depth + 1));
      SkipSpace();
    } while (Take(","));
    if (!Take("}")) Fail("expected , or }");
    CheckKeys(object);
    return object;
  }

  void CheckKeys(const Json::Object& object) const {
    std::vector<std::string_view> keys;
    for (const auto& [key, value] : object) keys.push_back(key);
    std::sort(keys.begin(), keys.end());
    if (std::adjacent_find(keys.begin(), keys.end()) != keys.end()) Fail("duplicate key");
  }

  Json Number() {
    size_t start = at_;
    Take("-");
    if (!Take("0")) Digits();
    bool whole = true;
    if (Take(".")) whole = false, Digits();
    if (Take("e") || Take("E")) {
      whole = false;
      if (!Take("+")) Take("-");
      Digits();
    }
    std::string number(text_.substr(start, at_ - start));
    int64_t integer = 0;
    const char* end = number.data() + number.size();
    if (whole && std::from_chars(number.data(), end, integer).ec == std::errc()) return integer;
    double value = std::strtod(number.c_str(), nullptr);
    if (!std::isfinite(value)) Fail("a number out of range");
    return value;
  }

  void Digits() {
    size_t start = at_;
    while (Peek() >= '0' && Peek() <= '9') ++at_;
    if (at_ == start) Fail("expected a value");
  }

  /* The rest of a string, after its opening quote. */
  std::string Text() {
    std::string text;
    while (!Take("\"")) {
      if (at_ == text_.size()) Fail("unterminated string");
      if (Take("\\")) {
        Escape(&text);
      } else {
        Character(&text);
      }
    }
    return text;
  }

  void Escape(std::string* text) {
    constexpr std::string_view kCodes = "\"\\/bfnrt", kMeanings = "\"\\/\b\f\n\r\t";
    size_t found = kCodes.find(Peek());
    if (at_ < text_.size() && found != kCodes.npos) {
      ++at_;
      text->push_back(kMeanings[found]);
    } else if (Take("u")) {
      Append(text, CodePoint());
    } else {
      Fail("an unknown escape");
    }
  }

  uint32_t CodePoint() {
    uint32_t high = Four();
    if (high < 0xd800 || high > 0xdfff) return high;
    if (high > 0xdbff || !Take("\\u")) Fail("a lone surrogate");
    uint32_t low = Four();
    if (low < 0xdc00 || low > 0xdfff) Fail("a lone surrogate");
    return 0x10000 + ((high - 0xd800) << 10) + (low - 0xdc00);
  }

  uint32_t Four() {
    uint32_t value = 0;
    std::string_view digits = text_.substr(at_, 4);
    auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value, 16);
    if (error != std::errc() || end != digits.data() + 4) Fail("not four hexadecimal digits");
    at_ += 4;
    return value;
  }

  static void Append(std::string* text, uint32_t code) {
    if (code < 0x80) {
      text->push_back(static_cast<char>(code));
      return;
    }
    int more = code < 0x800 ? 1 : code < 0x10000 ? 2 : 3;
    constexpr uint8_t kLead[] = {0, 0xc0, 0xe0, 0xf0};
    text->push_back(static_cast<char>(kLead[more] | code >> 6 * more));
    while (more-- > 0) text->push_back(static_cast<char>(0x80 | (code >> 6 * more & 0x3f)));
  }

  /* One UTF-8 character; overlong forms are rejected. */
  void Character(std::string* text) {
    auto lead = static_cast<uint8_t>(text_[at_]);
    if (lead < 0x20) Fail("a control character in a string");
    size_t size = lead < 0x80       ? 1
                  : lead >> 5 == 6  ? 2
                  : lead >> 4 == 14 ? 3
                  : lead >> 3 == 30 ? 4
                                    : 0;
    if (size == 0 || at_ + size > text_.size()) Fail("not UTF-8");
    uint32_t code = size == 1 ? lead : lead & (0x7f >> size);
    for (size_t i = 1; i < size; ++i) {
      auto next = static_cast<uint8_t>(text_[at_ + i]);
      if (next >> 6 != 2) Fail("not UTF-8");
      code = code << 6 | (next & 0x3f);
    }
    constexpr uint32_t kSmallest[] = {0, 0, 0x80, 0x800, 0x10000};
    if (code < kSmallest[size] || code > 0x10ffff || (code >= 0xd800 && code <= 0xdfff)) {
      Fail("not UTF-8");
    }
    text->append(text_, at_, size);
    at_ += size;
  }

  std::string_view text_;
  size_t at_ = 0;
  int values_ = 0;
};

struct Writer {
  std::string out;

  void operator()(std::nullptr_t) { out += "null"; }
  void operator()(bool value) { out += value ? "true" : "false"; }
  void operator()(int64_t value) { out += std::to_string(value); }
  void operator()(double value) {
    if (!std::isfinite(value)) throw JsonError("a number is not finite");
    char digits[32];
    size_t start = out.size();
    out.append(digits, std::to_chars(digits, digits + sizeof(digits), value).ptr);
    if (out.find_first_of(".e", start) == out.npos) out += ".0";  // still a double when parsed
  }
  void operator()(const std::string& value) {
    out += '"';
    for (char c : value) {
      if (c == '"' || c == '\\') {
        out += '\\';
        out += c;
      } else if (static_cast<uint8_t>(c) < 0x20) {
        out += "\\u00";
        out += "01"[c >> 4];
        out += "0123456789abcdef"[c & 15];
      } else {
        out += c;
      }
    }
    out += '"';
  }
  void operator()(const Json::List& list) {
    out += '[';
    for (size_t i = 0; i < list.size(); ++i) {
      if (i > 0) out += ", ";
      out += list[i].Dump();
    }
    out += ']';
  }
  void operator()(const Json::Object& object) {
    out += '{';
    for (size_t i = 0; i < object.size(); ++i) {
      if (i > 0) out += ", ";
      (*this)(object[i].first);
      out += ": ";
      out += object[i].second.Dump();
    }
    out += '}';
  }
};

}  // namespace

Json Json::Parse(std::string_view text) { return Parser(text).Whole(); }

std::string Json::Dump() const {
  Writer writer;
  std::visit(writer, value_);
  return writer.out;
}

const Json* Json::Find(std::string_view key) const {
  const auto* object = As<Object>();
  if (object == nullptr) return nullptr;
  for (const auto& [name, value] : *object) {
    if (name == key) return &value;
  }
  return nullptr;
}

std::string Shown(const Json& value, size_t longest) {
  std::string text = value.Dump();
  if (text.size() > longest) {
    text.resize(longest);
    while (!text.empty() && static_cast<uint8_t>(text.back()) >> 6 == 2) text.pop_back();
    if (!text.empty() && static_cast<uint8_t>(text.back()) >= 0xc0) text.pop_back();
    text += "...";
  }
  return text;
}

}  // namespace handglass
