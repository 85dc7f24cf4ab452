#include "code.h"

#include "forks.h"

namespace handglass {
namespace cuda {
namespace {

constexpr size_t kLogBytes = 4096;

std::string FirstLine(const std::string& log) { return log.substr(0, log.find('\n')); }

/* Whether another image may still do: the device is alive and the driver rejected this one. */
bool IsRejection(CUresult result) {
  return result == CUDA_ERROR_INVALID_IMAGE || result == CUDA_ERROR_NO_BINARY_FOR_GPU ||
         result == CUDA_ERROR_INVALID_PTX || result == CUDA_ERROR_UNSUPPORTED_PTX_VERSION ||
         result == CUDA_ERROR_JIT_COMPILATION_DISABLED;
}

/* Appends the reason to `rejected` if the driver does not take the image. */
CUresult LoadImage(Device& device, const Image& image, CUmodule* module, std::string* rejected) {
  std::string log(kLogBytes, '\0');
  CUjit_option options[] = {CU_JIT_ERROR_LOG_BUFFER, CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES};
  void* values[] = {&log[0], reinterpret_cast<void*>(kLogBytes - 1)};
  const CUresult result = device.driver.functions.cuModuleLoadDataEx(
      module, image.content.data(), 2, options, values);
  if (result == CUDA_SUCCESS) return result;
  log = FirstLine(log.c_str());
  *rejected += Words("; ", image.architecture, ": ", device.driver.NameOf(result),
                     log.empty() ? "" : " ", log);
  return result;
}

}  // namespace

Code::~Code() {
  if (IsForked()) return;
  for (const Loaded& each : loaded_) {
    std::lock_guard<std::mutex> lock(each.device->mutex);
    if (each.device->lost()) continue;
    try {
      const Current current(*each.device);
      each.device->Sync();  // a kernel may still be running
      each.device->driver.functions.cuModuleUnload(each.module);
    } catch (...) {  // the device is lost: its memory is gone as well
    }
  }
}

CUmodule Code::On(Device& device) {
  std::lock_guard<std::mutex> lock(mutex_);
  for (const Loaded& each : loaded_) {
    if (each.device == &device) return each.module;
  }
  const CUmodule module = Load(device);
  loaded_.push_back({&device, module});
  return module;
}

CUmodule Code::Load(Device& device) const {
  std::string rejected;
  for (const Image* image : FittingImages(images_, device.physical.capability)) {
    CUmodule module = nullptr;
    const CUresult result = LoadImage(device, *image, &module, &rejected);
    if (result == CUDA_SUCCESS) return module;
    if (!IsRejection(result)) device.Check(result, "loading code for ", image->architecture);
  }
  Fail("no code for ", device.Title(), ", which is ", device.physical.Architecture(),
       " with a driver for CUDA ", device.driver.VersionText(), ": the module has ",
       NamesOf(images_), rejected, "; compile for this device, or update the driver");
}

}  // namespace cuda
}  // namespace handglass
