// The arguments of a call: small ones are made and filled.

#include "device_arguments.h"
#include "fuzzing.h"

namespace handglass {
namespace {

constexpr size_t kMade = 1 << 16;  // bytes

bool IsSmall(const std::vector<Item>& items) {
  for (const Item& item : items) {
    const auto* tensor = std::get_if<TensorItem>(&item);
    if (tensor != nullptr && tensor->bytes() > kMade) return false;
  }
  return items.size() < 16;
}

}  // namespace
}  // namespace handglass

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace handglass;
  Try([&] {
    Json table = Json::Parse(Input(data, size));
    Fields fields(table, "request");
    std::vector<Item> items = ReadItems(fields.List("items", 256));
    int64_t copies = fields.Integer("copies", 1, 1 << 16);
    if (IsSmall(items) && copies < 8) DeviceArguments(items, copies, 1).Refill(2);
  });
  return 0;
}
