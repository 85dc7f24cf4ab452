#include "holes.h"

#include <algorithm>
#include <iterator>

namespace handglass {

bool Holes::Cut(uint64_t bytes, uint64_t* offset) {
  auto best = holes_.end();
  for (auto hole = holes_.begin(); hole != holes_.end(); ++hole) {
    if (hole->second < bytes) continue;
    if (best == holes_.end() || hole->second < best->second) best = hole;
  }
  if (best == holes_.end()) return false;
  *offset = best->first;
  const uint64_t rest = best->second - bytes;
  holes_.erase(best);
  if (rest) holes_[*offset + bytes] = rest;
  return true;
}

void Holes::GiveBack(uint64_t offset, uint64_t bytes) {
  auto after = holes_.lower_bound(offset);
  if (after != holes_.end() && after->first == offset + bytes) {
    bytes += after->second;
    after = holes_.erase(after);
  }
  if (after != holes_.begin()) {
    const auto before = std::prev(after);
    if (before->first + before->second == offset) {
      before->second += bytes;
      return;
    }
  }
  holes_[offset] = bytes;
}

void MemoryStatistics::Allocated(uint64_t bytes) {
  allocations += 1;
  live_buffers += 1;
  live_bytes += bytes;
  peak_bytes = std::max(peak_bytes, live_bytes);
}

void MemoryStatistics::Released(uint64_t bytes) {
  live_buffers -= 1;
  live_bytes -= bytes;
}

}  // namespace handglass
