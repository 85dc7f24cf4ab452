#include "spirv.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <unordered_map>
#include <unordered_set>

#include "errors.h"
#include "rounding.h"

namespace handglass {
namespace vulkan {
namespace {

// Opcodes and enumerants: SPIR-V specification, section 3.
enum Op : uint32_t {
  kEntryPoint = 15,
  kExecutionMode = 16,
  kCapability = 17,
  kTypeBool = 20,
  kTypeInt = 21,
  kTypeFloat = 22,
  kTypeVector = 23,
  kTypeMatrix = 24,
  kTypeArray = 28,
  kTypeStruct = 30,
  kTypePointer = 32,
  kConstant = 43,
  kSpecConstant = 50,
  kVariable = 59,
  kDecorate = 71,
  kMemberDecorate = 72,
  kModuleProcessed = 330,
};
constexpr uint32_t kGlCompute = 5;
constexpr uint32_t kLocalSize = 17;
constexpr uint32_t kWorkgroup = 4;
constexpr uint32_t kNonWritable = 24;
constexpr uint32_t kBinding = 33;
/* A note of our code generator in OpModuleProcessed, which drivers skip: "handglass.subgroup = 32"
 * or "handglass.subgroup >= 8". */
constexpr char kSubgroup[] = "handglass.subgroup ";

struct Type {
  uint64_t bytes = 0;
  uint64_t alignment = 1;
};

class Reader {
 public:
  Reader(const std::vector<uint32_t>& words, const std::string& kernel)
      : words_(words), kernel_(kernel) {}

  ShaderFacts Read() {
    if (words_.size() < 5 || words_[0] != 0x07230203) Bad("it does not begin as SPIR-V does");
    facts_.version = words_[1];
    for (size_t at = 5; at < words_.size();) {
      const uint32_t count = words_[at] >> 16;
      if (count == 0 || at + count > words_.size()) Bad(Words("instruction at word ", at));
      Take(words_[at] & 0xFFFF, &words_[at], count);
      at += count;
    }
    for (const auto& [variable, binding] : bindings_) {
      if (facts_.writable.size() <= binding) facts_.writable.resize(binding + 1, true);
      facts_.writable[binding] = !IsReadOnly(variable);
    }
    return facts_;
  }

 private:
  [[noreturn]] void Bad(const std::string& why) {
    Fail("kernel ", kernel_, ": damaged SPIR-V: ", why);
  }

  void Take(uint32_t op, const uint32_t* in, uint32_t count) {
    switch (op) {
      case kCapability:
        if (count >= 2) facts_.capabilities.push_back(in[1]);
        break;
      case kEntryPoint:
        if (count >= 4 && in[1] == kGlCompute) facts_.entry_points.push_back(Text(in + 3, count - 3));
        break;
      case kExecutionMode:
        if (count >= 6 && in[2] == kLocalSize) std::copy(in + 3, in + 6, facts_.local_size.begin());
        break;
      case kDecorate:
        Decorate(in, count);
        break;
      case kMemberDecorate:
        if (count >= 4 && in[3] == kNonWritable) read_only_.insert(in[1]);
        break;
      case kConstant:
      case kSpecConstant:
        if (count >= 4) constants_[in[2]] = in[3];
        break;
      case kTypePointer:
        if (count >= 4) pointers_[in[1]] = in[3];
        break;
      case kVariable:
        if (count >= 4) Variable(in);
        break;
      case kModuleProcessed:
        Processed(Text(in + 1, count - 1));
        break;
      default:
        TakeType(op, in, count);
    }
  }

  void Processed(const std::string& text) {
    if (text.rfind(kSubgroup, 0) != 0) return;
    const std::string rest = text.substr(sizeof(kSubgroup) - 1);
    const bool exactly = rest.rfind("= ", 0) == 0;
    const size_t at = exactly ? 2 : 3;
    const uint64_t size = rest.size() > at ? std::strtoul(rest.c_str() + at, nullptr, 10) : 0;
    if ((!exactly && rest.rfind(">= ", 0) != 0) || size == 0 || size > 128 || (size & (size - 1))) {
      Bad(Words("OpModuleProcessed \"", text, "\" does not end in a subgroup size"));
    }
    facts_.subgroup = {static_cast<uint32_t>(size), exactly};
  }

  void Decorate(const uint32_t* in, uint32_t count) {
    if (count >= 3 && in[2] == kNonWritable) read_only_.insert(in[1]);
    if (count >= 4 && in[2] == kBinding && in[3] < 4096) bindings_[in[1]] = in[3];
  }

  void Variable(const uint32_t* in) {
    variables_[in[2]] = in[1];
    if (in[3] == kWorkgroup) facts_.shared_bytes += types_[pointers_[in[1]]].bytes;
  }

  void TakeType(uint32_t op, const uint32_t* in, uint32_t count) {
    if (count < 2) return;
    if (op == kTypeBool) {
      types_[in[1]] = {4, 4};
    } else if ((op == kTypeInt || op == kTypeFloat) && count >= 3) {
      types_[in[1]] = {in[2] / 8, std::max<uint64_t>(in[2] / 8, 1)};
    } else if ((op == kTypeVector || op == kTypeMatrix) && count >= 4) {
      types_[in[1]] = {types_[in[2]].bytes * in[3], types_[in[2]].alignment};
    } else if (op == kTypeArray && count >= 4) {
      types_[in[1]] = {types_[in[2]].bytes * constants_[in[3]], types_[in[2]].alignment};
    } else if (op == kTypeStruct) {
      types_[in[1]] = Struct(in + 2, count - 2);
    }
  }

  Type Struct(const uint32_t* members, uint32_t count) {
    Type type;
    for (uint32_t i = 0; i < count; ++i) {
      const Type member = types_[members[i]];
      type.bytes = RoundUp(type.bytes, member.alignment) + member.bytes;
      type.alignment = std::max(type.alignment, member.alignment);
    }
    type.bytes = RoundUp(type.bytes, type.alignment);
    return type;
  }

  bool IsReadOnly(uint32_t variable) {
    return read_only_.count(variable) || read_only_.count(pointers_[variables_[variable]]);
  }

  static std::string Text(const uint32_t* words, uint32_t count) {
    const char* text = reinterpret_cast<const char*>(words);
    return std::string(text, strnlen(text, count * 4));
  }

  const std::vector<uint32_t>& words_;
  const std::string& kernel_;
  ShaderFacts facts_;
  std::unordered_map<uint32_t, Type> types_;
  std::unordered_map<uint32_t, uint64_t> constants_;
  std::unordered_map<uint32_t, uint32_t> pointers_;   // pointer type -> type
  std::unordered_map<uint32_t, uint32_t> variables_;  // variable -> pointer type
  std::unordered_map<uint32_t, uint32_t> bindings_;   // variable -> binding
  std::unordered_set<uint32_t> read_only_;            // variables and structs
};

}  // namespace

ShaderFacts ReadShader(const std::vector<uint32_t>& words, const std::string& kernel) {
  return Reader(words, kernel).Read();
}

}  // namespace vulkan
}  // namespace handglass
