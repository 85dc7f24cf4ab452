#include "memory.h"

#include <algorithm>

#include "rounding.h"

namespace handglass {
namespace cuda {
namespace {

constexpr uint64_t kSuballocation = 256;  // of the driver's own allocations
// A block that is needed again within so many waits (tokens) is not returned to the driver.
constexpr uint64_t kPatience = 64;

}  // namespace

Memory::Memory(const Driver& driver, CUstream stream, uint64_t block_bytes, bool mapped)
    : driver_(driver), stream_(stream), block_bytes_(block_bytes), mapped_(mapped) {}

CUresult Memory::AllocateBlock(uint64_t bytes, CUdeviceptr* address) {
  const Functions& f = driver_.functions;
  if (!mapped_) return f.cuMemAlloc_v2(address, bytes);
  // Attached to our stream, so that the host needs to wait for this stream only.
  CUresult result = f.cuMemAllocManaged(address, bytes, CU_MEM_ATTACH_HOST);
  if (result != CUDA_SUCCESS) return result;
  result = f.cuStreamAttachMemAsync(stream_, *address, 0, CU_MEM_ATTACH_SINGLE);
  if (result != CUDA_SUCCESS) f.cuMemFree_v2(*address);
  return result;
}

CUresult Memory::AddBlock(uint64_t bytes, bool dedicated, Block** out) {
  auto block = std::make_unique<Block>();
  const CUresult result = AllocateBlock(bytes, &block->address);
  if (result != CUDA_SUCCESS) return result;
  block->size = bytes;
  block->dedicated = dedicated;
  block->holes = Holes(bytes);
  statistics_.blocks += 1;
  statistics_.block_bytes += bytes;
  *out = block.get();
  blocks_.push_back(std::move(block));
  return CUDA_SUCCESS;
}

CUresult Memory::Allocate(uint64_t bytes, uint64_t* address) {
  const uint64_t wanted = std::max<uint64_t>(bytes, 1);
  const uint64_t reserved = RoundUp(wanted, kSuballocation);
  if (reserved < bytes) return CUDA_ERROR_OUT_OF_MEMORY;
  Range range;
  const CUresult result = Find(reserved, &range);
  if (result != CUDA_SUCCESS) return result;
  range.block->used += range.bytes;
  statistics_.Allocated(range.bytes);
  *address = range.block->address + range.offset;
  allocations_[*address] = {range, wanted};
  return CUDA_SUCCESS;
}

CUresult Memory::Find(uint64_t bytes, Range* range) {
  const bool large = bytes > block_bytes_ / 4;
  if (large && FindIdle(bytes, range)) return CUDA_SUCCESS;
  for (const auto& block : blocks_) {
    if (large || block->dedicated || !block->holes.Cut(bytes, &range->offset)) continue;
    *range = {block.get(), range->offset, bytes};
    return CUDA_SUCCESS;
  }
  const CUresult result = AddBlock(large ? bytes : block_bytes_, large, &range->block);
  if (result != CUDA_SUCCESS) return result;
  range->block->holes.Cut(bytes, &range->offset);
  range->bytes = bytes;
  return CUDA_SUCCESS;
}

/* The smallest unused dedicated block, unless it would waste more than a fifth of itself. */
bool Memory::FindIdle(uint64_t bytes, Range* range) {
  Block* best = nullptr;
  for (const auto& block : blocks_) {
    if (!block->dedicated || block->used || block->size < bytes) continue;
    if (bytes < block->size - block->size / 5) continue;
    if (!best || block->size < best->size) best = block.get();
  }
  if (!best) return false;
  *range = {best, 0, best->size};
  return best->holes.Cut(best->size, &range->offset);
}

void Memory::Release(uint64_t address) {
  const auto found = allocations_.find(address);
  if (found == allocations_.end()) return;
  const Range range = found->second.range;
  allocations_.erase(found);
  statistics_.Released(range.bytes);
  range.block->holes.GiveBack(range.offset, range.bytes);
  range.block->used -= range.bytes;
  if (!range.block->used) range.block->idle_since = waits_;
}

uint64_t Memory::RestAt(uint64_t address) const {
  auto after = allocations_.upper_bound(address);
  if (after == allocations_.begin()) return 0;
  --after;
  const uint64_t offset = address - after->first;
  return offset < after->second.bytes ? after->second.bytes - offset : 0;
}

void Memory::Waited() {
  waits_ += 1;
  ReturnIdle(kPatience);
}

void Memory::ReturnIdle(uint64_t waits) {
  const auto is_kept = [this, waits](const std::unique_ptr<Block>& block) {
    return block->used || waits_ - block->idle_since < waits;
  };
  const auto gone = std::stable_partition(blocks_.begin(), blocks_.end(), is_kept);
  for (auto each = gone; each != blocks_.end(); ++each) {
    driver_.functions.cuMemFree_v2((*each)->address);
    statistics_.blocks -= 1;
    statistics_.block_bytes -= (*each)->size;
  }
  blocks_.erase(gone, blocks_.end());
}

}  // namespace cuda
}  // namespace handglass
