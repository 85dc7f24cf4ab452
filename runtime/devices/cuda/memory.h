// Device memory: tensors are cut out of blocks, so that few calls reach the driver.
//
// A range that is freed may be given to another tensor at once, because all work runs in one stream
// and in order.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <vector>

#include "driver.h"
#include "holes.h"

namespace handglass {
namespace cuda {

/* One allocation of the driver. */
struct Block {
  CUdeviceptr address = 0;
  uint64_t size = 0;
  uint64_t used = 0;
  uint64_t idle_since = 0;  // the number of waits when it became unused
  bool dedicated = false;   // holds one tensor at a time
  Holes holes;
};

/* A part of a block. */
struct Range {
  Block* block = nullptr;
  uint64_t offset = 0;
  uint64_t bytes = 0;
};

/* One tensor. */
struct Allocation {
  Range range;
  uint64_t bytes = 0;  // asked for
};

class Memory {
 public:
  /* `mapped`: the host can address the memory, too, while the stream is idle. */
  Memory(const Driver& driver, CUstream stream, uint64_t block_bytes, bool mapped);

  /* On a result other than CUDA_SUCCESS nothing was allocated. */
  CUresult Allocate(uint64_t bytes, uint64_t* address);
  /* Does nothing for an address that is not the start of a tensor. */
  void Release(uint64_t address);
  /* The bytes from an address to the end of its tensor; 0 if it is in none of ours. */
  uint64_t RestAt(uint64_t address) const;

  /* Notes that no work is running, and returns blocks that have long been idle to the driver. */
  void Waited();
  /* Returns the blocks that have been idle for this many waits. No work may be running. */
  void ReturnIdle(uint64_t waits);

  bool mapped() const { return mapped_; }
  const MemoryStatistics& statistics() const { return statistics_; }

 private:
  CUresult AddBlock(uint64_t bytes, bool dedicated, Block** out);
  CUresult AllocateBlock(uint64_t bytes, CUdeviceptr* address);
  CUresult Find(uint64_t bytes, Range* range);
  bool FindIdle(uint64_t bytes, Range* range);

  const Driver& driver_;
  CUstream stream_;
  uint64_t block_bytes_;
  bool mapped_;
  uint64_t waits_ = 0;
  std::vector<std::unique_ptr<Block>> blocks_;
  std::map<uint64_t, Allocation> allocations_;  // by address
  MemoryStatistics statistics_;
};

}  // namespace cuda
}  // namespace handglass
