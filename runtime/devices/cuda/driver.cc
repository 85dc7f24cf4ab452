#include "driver.h"

#include <dlfcn.h>

namespace handglass {
namespace cuda {
namespace {

// Cubins made by CUDA 12 need a driver of 12.0 or newer.
constexpr int kOldest = 12000;

void* OpenLibrary(const std::string& given) {
  const std::string name = given.empty() ? "libcuda.so.1" : given;
  if (void* library = dlopen(name.c_str(), RTLD_NOW | RTLD_LOCAL)) return library;
  const char* why = dlerror();
  throw Absent{Words("NVIDIA's driver cannot be opened: ", why ? why : name)};
}

template <typename Function>
void Look(void* library, const char* name, Function* out, std::string* missing) {
  *out = reinterpret_cast<Function>(dlsym(library, name));
  if (!*out && missing->empty()) *missing = name;
}

/* What each failure of cuInit means for the user. */
std::string Explain(const Driver& driver, CUresult result) {
  if (result == CUDA_ERROR_NO_DEVICE) {
    return "NVIDIA's driver lists no device; if CUDA_VISIBLE_DEVICES is set, it may hide them";
  }
  if (result == CUDA_ERROR_STUB_LIBRARY) {
    return "libcuda.so.1 is the toolkit's stub for linking, not a driver; check LD_LIBRARY_PATH";
  }
  return Words("NVIDIA's driver does not start: cuInit: ", driver.NameOf(result));
}

}  // namespace

std::string Driver::NameOf(CUresult result) const {
  const char* name = nullptr;
  if (!functions.cuGetErrorName || functions.cuGetErrorName(result, &name) || !name) {
    name = "CUresult";
  }
  return Words(name, " (", static_cast<unsigned int>(result), ")");
}

Driver OpenDriver(const std::string& given) {
  void* library = OpenLibrary(given);
  Driver driver;
  std::string missing;
#define HANDGLASS_CUDA_LOOK(name, parameters) \
  Look(library, #name, &driver.functions.name, &missing);
  HANDGLASS_CUDA_FUNCTIONS(HANDGLASS_CUDA_LOOK)
#undef HANDGLASS_CUDA_LOOK
  const Functions& f = driver.functions;
  if (f.cuDriverGetVersion && f.cuDriverGetVersion(&driver.version)) driver.version = 0;
  if (driver.version < kOldest || !missing.empty()) {
    throw Absent{Words("NVIDIA's driver is too old: it supports CUDA ", driver.VersionText(),
                       missing.empty() ? "" : " and lacks ", missing,
                       "; update it to one for CUDA 12.0 or newer")};
  }
  const CUresult result = f.cuInit(0);
  if (result != CUDA_SUCCESS) throw Absent{Explain(driver, result)};
  return driver;
}

}  // namespace cuda
}  // namespace handglass
