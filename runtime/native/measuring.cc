#include "measuring.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "clock.h"
#include "element_types.h"

namespace handglass {
namespace {

constexpr double kLimitDb = 400;  // ratios are clamped to it; beyond double precision (320 dB)

void CallWith(const ffi::Function& function, const std::vector<ffi::AnyView>& arguments) {
  ffi::Any result;
  function.CallPacked(arguments.data(), static_cast<int32_t>(arguments.size()), &result);
}

/* Signal-to-noise ratio, largest error and largest value, of the elements that are finite in both
 * tensors. */
struct Difference {
  double signal = 0, noise = 0, largest = 0, max_error = 0;
  bool finite = true;  // false if an element is finite in one tensor only

  void Add(double expected, double actual) {
    if (!std::isfinite(expected) || !std::isfinite(actual)) {
      finite = finite && (expected == actual || (std::isnan(expected) && std::isnan(actual)));
      return;
    }
    double error = expected - actual;
    signal += expected * expected;
    noise += error * error;
    largest = std::max(largest, std::abs(expected));
    max_error = std::max(max_error, std::abs(error));
  }

  Json Decibels() const {
    if (noise == 0) return Json();
    if (signal == 0) return -kLimitDb;
    return std::clamp(10 * std::log10(signal / noise), -kLimitDb, kLimitDb);
  }

  Json Row(size_t index) const {
    return Json::Object{{"index", static_cast<int64_t>(index)},
                        {"snr_db", Decibels()},
                        {"max_error", max_error},
                        {"largest", largest},
                        {"finite", finite}};
  }
};

template <typename T>
void AddAll(Difference* difference, const void* expected, const void* actual, size_t bytes) {
  const auto* a = static_cast<const T*>(expected);
  const auto* b = static_cast<const T*>(actual);
  for (size_t i = 0; i < bytes / sizeof(T); ++i) difference->Add(Number(a[i]), Number(b[i]));
}

Difference DifferenceOf(const TensorItem& item, const void* expected, const void* actual) {
  Difference difference;
  WithElementType(item.bfloat16 ? "bfloat16" : item.dtype,
                  [&]<typename T>() { AddAll<T>(&difference, expected, actual, item.bytes()); });
  return difference;
}

}  // namespace

Json::List Measure(const ffi::Function& function, const DeviceArguments& arguments, int64_t number,
                   int64_t samples) {
  const auto& calls = arguments.calls();
  for (const auto& call : calls) CallWith(function, call);
  Json::List seconds;
  size_t turn = 0;
  for (int64_t sample = 0; sample < samples; ++sample) {
    double start = Now();
    for (int64_t i = 0; i < number; ++i) {
      CallWith(function, calls[turn]);
      if (++turn == calls.size()) turn = 0;
    }
    seconds.emplace_back((Now() - start) / static_cast<double>(number));
  }
  return seconds;
}

Json::List Compare(const ffi::Function& reference, const ffi::Function& candidate,
                   DeviceArguments& arguments, uint64_t seed) {
  const std::vector<Item>& items = arguments.items();
  std::vector<std::string> expected(items.size());
  arguments.Refill(seed);
  CallWith(reference, arguments.calls().front());
  for (size_t i = 0; i < items.size(); ++i) {
    if (const auto* tensor = std::get_if<TensorItem>(&items[i])) {
      expected[i].assign(static_cast<const char*>(arguments.Data(i)), tensor->bytes());
    }
  }
  arguments.Refill(seed);
  CallWith(candidate, arguments.calls().front());
  Json::List rows;
  for (size_t i = 0; i < items.size(); ++i) {
    if (const auto* tensor = std::get_if<TensorItem>(&items[i])) {
      rows.push_back(DifferenceOf(*tensor, expected[i].data(), arguments.Data(i)).Row(i));
    }
  }
  return rows;
}

}  // namespace handglass
