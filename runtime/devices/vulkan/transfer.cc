#include "transfer.h"

#include <algorithm>
#include <cstring>

#include "device.h"
#include "errors.h"
#include "pipeline_cache.h"
#include "recorder.h"

namespace handglass {
namespace vulkan {
namespace {

Place Target(Device& device, uint64_t address, uint64_t bytes) {
  const Place place = device.memory->Find(address);
  if (!place.allocation) Fail("copy: no tensor of ", device.Title(), " is at the address");
  // the padding to whole words may be copied too
  const uint64_t rest = std::max(place.rest(), (place.rest() + 3) / 4 * 4);
  if (bytes > rest) {
    Fail("copy of ", bytes, " bytes at byte ", place.offset, " of a tensor of ",
         place.allocation->bytes, " on ", device.Title());
  }
  return place;
}

void RecordCopy(Device& device, VkBuffer from, uint64_t from_offset, VkBuffer to,
                uint64_t to_offset, uint64_t bytes) {
  const VkBufferCopy region{from_offset, to_offset, bytes};
  device.functions.vkCmdCopyBuffer(device.recorder->Commands(), from, to, 1, &region);
}

bool IsIdle(Device& device, const Place& place) {
  return place.allocation->last_use <= device.recorder->completed();
}

/* Recorded in order, without waiting: the bytes are copied now and uploaded later. */
void UploadStaged(Device& device, const char* from, const Place& to, uint64_t bytes) {
  Recorder& recorder = *device.recorder;
  for (uint64_t done = 0; done < bytes;) {
    const uint64_t piece = std::min(bytes - done, Recorder::kPiece);
    const HostPlace place = recorder.Stage(piece, 16);
    std::memcpy(place.host, from + done, piece);
    // the pieces do not overlap: one barrier for all of them, repeated after a submission
    if (done == 0 || to.allocation->last_use != recorder.serial()) {
      recorder.Order({{to.allocation, true}});
    }
    RecordCopy(device, place.buffer, place.offset, to.buffer(), to.in_block() + done, piece);
    done += piece;
  }
}

void DownloadStaged(Device& device, const Place& from, char* to, uint64_t bytes) {
  Recorder& recorder = *device.recorder;
  for (uint64_t done = 0; done < bytes;) {
    const uint64_t piece = std::min(bytes - done, Recorder::kReadback);
    const HostPlace place = recorder.Readback(piece);
    recorder.Order({{from.allocation, false}});
    RecordCopy(device, from.buffer(), from.in_block() + done, place.buffer, 0, piece);
    recorder.Sync();
    std::memcpy(to + done, place.host, piece);
    done += piece;
  }
}

}  // namespace

void Upload(Device& device, const void* from, uint64_t to, uint64_t bytes) {
  const Place place = Target(device, to, bytes);
  if (device.memory->mapped() && IsIdle(device, place)) {
    std::memcpy(place.host(), from, bytes);
  } else {
    UploadStaged(device, static_cast<const char*>(from), place, bytes);
  }
}

void Download(Device& device, uint64_t from, void* to, uint64_t bytes) {
  const Place place = Target(device, from, bytes);
  if (device.memory->readable()) {
    device.recorder->Wait(place.allocation->last_use);
    std::memcpy(to, place.host(), bytes);
  } else {
    DownloadStaged(device, place, static_cast<char*>(to), bytes);
  }
  device.pipelines->Save(false);  // the device is idle
}

void CopyWithin(Device& device, uint64_t from, uint64_t to, uint64_t bytes) {
  const Place source = Target(device, from, bytes);
  const Place target = Target(device, to, bytes);
  if (from == to) return;
  if (source.allocation == target.allocation &&
      std::max(from, to) - std::min(from, to) < bytes) {
    Fail("copy of ", bytes, " bytes on ", device.Title(), ": source and target overlap");
  }
  device.recorder->Order({{source.allocation, false}, {target.allocation, true}});
  RecordCopy(device, source.buffer(), source.in_block(), target.buffer(), target.in_block(), bytes);
}

}  // namespace vulkan
}  // namespace handglass
