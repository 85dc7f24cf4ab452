// TVM's view of the devices of a plug-in: allocation, copies, synchronisation.
//
// `Device` has a `mutex`, CheckAlive(), Allocate(bytes) -> address, Free(address) and Sync(), and
// beside it are the functions Upload, Download and CopyWithin; the caller holds the mutex of the
// device. `Source` opens devices: Device& Source::Open(int index).
#pragma once

#include <tvm/ffi/container/tensor.h>
#include <tvm/runtime/device_api.h>

#include <mutex>
#include <vector>

#include "definition.h"
#include "failure.h"
#include "forks.h"

namespace handglass {

/* The device that TVM last selected in this thread. */
inline int& ActiveIndex() {
  thread_local int active = 0;
  return active;
}

inline uint64_t AddressOf(const void* pointer, size_t offset) {
  return reinterpret_cast<uint64_t>(pointer) + offset;
}

template <typename Source, typename Device, DLDeviceType kType>
class PluginDeviceApi : public tvm::runtime::DeviceAPI {
 public:
  void SetDevice(tvm::Device device) final { ActiveIndex() = device.device_id; }

  void* AllocDataSpace(tvm::Device device, size_t bytes, size_t, DLDataType) final {
    Device& ours = Source::Open(device.device_id);
    std::lock_guard<std::mutex> lock(ours.mutex);
    return reinterpret_cast<void*>(ours.Allocate(bytes));
  }

  void FreeDataSpace(tvm::Device device, void* pointer) final {
    if (IsForked()) return;  // the device belongs to the parent
    Device& ours = Source::Open(device.device_id);
    std::lock_guard<std::mutex> lock(ours.mutex);
    ours.Free(AddressOf(pointer, 0));
  }

  void StreamSync(tvm::Device device, TVMStreamHandle) final {
    Device& ours = Source::Open(device.device_id);
    std::lock_guard<std::mutex> lock(ours.mutex);
    ours.CheckAlive();
    ours.Sync();
  }

 protected:
  void CopyDataFromTo(const void* from, size_t from_offset, void* to, size_t to_offset,
                      size_t bytes, tvm::Device from_device, tvm::Device to_device, DLDataType,
                      TVMStreamHandle) final {
    if (bytes == 0) return;
    if (from_device.device_type == kType && to_device.device_type == kType) {
      Between(Source::Open(from_device.device_id), AddressOf(from, from_offset),
              Source::Open(to_device.device_id), AddressOf(to, to_offset), bytes);
    } else if (to_device.device_type == kType) {
      Up(Source::Open(to_device.device_id), static_cast<const char*>(from) + from_offset,
         AddressOf(to, to_offset), bytes);
    } else {
      Down(Source::Open(from_device.device_id), AddressOf(from, from_offset),
           static_cast<char*>(to) + to_offset, bytes);
    }
  }

 private:
  static void Up(Device& device, const char* from, uint64_t to, size_t bytes) {
    std::lock_guard<std::mutex> lock(device.mutex);
    device.CheckAlive();
    Upload(device, from, to, bytes);
  }

  static void Down(Device& device, uint64_t from, char* to, size_t bytes) {
    std::lock_guard<std::mutex> lock(device.mutex);
    device.CheckAlive();
    Download(device, from, to, bytes);
  }

  /* Two devices need not share memory: copy through the host. */
  static void Between(Device& source, uint64_t from, Device& target, uint64_t to, size_t bytes) {
    if (&source == &target) {
      std::lock_guard<std::mutex> lock(source.mutex);
      source.CheckAlive();
      CopyWithin(source, from, to, bytes);
      return;
    }
    std::vector<char> host(bytes);
    Down(source, from, host.data(), bytes);
    Up(target, host.data(), to, bytes);
  }
};

inline void CheckWhole(const DLTensor& tensor, int64_t bytes) {
  if (bytes < 0 || static_cast<size_t>(bytes) != tvm::ffi::GetDataSize(tensor)) {
    Fail("copy of ", bytes, " bytes from or to a tensor of another size");
  }
}

/* Copies host memory into the whole of a tensor and returns at once; the memory may be reused.
 * TVM's own function for this waits for the device. */
template <typename Source>
void Write(DLTensor* tensor, void* host, int64_t bytes) {
  CheckWhole(*tensor, bytes);
  auto& device = Source::Open(tensor->device.device_id);
  std::lock_guard<std::mutex> lock(device.mutex);
  device.CheckAlive();
  if (bytes) Upload(device, host, AddressOf(tensor->data, tensor->byte_offset), bytes);
}

/* Copies the whole of a tensor into host memory. TVM's own function waits twice. */
template <typename Source>
void Read(DLTensor* tensor, void* host, int64_t bytes) {
  CheckWhole(*tensor, bytes);
  auto& device = Source::Open(tensor->device.device_id);
  std::lock_guard<std::mutex> lock(device.mutex);
  device.CheckAlive();
  if (bytes) Download(device, AddressOf(tensor->data, tensor->byte_offset), host, bytes);
}

/* Registers "device_api.KIND", which lives as long as the process, since tensors are freed while it
 * exits, and handglass.KIND.write and .read. Once, while the library is loaded. */
template <typename Api, typename Source>
void DefineDeviceApi() {
  DefineOver(Words("device_api.", kKind), [] {
    static tvm::runtime::DeviceAPI* api = new Api();
    return static_cast<void*>(api);
  });
  DefineOver(Words("handglass.", kKind, ".write"), Write<Source>);
  DefineOver(Words("handglass.", kKind, ".read"), Read<Source>);
}

}  // namespace handglass
