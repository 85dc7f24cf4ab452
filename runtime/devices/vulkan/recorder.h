// Records launches and copies, submits them in batches, and tracks completion.
//
// Each submission has a serial number, starting at 1. Up to three are in flight: one being
// recorded, the others on the device. Resources of a submission are released when it completes.
#pragma once

#include <array>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "loader.h"
#include "memory.h"

namespace handglass {
namespace vulkan {

class Device;
class Pipeline;

/* Mapped memory that lives until its submission completes. */
struct HostPlace {
  VkBuffer buffer = VK_NULL_HANDLE;
  uint64_t offset = 0;
  char* host = nullptr;
};

struct RecorderStatistics {
  uint64_t launches = 0;
  uint64_t submits = 0;
  uint64_t barriers = 0;
  uint64_t waits = 0;
  uint64_t staged_bytes = 0;
};

class Recorder {
 public:
  explicit Recorder(Device& device);

  /* The command buffer to record into. */
  VkCommandBuffer Commands();
  /* Serial of the commands that are recorded now. */
  uint64_t serial() const { return serial_; }
  uint64_t completed() const { return completed_; }

  /* Before a command that touches `tensors` ((tensor, whether it is written)): waits on the device
   * for earlier commands, if one of them meets it. */
  void Order(const std::vector<std::pair<Allocation*, bool>>& tensors);
  /* Called after a launch: keeps its pipeline alive, and submits if enough are recorded. */
  void Launched(std::shared_ptr<Pipeline> pipeline);

  /* `bytes` at most kPiece, for staging or uniforms. */
  HostPlace Stage(uint64_t bytes, uint64_t alignment);
  /* `bytes` at most kReadback, in memory that the host reads fast; one at a time. */
  HostPlace Readback(uint64_t bytes);
  VkDescriptorSet MakeSet(VkDescriptorSetLayout layout);
  void ReleaseLater(uint64_t address, Allocation* allocation);

  void Submit();
  void Wait(uint64_t serial);
  /* Returns after all recorded commands have run. */
  void Sync();

  const RecorderStatistics& statistics() const { return statistics_; }
  uint64_t host_chunks() const;
  uint64_t descriptor_pools() const;
  static constexpr uint64_t kPiece = 4 << 20;
  static constexpr uint64_t kReadback = 16 << 20;

 private:
  struct Frame {
    VkCommandPool pool = VK_NULL_HANDLE;
    VkCommandBuffer commands = VK_NULL_HANDLE;
    VkFence fence = VK_NULL_HANDLE;
    uint64_t serial = 0;  // 0: not in use
    bool submitted = false;
    uint64_t staged = 0;
    uint64_t filled = 0;  // of the last chunk
    std::vector<std::shared_ptr<Pipeline>> launched;
    std::vector<uint64_t> freed;
    std::vector<std::unique_ptr<Block>> chunks;
    std::vector<VkDescriptorPool> pools;
    size_t pool_at = 0;
  };

  Frame& current() { return frames_[serial_ % frames_.size()]; }
  void Open(Frame* frame);
  void Close(Frame* frame);
  void Retire(Frame* frame);
  void AddChunk(Frame* frame);
  void AddPool(Frame* frame);
  [[noreturn]] void Lost(const Frame& frame, const std::string& what);
  void CheckDevice(VkResult result, const Frame& frame, const char* what);

  Device& device_;
  std::array<Frame, 3> frames_;
  uint64_t serial_ = 1;
  uint64_t completed_ = 0;
  std::vector<std::pair<Allocation*, bool>> touched_;  // since the last barrier
  std::vector<std::unique_ptr<Block>> spare_chunks_;
  std::unique_ptr<Block> readback_;
  RecorderStatistics statistics_;
};

}  // namespace vulkan
}  // namespace handglass
