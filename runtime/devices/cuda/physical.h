// What the driver says about a device, without opening it.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "driver.h"
#include "settings.h"

namespace handglass {
namespace cuda {

struct PhysicalDevice {
  CUdevice handle = 0;
  std::string name;
  std::string uuid;
  uint64_t memory = 0;  // bytes
  int capability = 0;   // 87 for 8.7
  int max_block[3] = {};
  int max_grid[3] = {};
  int max_threads_per_block = 0;
  int warp_size = 0;
  int shared_per_block = 0;  // bytes without asking for more
  int shared_optin = 0;      // bytes that a kernel can ask for
  int shared_per_multiprocessor = 0;
  int registers_per_block = 0;
  int registers_per_multiprocessor = 0;
  int threads_per_multiprocessor = 0;
  int multiprocessors = 0;
  int l2 = 0;
  int clock_khz = 0;
  int memory_clock_khz = 0;
  int memory_bus_bits = 0;
  int integrated = 0;  // shares the host's memory
  int managed = 0;     // supports memory that both can address
  int compute_mode = 0;

  /* "sm_87" */
  std::string Architecture() const { return Words("sm_", capability); }
};

/* In the driver's order, but with the device of the setting first. Throws for one that is not
 * there, and if the driver fails. */
std::vector<PhysicalDevice> FindDevices(const Driver& driver, const Settings& settings);

}  // namespace cuda
}  // namespace handglass
