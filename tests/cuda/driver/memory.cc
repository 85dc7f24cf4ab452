// Memory and copies. New memory holds NaNs; copies run when their stream does.
#include <sys/mman.h>
#include <unistd.h>

#include <cstring>

#include "machine.h"

namespace emulated {
namespace {

uint64_t Pages(uint64_t bytes) {
  const auto page = static_cast<uint64_t>(sysconf(_SC_PAGESIZE));
  return (bytes + page - 1) / page * page;
}

CUresult Allocate(CUdeviceptr* address, size_t bytes, bool managed) {
  const Guard guard(Lock());
  Device* device = CurrentDevice();
  if (!device) return CUDA_ERROR_INVALID_CONTEXT;
  if (device->sticky != CUDA_SUCCESS) return device->sticky;
  if (!bytes) return CUDA_ERROR_INVALID_VALUE;
  if (device->used + bytes > TheMachine().settings.memory) return CUDA_ERROR_OUT_OF_MEMORY;
  void* place = mmap(nullptr, Pages(bytes), PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (place == MAP_FAILED) return CUDA_ERROR_OUT_OF_MEMORY;
  // large blocks would cost seconds, and are mostly unused
  std::memset(place, 0xff, bytes < (1 << 22) ? bytes : 1 << 22);
  *address = reinterpret_cast<CUdeviceptr>(place);
  device->allocations[*address] = {bytes, managed, nullptr};
  device->used += bytes;
  TheMachine().counters.driver_allocations += 1;
  return CUDA_SUCCESS;
}

/* Whether a range lies in one allocation. */
bool IsInside(const Device& device, CUdeviceptr address, size_t bytes) {
  auto after = device.allocations.upper_bound(address);
  if (after == device.allocations.begin()) return false;
  --after;
  return address - after->first + bytes <= after->second.bytes;
}

}  // namespace

void Protect(Stream* stream, bool trapped) {
  for (const auto& [address, allocation] : stream->device->allocations) {
    if (!allocation.managed || allocation.attached != stream) continue;
    mprotect(reinterpret_cast<void*>(address), Pages(allocation.bytes),
             trapped ? PROT_NONE : PROT_READ | PROT_WRITE);
  }
}

}  // namespace emulated

using namespace emulated;

EMULATED cuMemAlloc(CUdeviceptr* address, size_t bytes) {
  return Allocate(address, bytes, false);
}

EMULATED cuMemAllocManaged(CUdeviceptr* address, size_t bytes, unsigned int flags) {
  if (flags != CU_MEM_ATTACH_HOST && flags != CU_MEM_ATTACH_GLOBAL) return CUDA_ERROR_INVALID_VALUE;
  return Allocate(address, bytes, true);
}

EMULATED cuStreamAttachMemAsync(CUstream handle, CUdeviceptr address, size_t length,
                                unsigned int flags) {
  const Guard guard(Lock());
  Stream* stream = StreamOf(handle);
  const auto found = stream->device->allocations.find(address);
  const bool valid = found != stream->device->allocations.end() && found->second.managed;
  if (!valid || length || flags != CU_MEM_ATTACH_SINGLE) return CUDA_ERROR_INVALID_VALUE;
  found->second.attached = stream;
  if (!stream->queue.empty()) Protect(stream, true);
  return CUDA_SUCCESS;
}

EMULATED cuMemFree(CUdeviceptr address) {
  const Guard guard(Lock());
  Device* device = CurrentDevice();
  if (!device) return CUDA_ERROR_INVALID_CONTEXT;
  const auto found = device->allocations.find(address);
  if (found == device->allocations.end()) return CUDA_ERROR_INVALID_VALUE;
  DrainAll(device);
  munmap(reinterpret_cast<void*>(address), Pages(found->second.bytes));
  device->used -= found->second.bytes;
  device->allocations.erase(found);
  return CUDA_SUCCESS;
}

EMULATED cuMemGetInfo(size_t* free, size_t* total) {
  const Guard guard(Lock());
  *total = TheMachine().settings.memory;
  *free = *total - CurrentDevice()->used;
  return CUDA_SUCCESS;
}

EMULATED cuMemHostAlloc(void** address, size_t bytes, unsigned int) {
  const Guard guard(Lock());
  if (!CurrentDevice()) return CUDA_ERROR_INVALID_CONTEXT;
  *address = std::aligned_alloc(4096, Pages(bytes));
  TheMachine().counters.pinned += 1;
  return CUDA_SUCCESS;
}

/* The source is read when the stream runs: a buffer that is reused too early shows. */
EMULATED cuMemcpyHtoDAsync(CUdeviceptr to, const void* from, size_t bytes, CUstream stream) {
  const Guard guard(Lock());
  if (!IsInside(*StreamOf(stream)->device, to, bytes)) return CUDA_ERROR_INVALID_VALUE;
  Machine& machine = TheMachine();
  machine.counters.uploads += 1;
  const bool is_lost = machine.counters.uploads == static_cast<uint64_t>(machine.settings.lose_upload);
  return Put(StreamOf(stream), [=] {
    if (!is_lost) std::memcpy(reinterpret_cast<void*>(to), from, bytes);
    return CUDA_SUCCESS;
  });
}

EMULATED cuMemcpyDtoHAsync(void* to, CUdeviceptr from, size_t bytes, CUstream stream) {
  const Guard guard(Lock());
  if (!IsInside(*StreamOf(stream)->device, from, bytes)) return CUDA_ERROR_INVALID_VALUE;
  return Put(StreamOf(stream), [=] {
    std::memcpy(to, reinterpret_cast<const void*>(from), bytes);
    return CUDA_SUCCESS;
  });
}

EMULATED cuMemcpyDtoDAsync(CUdeviceptr to, CUdeviceptr from, size_t bytes, CUstream stream) {
  const Guard guard(Lock());
  const Device& device = *StreamOf(stream)->device;
  if (!IsInside(device, to, bytes) || !IsInside(device, from, bytes)) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  return Put(StreamOf(stream), [=] {
    std::memcpy(reinterpret_cast<void*>(to), reinterpret_cast<const void*>(from), bytes);
    return CUDA_SUCCESS;
  });
}
