// Device memory: tensors are suballocated from blocks and looked up by address.
//
// An address is a number, not a pointer that the host can dereference: the start of a block's
// range plus an offset. Arithmetic on it stays within the tensor, so a view may begin inside one.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <vector>

#include "holes.h"
#include "loader.h"
#include "physical.h"

namespace handglass {
namespace vulkan {

/* One VkBuffer over one VkDeviceMemory. */
struct Block {
  VkBuffer buffer = VK_NULL_HANDLE;
  VkDeviceMemory memory = VK_NULL_HANDLE;
  uint64_t size = 0;
  uint64_t address = 0;
  uint64_t used = 0;
  char* host = nullptr;    // mapping; null if not host-visible
  bool dedicated = false;  // holds one tensor
  Holes holes;
};

/* One tensor. */
struct Allocation {
  Block* block = nullptr;
  uint64_t offset = 0;    // in the block
  uint64_t bytes = 0;     // asked for
  uint64_t reserved = 0;  // including padding
  uint64_t last_use = 0;  // serial of the newest submission that may touch it
  bool freed = false;     // by its owner; kept while commands may use it
};

/* A place inside a tensor. */
struct Place {
  Allocation* allocation = nullptr;
  uint64_t offset = 0;  // in the tensor
  uint64_t in_block() const { return allocation->offset + offset; }
  uint64_t rest() const { return allocation->bytes - offset; }
  VkBuffer buffer() const { return allocation->block->buffer; }
  char* host() const { return allocation->block->host + in_block(); }
};

class Memory {
 public:
  Memory(const PhysicalDevice& physical, VkDevice device, const DeviceFunctions& functions,
         uint64_t block_bytes, bool staging);

  /* On a result other than VK_SUCCESS nothing was allocated. */
  VkResult Allocate(uint64_t bytes, uint64_t* address);
  /* Frees the range; no command may still use it. */
  void Release(uint64_t address);
  /* The tensor that contains an address; `allocation` is null if there is none. */
  Place Find(uint64_t address);

  /* A mapped buffer for staging or uniforms. `cached`: the host reads it. */
  VkResult MakeHostBlock(uint64_t bytes, bool cached, std::unique_ptr<Block>* out);

  void Destroy(Block* block);

  /* Whether tensors are mapped, so that the host can write them directly. */
  bool mapped() const { return mapped_; }
  /* Whether it can also read them: uncached reads of mapped memory run at a tenth of the speed. */
  bool readable() const { return mapped_ && cached_; }
  uint64_t largest() const { return largest_; }
  uint64_t heap_bytes() const;
  const MemoryStatistics& statistics() const { return statistics_; }

 private:
  VkResult MakeBlock(uint64_t bytes, VkBufferUsageFlags usage, uint32_t type, bool map,
                     std::unique_ptr<Block>* out);
  VkResult AddBlock(uint64_t bytes, bool dedicated, Block** out);
  void DropEmpty(Block* block);

  const PhysicalDevice& physical_;
  VkDevice device_;
  const DeviceFunctions& functions_;
  uint64_t block_bytes_;
  uint64_t alignment_;
  uint64_t largest_;
  uint32_t type_ = 0;
  bool mapped_ = false;
  bool cached_ = false;
  std::vector<std::unique_ptr<Block>> blocks_;
  std::map<uint64_t, Allocation> allocations_;  // by address
  MemoryStatistics statistics_;
};

}  // namespace vulkan
}  // namespace handglass
