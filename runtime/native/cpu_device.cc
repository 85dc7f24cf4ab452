// TVM's CPU device, with memory that is kept: in place of upstream's cpu_device_api.cc.
//
// musl gives every large block back to the kernel when it is freed, and the next call gets new pages,
// zeroed one fault at a time. Here freed blocks wait for the next request that they fit. A request
// that none fits gives back as much as it takes, so that what is kept from one phase (a picture) does
// not add to what the next one needs (a prompt).

#include <sys/mman.h>
#include <tvm/ffi/function.h>
#include <tvm/ffi/reflection/registry.h>
#include <tvm/runtime/device_api.h>

#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>
#include <new>
#include <unordered_map>

// upstream's, beside the file that this one replaces
#include <workspace_pool.h>

namespace handglass {
namespace {

namespace ffi = tvm::ffi;

using tvm::runtime::DeviceAPI;
using tvm::runtime::DeviceAttrKind;
using tvm::runtime::WorkspacePool;
using Stream = TVMStreamHandle;

constexpr size_t kLarge = 128 << 10;  // smaller blocks are musl's business
constexpr size_t kPage = 64 << 10;    // the largest page of arm64
constexpr size_t kSlack = 2;          // a block serves requests of down to half its size

/* Large blocks, mapped one by one. */
class Blocks {
 public:
  void* Take(size_t bytes) {
    std::lock_guard<std::mutex> lock(mutex_);
    size_t size = (bytes + kPage - 1) / kPage * kPage;
    auto found = free_.lower_bound(size);
    if (found != free_.end() && found->first <= size * kSlack) {
      void* block = found->second;
      used_[block] = found->first;
      free_.erase(found);
      return block;
    }
    GiveBack(size);
    void* block = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (block == MAP_FAILED) throw std::bad_alloc();
    used_[block] = size;
    return block;
  }

  /* False for what is not one of these. */
  bool Return(void* block) {
    std::lock_guard<std::mutex> lock(mutex_);
    auto found = used_.find(block);
    if (found == used_.end()) return false;
    free_.emplace(found->second, block);
    used_.erase(found);
    return true;
  }

 private:
  /* Largest first, until `bytes` are back or none is left. */
  void GiveBack(size_t bytes) {
    for (size_t given = 0; given < bytes && !free_.empty();) {
      auto largest = std::prev(free_.end());
      munmap(largest->second, largest->first);
      given += largest->first;
      free_.erase(largest);
    }
  }

  std::mutex mutex_;
  std::multimap<size_t, void*> free_;
  std::unordered_map<void*, size_t> used_;
};

class Cpu final : public DeviceAPI {
 public:
  static Cpu* Global() {
    static auto* cpu = new Cpu();  // never destroyed: threads may outlive main
    return cpu;
  }

  void SetDevice(DLDevice) final {}
  void GetAttr(DLDevice, DeviceAttrKind kind, ffi::Any* value) final {
    if (kind == tvm::runtime::kExist) *value = 1;
  }

  void* AllocDataSpace(DLDevice, size_t bytes, size_t alignment, DLDataType) final {
    if (bytes >= kLarge && alignment <= 4096) return blocks_.Take(bytes);
    void* data = nullptr;
    if (posix_memalign(&data, alignment, bytes) != 0) throw std::bad_alloc();
    return data;
  }

  void FreeDataSpace(DLDevice, void* data) final {
    if (!blocks_.Return(data)) std::free(data);
  }

  void* AllocWorkspace(DLDevice device, size_t bytes, DLDataType) final {
    return Pool()->AllocWorkspace(device, bytes);
  }
  void FreeWorkspace(DLDevice device, void* data) final { Pool()->FreeWorkspace(device, data); }

  void StreamSync(DLDevice, Stream) final {}
  bool SupportsDevicePointerArithmeticsOnHost() final { return true; }

 protected:
  void CopyDataFromTo(const void* from, size_t from_offset, void* to, size_t to_offset, size_t size,
                      DLDevice, DLDevice, DLDataType, Stream) final {
    std::memcpy(static_cast<char*>(to) + to_offset, static_cast<const char*>(from) + from_offset,
                size);
  }

 private:
  struct ThreadPool : WorkspacePool {
    ThreadPool() : WorkspacePool(kDLCPU, Cpu::Global()) {}
  };
  static WorkspacePool* Pool() {
    static thread_local ThreadPool pool;
    return &pool;
  }

  Blocks blocks_;
};

TVM_FFI_STATIC_INIT_BLOCK() {
  namespace refl = tvm::ffi::reflection;
  refl::GlobalDef().def_packed("device_api.cpu", [](ffi::PackedArgs, ffi::Any* result) {
    *result = static_cast<void*>(static_cast<DeviceAPI*>(Cpu::Global()));
  });
}

}  // namespace
}  // namespace handglass
