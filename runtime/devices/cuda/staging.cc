#include "staging.h"

#include <algorithm>
#include <cstring>

#include "device.h"
#include "rounding.h"

namespace handglass {
namespace cuda {
namespace {

constexpr size_t kSlots = 4;
constexpr uint64_t kSlotBytes = 1 << 20;
constexpr uint64_t kPieceAlignment = 64;

}  // namespace

char* Staging::Pin(uint64_t bytes) {
  void* host = nullptr;
  device_.Check(device_.driver.functions.cuMemHostAlloc(&host, bytes, 0), "pinned memory of ",
                bytes, " bytes");
  return static_cast<char*>(host);
}

void Staging::Prepare() {
  while (slots_.size() < kSlots) {
    Slot slot;
    slot.host = Pin(kSlotBytes);
    device_.Check(device_.driver.functions.cuEventCreate(&slot.read, CU_EVENT_DISABLE_TIMING),
                  "cuEventCreate");
    slots_.push_back(slot);
  }
}

/* Waits only if the uploads of all other slots are still running. */
void Staging::NextSlot() {
  const Functions& f = device_.driver.functions;
  device_.Check(f.cuEventRecord(slots_[current_].read, device_.stream), "cuEventRecord");
  slots_[current_].pending = true;
  current_ = (current_ + 1) % kSlots;
  Slot& next = slots_[current_];
  if (next.pending) device_.Check(f.cuEventSynchronize(next.read), "waiting for an upload");
  next.pending = false;
  next.filled = 0;
}

void Staging::Upload(const char* from, CUdeviceptr to, uint64_t bytes) {
  Prepare();
  for (uint64_t done = 0; done < bytes;) {
    if (slots_[current_].filled >= kSlotBytes) NextSlot();
    Slot& slot = slots_[current_];
    const uint64_t piece = std::min(bytes - done, kSlotBytes - slot.filled);
    char* place = slot.host + slot.filled;
    std::memcpy(place, from + done, piece);
    device_.Check(device_.driver.functions.cuMemcpyHtoDAsync_v2(to + done, place, piece,
                                                                device_.stream),
                  "copy of ", bytes, " bytes to the device");
    slot.filled += RoundUp(piece, kPieceAlignment);
    done += piece;
  }
  device_.statistics.staged_bytes += bytes;
}

void Staging::Download(CUdeviceptr from, char* to, uint64_t bytes) {
  if (!readback_) readback_ = Pin(kSlotBytes);
  for (uint64_t done = 0; done < bytes;) {
    const uint64_t piece = std::min(bytes - done, kSlotBytes);
    device_.Check(device_.driver.functions.cuMemcpyDtoHAsync_v2(readback_, from + done, piece,
                                                                device_.stream),
                  "copy of ", bytes, " bytes from the device");
    device_.Sync();
    std::memcpy(to + done, readback_, piece);
    done += piece;
  }
  device_.statistics.staged_bytes += bytes;
}

}  // namespace cuda
}  // namespace handglass
