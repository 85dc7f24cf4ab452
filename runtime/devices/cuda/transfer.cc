#include "transfer.h"

#include <algorithm>
#include <cstring>

#include "device.h"
#include "staging.h"

namespace handglass {
namespace cuda {
namespace {

/* Memory of other libraries is accepted; whether it exists is the driver's to say. */
void CheckRange(Device& device, uint64_t address, uint64_t bytes) {
  const uint64_t rest = device.memory->RestAt(address);
  if (rest && bytes > rest) {
    Fail("copy of ", bytes, " bytes at a place of ", device.Title(), " where a tensor has ", rest,
         " more");
  }
}

bool IsMapped(const Device& device, uint64_t address) {
  return device.memory->mapped() && device.memory->RestAt(address);
}

}  // namespace

void Upload(Device& device, const void* from, uint64_t to, uint64_t bytes) {
  CheckRange(device, to, bytes);
  const Current current(device);
  device.Flush();
  if (IsMapped(device, to) && device.IsIdle()) {
    std::memcpy(reinterpret_cast<void*>(to), from, bytes);
  } else {
    device.staging->Upload(static_cast<const char*>(from), to, bytes);
  }
  device.statistics.uploaded_bytes += bytes;
}

void Download(Device& device, uint64_t from, void* to, uint64_t bytes) {
  CheckRange(device, from, bytes);
  const Current current(device);
  device.Flush();
  if (IsMapped(device, from)) {
    device.Sync();
    std::memcpy(to, reinterpret_cast<const void*>(from), bytes);
  } else {
    device.staging->Download(from, static_cast<char*>(to), bytes);
  }
  device.statistics.downloaded_bytes += bytes;
}

void CopyWithin(Device& device, uint64_t from, uint64_t to, uint64_t bytes) {
  CheckRange(device, from, bytes);
  CheckRange(device, to, bytes);
  if (from == to) return;
  if (std::max(from, to) - std::min(from, to) < bytes) {
    Fail("copy of ", bytes, " bytes on ", device.Title(), ": source and target overlap");
  }
  const Current current(device);
  device.Flush();
  device.Check(device.driver.functions.cuMemcpyDtoDAsync_v2(to, from, bytes, device.stream),
               "copy of ", bytes, " bytes");
}

}  // namespace cuda
}  // namespace handglass
