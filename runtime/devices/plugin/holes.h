// The free ranges of a block of memory from which tensors are cut.
#pragma once

#include <cstdint>
#include <map>

namespace handglass {

class Holes {
 public:
  explicit Holes(uint64_t bytes = 0) {
    if (bytes) holes_[0] = bytes;
  }

  /* Takes a range from the smallest hole that is large enough; false if there is none. */
  bool Cut(uint64_t bytes, uint64_t* offset);
  /* Returns a range, merging it with adjacent holes. */
  void GiveBack(uint64_t offset, uint64_t bytes);

 private:
  std::map<uint64_t, uint64_t> holes_;  // offset -> bytes, never adjacent
};

/* Counters of the memory of a device; sizes are in bytes. */
struct MemoryStatistics {
  uint64_t live_buffers = 0;
  uint64_t live_bytes = 0;
  uint64_t peak_bytes = 0;
  uint64_t allocations = 0;
  uint64_t blocks = 0;
  uint64_t block_bytes = 0;

  void Allocated(uint64_t bytes);
  void Released(uint64_t bytes);
};

}  // namespace handglass
