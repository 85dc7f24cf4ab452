#include "memory.h"

#include <algorithm>
#include <atomic>
#include <optional>

#include "errors.h"
#include "rounding.h"

namespace handglass {
namespace vulkan {
namespace {

constexpr VkMemoryPropertyFlags kMapped =
    VK_MEMORY_PROPERTY_HOST_VISIBLE_BIT | VK_MEMORY_PROPERTY_HOST_COHERENT_BIT;

constexpr VkBufferUsageFlags kTensor = VK_BUFFER_USAGE_STORAGE_BUFFER_BIT |
                                       VK_BUFFER_USAGE_TRANSFER_SRC_BIT |
                                       VK_BUFFER_USAGE_TRANSFER_DST_BIT;
constexpr VkBufferUsageFlags kHost = VK_BUFFER_USAGE_TRANSFER_SRC_BIT |
                                     VK_BUFFER_USAGE_TRANSFER_DST_BIT |
                                     VK_BUFFER_USAGE_UNIFORM_BUFFER_BIT;

/* Ranges without host pointers: on x86-64 and aarch64 these addresses are not canonical. */
uint64_t ReserveAddresses(uint64_t bytes) {
  static std::atomic<uint64_t> next{uint64_t{1} << 62};
  constexpr uint64_t kPage = 1 << 20;
  return next.fetch_add(RoundUp(bytes, kPage) + kPage);
}

std::optional<uint32_t> TypeWith(const VkPhysicalDeviceMemoryProperties& memory, uint32_t allowed,
                                 VkMemoryPropertyFlags wanted) {
  for (uint32_t i = 0; i < memory.memoryTypeCount; ++i) {
    if ((allowed >> i & 1) && (memory.memoryTypes[i].propertyFlags & wanted) == wanted) return i;
  }
  return {};
}

/* The host-visible part of a discrete GPU's memory may be a window of 256 MB: only a
 * type on the largest device-local heap counts as mapped. */
std::optional<uint32_t> MappedType(const VkPhysicalDeviceMemoryProperties& memory,
                                   uint32_t allowed) {
  uint64_t largest = 0;
  for (uint32_t i = 0; i < memory.memoryHeapCount; ++i) {
    if (memory.memoryHeaps[i].flags & VK_MEMORY_HEAP_DEVICE_LOCAL_BIT) {
      largest = std::max<uint64_t>(largest, memory.memoryHeaps[i].size);
    }
  }
  constexpr VkMemoryPropertyFlags kBoth = VK_MEMORY_PROPERTY_DEVICE_LOCAL_BIT | kMapped;
  for (VkMemoryPropertyFlags more : {VK_MEMORY_PROPERTY_HOST_CACHED_BIT, VkMemoryPropertyFlagBits(0)}) {
    const auto type = TypeWith(memory, allowed, kBoth | more);
    if (type && memory.memoryHeaps[memory.memoryTypes[*type].heapIndex].size == largest) {
      return type;
    }
  }
  return {};
}

}  // namespace

Memory::Memory(const PhysicalDevice& physical, VkDevice device, const DeviceFunctions& functions,
               uint64_t block_bytes, bool staging)
    : physical_(physical), device_(device), functions_(functions), block_bytes_(block_bytes) {
  const VkPhysicalDeviceLimits& limits = physical.limits();
  alignment_ = std::max<uint64_t>({256, limits.minStorageBufferOffsetAlignment,
                                   limits.nonCoherentAtomSize});
  largest_ = physical.maintenance3.maxMemoryAllocationSize;
  VkBufferCreateInfo info{VK_STRUCTURE_TYPE_BUFFER_CREATE_INFO};
  info.size = alignment_;
  info.usage = kTensor;
  VkBuffer sample = VK_NULL_HANDLE;
  Check(functions.vkCreateBuffer(device, &info, nullptr, &sample), "vkCreateBuffer");
  VkMemoryRequirements needs{};
  functions.vkGetBufferMemoryRequirements(device, sample, &needs);
  functions.vkDestroyBuffer(device, sample, nullptr);
  const auto local =
      TypeWith(physical.memory, needs.memoryTypeBits, VK_MEMORY_PROPERTY_DEVICE_LOCAL_BIT);
  const auto mapped = MappedType(physical.memory, needs.memoryTypeBits);
  mapped_ = mapped && !staging;
  if (!mapped_ && !local) Fail(physical.name, " has no device-local memory for buffers");
  type_ = mapped_ ? *mapped : *local;
  cached_ = physical.memory.memoryTypes[type_].propertyFlags & VK_MEMORY_PROPERTY_HOST_CACHED_BIT;
}

uint64_t Memory::heap_bytes() const {
  return physical_.memory.memoryHeaps[physical_.memory.memoryTypes[type_].heapIndex].size;
}

VkResult Memory::MakeBlock(uint64_t bytes, VkBufferUsageFlags usage, uint32_t type, bool map,
                           std::unique_ptr<Block>* out) {
  auto block = std::make_unique<Block>();
  block->size = bytes;
  VkBufferCreateInfo info{VK_STRUCTURE_TYPE_BUFFER_CREATE_INFO};
  info.size = bytes;
  info.usage = usage;
  VkResult result = functions_.vkCreateBuffer(device_, &info, nullptr, &block->buffer);
  if (result == VK_SUCCESS) {
    VkMemoryRequirements needs{};
    functions_.vkGetBufferMemoryRequirements(device_, block->buffer, &needs);
    VkMemoryDedicatedAllocateInfo dedicated{VK_STRUCTURE_TYPE_MEMORY_DEDICATED_ALLOCATE_INFO};
    dedicated.buffer = block->buffer;  // one buffer per memory: drivers may place it better
    VkMemoryAllocateInfo allocate{VK_STRUCTURE_TYPE_MEMORY_ALLOCATE_INFO, &dedicated};
    allocate.allocationSize = needs.size;
    allocate.memoryTypeIndex = type;
    result = functions_.vkAllocateMemory(device_, &allocate, nullptr, &block->memory);
  }
  if (result == VK_SUCCESS) {
    result = functions_.vkBindBufferMemory(device_, block->buffer, block->memory, 0);
  }
  if (result == VK_SUCCESS && map) {
    void* host = nullptr;
    result = functions_.vkMapMemory(device_, block->memory, 0, VK_WHOLE_SIZE, 0, &host);
    block->host = static_cast<char*>(host);
  }
  if (result != VK_SUCCESS) {
    Destroy(block.get());
    return result;
  }
  *out = std::move(block);
  return VK_SUCCESS;
}

VkResult Memory::MakeHostBlock(uint64_t bytes, bool cached, std::unique_ptr<Block>* out) {
  auto type = TypeWith(physical_.memory, ~0u,
                       kMapped | (cached ? VK_MEMORY_PROPERTY_HOST_CACHED_BIT : 0));
  if (!type) type = TypeWith(physical_.memory, ~0u, kMapped);
  return type ? MakeBlock(bytes, kHost, *type, true, out) : VK_ERROR_OUT_OF_HOST_MEMORY;
}

VkResult Memory::AddBlock(uint64_t bytes, bool dedicated, Block** out) {
  std::unique_ptr<Block> block;
  const VkResult result = MakeBlock(bytes, kTensor, type_, mapped_, &block);
  if (result != VK_SUCCESS) return result;
  block->address = ReserveAddresses(bytes);
  block->dedicated = dedicated;
  block->holes = Holes(bytes);
  statistics_.blocks += 1;
  statistics_.block_bytes += bytes;
  *out = block.get();
  blocks_.push_back(std::move(block));
  return VK_SUCCESS;
}

void Memory::Destroy(Block* block) {
  functions_.vkDestroyBuffer(device_, block->buffer, nullptr);
  functions_.vkFreeMemory(device_, block->memory, nullptr);  // unmaps
}

VkResult Memory::Allocate(uint64_t bytes, uint64_t* address) {
  const uint64_t reserved = RoundUp(std::max<uint64_t>(bytes, 4), alignment_);
  if (reserved < bytes || reserved > largest_) return VK_ERROR_OUT_OF_DEVICE_MEMORY;
  Block* home = nullptr;
  uint64_t offset = 0;
  const bool large = reserved > block_bytes_ / 4;
  for (const auto& block : blocks_) {
    if (!large && !block->dedicated && block->holes.Cut(reserved, &offset)) {
      home = block.get();
      break;
    }
  }
  if (!home) {
    const VkResult result = AddBlock(large ? reserved : block_bytes_, large, &home);
    if (result != VK_SUCCESS) return result;
    home->holes.Cut(reserved, &offset);
  }
  home->used += reserved;
  *address = home->address + offset;
  allocations_[*address] = {home, offset, std::max<uint64_t>(bytes, 4), reserved};
  statistics_.Allocated(reserved);
  return VK_SUCCESS;
}

void Memory::Release(uint64_t address) {
  const auto found = allocations_.find(address);
  if (found == allocations_.end()) return;
  const Allocation gone = found->second;
  allocations_.erase(found);
  statistics_.Released(gone.reserved);
  gone.block->used -= gone.reserved;
  gone.block->holes.GiveBack(gone.offset, gone.reserved);
  if (!gone.block->used) DropEmpty(gone.block);
}

/* One empty block is kept, so that a loop over one tensor does not call the driver. */
void Memory::DropEmpty(Block* block) {
  const auto empty = [](const auto& each) { return !each->used && !each->dedicated; };
  if (!block->dedicated && std::count_if(blocks_.begin(), blocks_.end(), empty) < 2) return;
  const auto found = std::find_if(blocks_.begin(), blocks_.end(),
                                  [block](const auto& each) { return each.get() == block; });
  statistics_.blocks -= 1;
  statistics_.block_bytes -= block->size;
  Destroy(block);
  blocks_.erase(found);
}

Place Memory::Find(uint64_t address) {
  auto after = allocations_.upper_bound(address);
  if (after == allocations_.begin()) return {};
  --after;
  const uint64_t offset = address - after->first;
  if (offset >= after->second.bytes) return {};
  return {&after->second, offset};
}

}  // namespace vulkan
}  // namespace handglass
