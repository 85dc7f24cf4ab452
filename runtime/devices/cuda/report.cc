// "handglass.cuda.devices" and "handglass.cuda.statistics": JSON for device selection.
#include <tvm/ffi/function.h>
#include <tvm/ffi/reflection/registry.h>
#include <tvm/ffi/string.h>

#include "json.h"
#include "registry.h"

namespace handglass {
namespace cuda {
namespace {

namespace ffi = tvm::ffi;

void AddDevice(const PhysicalDevice& device, const Driver& driver, Json* json) {
  json->Open('{')
      .Field("name", device.name)
      .Field("uuid", device.uuid)
      .Field("capability", device.capability)
      .Field("architecture", device.Architecture())
      .Field("driver_version", driver.VersionText())
      .Field("memory", device.memory)
      .Field("integrated", device.integrated != 0)
      .Field("managed", device.managed != 0)
      .Field("compute_mode", device.compute_mode)
      .Field("multiprocessors", device.multiprocessors)
      .Field("warp_size", device.warp_size)
      .Field("max_threads_per_block", device.max_threads_per_block)
      .List("max_block_size", device.max_block, 3)
      .List("max_grid", device.max_grid, 3)
      .Field("registers_per_block", device.registers_per_block)
      .Field("registers_per_multiprocessor", device.registers_per_multiprocessor)
      .Field("threads_per_multiprocessor", device.threads_per_multiprocessor)
      .Field("shared_per_block", device.shared_per_block)
      .Field("shared_optin", device.shared_optin)
      .Field("shared_per_multiprocessor", device.shared_per_multiprocessor)
      .Field("l2", device.l2)
      .Field("clock_khz", device.clock_khz)
      .Field("memory_clock_khz", device.memory_clock_khz)
      .Field("memory_bus_bits", device.memory_bus_bits)
      .Close('}');
}

/* {"devices": [...], "problem": why there are none, or ""}. Throws on an invalid setting. */
std::string Devices() {
  const Registry& registry = Registry::Get();
  Json json;
  json.Open('{').Key("devices").Open('[');
  for (const PhysicalDevice& each : registry.physical()) {
    AddDevice(each, registry.driver(), &json);
  }
  return json.Close(']').Field("problem", registry.problem()).Close('}').Text();
}

/* Counts since the device was opened; opens it if necessary. */
std::string Statistics(int64_t index) {
  Device& device = Source::Open(static_cast<int>(index));
  std::lock_guard<std::mutex> lock(device.mutex);
  const MemoryStatistics& memory = device.memory->statistics();
  const DeviceStatistics& work = device.statistics;
  return Json()
      .Open('{')
      .Field("device", device.Title())
      .Field("live_buffers", memory.live_buffers)
      .Field("live_bytes", memory.live_bytes)
      .Field("peak_bytes", memory.peak_bytes)
      .Field("allocations", memory.allocations)
      .Field("blocks", memory.blocks)
      .Field("block_bytes", memory.block_bytes)
      .Field("mapped", device.memory->mapped())
      .Field("launches", work.launches)
      .Field("graph_launches", work.graph_launches)
      .Field("graph_updates", work.graph_updates)
      .Field("cell_writes", work.cell_writes)
      .Field("waits", work.waits)
      .Field("uploaded_bytes", work.uploaded_bytes)
      .Field("downloaded_bytes", work.downloaded_bytes)
      .Field("staged_bytes", work.staged_bytes)
      .Field("lost", device.lost())
      .Close('}')
      .Text();
}

}  // namespace

TVM_FFI_STATIC_INIT_BLOCK() {
  tvm::ffi::reflection::GlobalDef()
      .def("handglass.cuda.devices", [] { return ffi::String(Devices()); })
      .def("handglass.cuda.statistics",
           [](int64_t index) { return ffi::String(Statistics(index)); });
}

}  // namespace cuda
}  // namespace handglass
