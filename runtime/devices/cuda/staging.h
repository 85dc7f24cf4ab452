// Pinned host memory, through which copies between host and device go without waiting.
#pragma once

#include <cstdint>
#include <vector>

#include "driver.h"

namespace handglass {
namespace cuda {

class Device;

class Staging {
 public:
  explicit Staging(Device& device) : device_(device) {}

  /* Copies the bytes now and starts their upload. Throws. */
  void Upload(const char* from, CUdeviceptr to, uint64_t bytes);
  /* Returns after the bytes have arrived. Throws. */
  void Download(CUdeviceptr from, char* to, uint64_t bytes);

 private:
  /* A piece of pinned memory that is filled from the front. */
  struct Slot {
    char* host = nullptr;
    CUevent read = nullptr;  // after the uploads from it
    uint64_t filled = 0;
    bool pending = false;
  };

  char* Pin(uint64_t bytes);
  void Prepare();
  void NextSlot();

  Device& device_;
  std::vector<Slot> slots_;
  size_t current_ = 0;
  char* readback_ = nullptr;
};

}  // namespace cuda
}  // namespace handglass
