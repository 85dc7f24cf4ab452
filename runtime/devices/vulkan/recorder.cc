#include "recorder.h"

#include <algorithm>

#include "device.h"
#include "errors.h"
#include "pipeline.h"
#include "rounding.h"

namespace handglass {
namespace vulkan {
namespace {

constexpr uint64_t kStagedPerSubmit = 32 << 20;
constexpr size_t kSpareChunks = 16;
constexpr size_t kTouched = 128;  // searching more costs more than a barrier
constexpr uint32_t kSetsPerPool = 256;
constexpr uint32_t kBuffersPerPool = kSetsPerPool * 8;

constexpr VkPipelineStageFlags kDeviceStages =
    VK_PIPELINE_STAGE_COMPUTE_SHADER_BIT | VK_PIPELINE_STAGE_TRANSFER_BIT;

}  // namespace

Recorder::Recorder(Device& device) : device_(device) {
  const DeviceFunctions& f = device.functions;
  for (Frame& frame : frames_) {
    VkCommandPoolCreateInfo pool{VK_STRUCTURE_TYPE_COMMAND_POOL_CREATE_INFO};
    pool.flags = VK_COMMAND_POOL_CREATE_TRANSIENT_BIT;
    pool.queueFamilyIndex = device.physical.queue_family;
    Check(f.vkCreateCommandPool(device.handle, &pool, nullptr, &frame.pool), "vkCreateCommandPool");
    VkCommandBufferAllocateInfo commands{VK_STRUCTURE_TYPE_COMMAND_BUFFER_ALLOCATE_INFO};
    commands.commandPool = frame.pool;
    commands.level = VK_COMMAND_BUFFER_LEVEL_PRIMARY;
    commands.commandBufferCount = 1;
    Check(f.vkAllocateCommandBuffers(device.handle, &commands, &frame.commands),
          "vkAllocateCommandBuffers");
    VkFenceCreateInfo fence{VK_STRUCTURE_TYPE_FENCE_CREATE_INFO};
    Check(f.vkCreateFence(device.handle, &fence, nullptr, &frame.fence), "vkCreateFence");
  }
}

VkCommandBuffer Recorder::Commands() {
  Frame& frame = current();
  if (frame.serial != serial_) {
    if (frame.serial) Wait(frame.serial);
    Open(&frame);
  }
  return frame.commands;
}

void Recorder::Open(Frame* frame) {
  const DeviceFunctions& f = device_.functions;
  Check(f.vkResetCommandPool(device_.handle, frame->pool, 0), "vkResetCommandPool");
  VkCommandBufferBeginInfo begin{VK_STRUCTURE_TYPE_COMMAND_BUFFER_BEGIN_INFO};
  begin.flags = VK_COMMAND_BUFFER_USAGE_ONE_TIME_SUBMIT_BIT;
  Check(f.vkBeginCommandBuffer(frame->commands, &begin), "vkBeginCommandBuffer");
  frame->serial = serial_;
}

void Recorder::Order(const std::vector<std::pair<Allocation*, bool>>& tensors) {
  const VkCommandBuffer commands = Commands();
  const auto meets = [this](const std::pair<Allocation*, bool>& tensor) {
    return std::any_of(touched_.begin(), touched_.end(), [&](const auto& before) {
      return before.first == tensor.first && (before.second || tensor.second);
    });
  };
  if (touched_.size() > kTouched || std::any_of(tensors.begin(), tensors.end(), meets)) {
    VkMemoryBarrier barrier{VK_STRUCTURE_TYPE_MEMORY_BARRIER};
    barrier.srcAccessMask = VK_ACCESS_SHADER_WRITE_BIT | VK_ACCESS_TRANSFER_WRITE_BIT;
    barrier.dstAccessMask = VK_ACCESS_SHADER_READ_BIT | VK_ACCESS_SHADER_WRITE_BIT |
                            VK_ACCESS_TRANSFER_READ_BIT | VK_ACCESS_TRANSFER_WRITE_BIT;
    device_.functions.vkCmdPipelineBarrier(commands, kDeviceStages, kDeviceStages, 0, 1, &barrier,
                                           0, nullptr, 0, nullptr);
    touched_.clear();
    statistics_.barriers += 1;
  }
  for (const auto& tensor : tensors) {
    tensor.first->last_use = serial_;
    touched_.push_back(tensor);
  }
}

void Recorder::Launched(std::shared_ptr<Pipeline> pipeline) {
  Frame& frame = current();
  frame.launched.push_back(std::move(pipeline));
  statistics_.launches += 1;
  if (frame.launched.size() >= static_cast<size_t>(device_.settings.launches)) Submit();
}

HostPlace Recorder::Stage(uint64_t bytes, uint64_t alignment) {
  if (current().serial == serial_ && current().staged + bytes > kStagedPerSubmit) Submit();
  Commands();
  Frame& frame = current();
  uint64_t offset = RoundUp(frame.filled, alignment);
  if (frame.chunks.empty() || offset + bytes > kPiece) {
    AddChunk(&frame);
    offset = 0;
  }
  const Block& chunk = *frame.chunks.back();
  frame.filled = offset + bytes;
  frame.staged += bytes;
  statistics_.staged_bytes += bytes;
  return {chunk.buffer, offset, chunk.host + offset};
}

void Recorder::AddChunk(Frame* frame) {
  std::unique_ptr<Block> chunk;
  if (!spare_chunks_.empty()) {
    chunk = std::move(spare_chunks_.back());
    spare_chunks_.pop_back();
  } else {
    const VkResult result = device_.memory->MakeHostBlock(kPiece, false, &chunk);
    if (result != VK_SUCCESS) {
      Fail("out of memory: staging buffer of ", kPiece, " bytes on ", device_.Title());
    }
  }
  frame->chunks.push_back(std::move(chunk));
}

HostPlace Recorder::Readback(uint64_t bytes) {
  if (readback_ && readback_->size < bytes) {
    device_.memory->Destroy(readback_.get());
    readback_.reset();
  }
  if (!readback_) {
    const uint64_t size = std::max<uint64_t>(RoundUp(bytes, 1 << 16), 1 << 20);
    const VkResult result = device_.memory->MakeHostBlock(size, true, &readback_);
    if (result != VK_SUCCESS) {
      Fail("out of memory: staging buffer of ", size, " bytes on ", device_.Title());
    }
  }
  return {readback_->buffer, 0, readback_->host};
}

VkDescriptorSet Recorder::MakeSet(VkDescriptorSetLayout layout) {
  Commands();
  Frame& frame = current();
  for (;;) {
    if (frame.pool_at == frame.pools.size()) AddPool(&frame);
    VkDescriptorSetAllocateInfo info{VK_STRUCTURE_TYPE_DESCRIPTOR_SET_ALLOCATE_INFO};
    info.descriptorPool = frame.pools[frame.pool_at];
    info.descriptorSetCount = 1;
    info.pSetLayouts = &layout;
    VkDescriptorSet set = VK_NULL_HANDLE;
    const VkResult result = device_.functions.vkAllocateDescriptorSets(device_.handle, &info, &set);
    if (result == VK_SUCCESS) return set;
    if (result != VK_ERROR_OUT_OF_POOL_MEMORY && result != VK_ERROR_FRAGMENTED_POOL) {
      Check(result, "vkAllocateDescriptorSets");
    }
    frame.pool_at += 1;
  }
}

void Recorder::AddPool(Frame* frame) {
  const VkDescriptorPoolSize sizes[] = {
      {VK_DESCRIPTOR_TYPE_STORAGE_BUFFER, kBuffersPerPool},
      {VK_DESCRIPTOR_TYPE_UNIFORM_BUFFER, kSetsPerPool},
  };
  VkDescriptorPoolCreateInfo info{VK_STRUCTURE_TYPE_DESCRIPTOR_POOL_CREATE_INFO};
  info.maxSets = kSetsPerPool;
  info.poolSizeCount = 2;
  info.pPoolSizes = sizes;
  VkDescriptorPool pool = VK_NULL_HANDLE;
  Check(device_.functions.vkCreateDescriptorPool(device_.handle, &info, nullptr, &pool),
        "vkCreateDescriptorPool");
  frame->pools.push_back(pool);
}

void Recorder::ReleaseLater(uint64_t address, Allocation* allocation) {
  if (allocation->freed) return;
  allocation->freed = true;
  frames_[allocation->last_use % frames_.size()].freed.push_back(address);
}

void Recorder::Submit() {
  Frame& frame = current();
  if (frame.serial != serial_) return;  // nothing was recorded
  device_.CheckAlive();
  Close(&frame);
  VkSubmitInfo info{VK_STRUCTURE_TYPE_SUBMIT_INFO};
  info.commandBufferCount = 1;
  info.pCommandBuffers = &frame.commands;
  CheckDevice(device_.functions.vkQueueSubmit(device_.queue, 1, &info, frame.fence), frame,
              "vkQueueSubmit");
  frame.submitted = true;
  statistics_.submits += 1;
  serial_ += 1;
}

/* The host reads results after it has waited for the fence; the barrier makes them visible. */
void Recorder::Close(Frame* frame) {
  const DeviceFunctions& f = device_.functions;
  VkMemoryBarrier barrier{VK_STRUCTURE_TYPE_MEMORY_BARRIER};
  barrier.srcAccessMask = VK_ACCESS_SHADER_WRITE_BIT | VK_ACCESS_TRANSFER_WRITE_BIT;
  barrier.dstAccessMask = VK_ACCESS_HOST_READ_BIT;
  f.vkCmdPipelineBarrier(frame->commands, kDeviceStages, VK_PIPELINE_STAGE_HOST_BIT, 0, 1, &barrier,
                         0, nullptr, 0, nullptr);
  CheckDevice(f.vkEndCommandBuffer(frame->commands), *frame, "vkEndCommandBuffer");
}

void Recorder::Wait(uint64_t serial) {
  if (serial <= completed_) return;
  if (serial == serial_) Submit();
  device_.CheckAlive();
  const auto nanoseconds = static_cast<uint64_t>(device_.Timeout() * 1e9);
  for (uint64_t next = completed_ + 1; next <= serial && next < serial_; ++next) {
    Frame& frame = frames_[next % frames_.size()];
    statistics_.waits += 1;
    CheckDevice(device_.functions.vkWaitForFences(device_.handle, 1, &frame.fence, VK_TRUE,
                                                  nanoseconds),
                frame, "waiting for the device");
    Retire(&frame);
  }
}

void Recorder::Sync() { Wait(serial_); }

void Recorder::Retire(Frame* frame) {
  const DeviceFunctions& f = device_.functions;
  Check(f.vkResetFences(device_.handle, 1, &frame->fence), "vkResetFences");
  completed_ = frame->serial;
  const auto ended = [this](const auto& each) { return each.first->last_use <= completed_; };
  touched_.erase(std::remove_if(touched_.begin(), touched_.end(), ended), touched_.end());
  for (uint64_t address : frame->freed) device_.memory->Release(address);
  frame->freed.clear();
  frame->launched.clear();
  for (auto& chunk : frame->chunks) {
    if (spare_chunks_.size() < kSpareChunks) spare_chunks_.push_back(std::move(chunk));
    if (chunk) device_.memory->Destroy(chunk.get());
  }
  frame->chunks.clear();
  for (VkDescriptorPool pool : frame->pools) f.vkResetDescriptorPool(device_.handle, pool, 0);
  frame->pool_at = frame->staged = frame->filled = 0;
  frame->serial = 0;
  frame->submitted = false;
}

uint64_t Recorder::host_chunks() const {
  uint64_t count = spare_chunks_.size() + (readback_ ? 1 : 0);
  for (const Frame& frame : frames_) count += frame.chunks.size();
  return count;
}

uint64_t Recorder::descriptor_pools() const {
  uint64_t count = 0;
  for (const Frame& frame : frames_) count += frame.pools.size();
  return count;
}

void Recorder::CheckDevice(VkResult result, const Frame& frame, const char* what) {
  if (result == VK_SUCCESS) return;
  if (result == VK_TIMEOUT) {
    Lost(frame, Words("no answer within ", device_.Timeout(), " s"));
  }
  Lost(frame, Words(what, ": ", NameOf(result)));
}

/* The names show which kernel to suspect: the last one of the failed submission. */
void Recorder::Lost(const Frame& frame, const std::string& what) {
  constexpr size_t kNames = 4;
  std::string names;
  const size_t count = frame.launched.size();
  for (size_t i = count > kNames ? count - kNames : 0; i < count; ++i) {
    names += (names.empty() ? "" : ", ") + frame.launched[i]->name;
  }
  const std::string where =
      count ? Words("while it ran ", count, " kernels, at the end ", names) : "during copies";
  device_.Lose(Words("device lost: ", device_.Title(), ": ", what, " ", where));
}

}  // namespace vulkan
}  // namespace handglass
