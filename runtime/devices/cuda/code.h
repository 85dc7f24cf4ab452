// The machine code of one TVM module, loaded on each device that runs it.
#pragma once

#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "device.h"
#include "images.h"

namespace handglass {
namespace cuda {

class Code {
 public:
  explicit Code(std::vector<Image> images) : images_(std::move(images)) {}
  ~Code();
  Code(const Code&) = delete;
  Code& operator=(const Code&) = delete;

  /* The module on a device, loaded by the first call. The caller holds the device's lock. Throws if
   * no image fits, with the reason for each that the driver rejected. */
  CUmodule On(Device& device);

 private:
  struct Loaded {
    Device* device;
    CUmodule module;
  };

  CUmodule Load(Device& device) const;

  const std::vector<Image> images_;
  std::vector<Loaded> loaded_;
  std::mutex mutex_;  // of the list
};

}  // namespace cuda
}  // namespace handglass
