// The one question that TVM's thread pool asks of "../support/utils.h", which is not in the wheel.
#ifndef HANDGLASS_SUPPORT_UTILS_H_
#define HANDGLASS_SUPPORT_UTILS_H_

#include <algorithm>
#include <string>

namespace tvm {
namespace support {

inline bool IsNumber(const std::string& text) {
  auto is_digit = [](char c) { return c >= '0' && c <= '9'; };
  return !text.empty() && std::all_of(text.begin(), text.end(), is_digit);
}

}  // namespace support
}  // namespace tvm
#endif  // HANDGLASS_SUPPORT_UTILS_H_
