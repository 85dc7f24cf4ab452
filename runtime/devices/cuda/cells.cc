#include "cells.h"

#include "device.h"
#include "transfer.h"

namespace handglass {
namespace cuda {
namespace {

constexpr uint64_t kCellBytes = sizeof(uint64_t);

std::vector<uint64_t> NumbersOf(const std::vector<KernelLaunch>& launches) {
  std::vector<uint64_t> numbers;
  for (const KernelLaunch& each : launches) {
    for (size_t cell : each.cells) numbers.push_back(each.arguments[cell]);
  }
  return numbers;
}

}  // namespace

void Cells::Allocate(const std::vector<KernelLaunch>& launches) {
  const size_t count = NumbersOf(launches).size();
  if (count && !address_) address_ = device_.Allocate(count * kCellBytes);
}

void Cells::Place(std::vector<KernelLaunch>* launches) const {
  uint64_t place = address_;
  for (KernelLaunch& each : *launches) {
    if (each.cells.empty()) continue;
    each.arguments.back() = place;
    place += each.cells.size() * kCellBytes;
  }
}

void Cells::Write(const std::vector<KernelLaunch>& launches) {
  std::vector<uint64_t> numbers = NumbersOf(launches);
  if (numbers == numbers_) return;
  Upload(device_, numbers.data(), address_, numbers.size() * kCellBytes);
  numbers_.swap(numbers);
  device_.statistics.cell_writes += 1;
}

void Cells::Free() {
  if (address_) device_.Free(address_);
  address_ = 0;
  numbers_.clear();
}

}  // namespace cuda
}  // namespace handglass
