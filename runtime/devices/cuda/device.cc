#include "device.h"

#include "staging.h"
#include "step.h"
#include "timestamps.h"

namespace handglass {
namespace cuda {
namespace {

/* Errors after which every call on the context fails. */
bool EndsContext(CUresult result) {
  switch (result) {
    case CUDA_ERROR_ECC_UNCORRECTABLE:
    case CUDA_ERROR_NVLINK_UNCORRECTABLE:
    case CUDA_ERROR_ILLEGAL_ADDRESS:
    case CUDA_ERROR_LAUNCH_TIMEOUT:
    case CUDA_ERROR_ASSERT:
    case CUDA_ERROR_HARDWARE_STACK_ERROR:
    case CUDA_ERROR_ILLEGAL_INSTRUCTION:
    case CUDA_ERROR_MISALIGNED_ADDRESS:
    case CUDA_ERROR_INVALID_ADDRESS_SPACE:
    case CUDA_ERROR_INVALID_PC:
    case CUDA_ERROR_LAUNCH_FAILED:
    case CUDA_ERROR_UNKNOWN:
      return true;
    default:
      return false;
  }
}

}  // namespace

Current::Current(Device& device) : functions_(device.driver.functions) {
  device.Check(functions_.cuCtxPushCurrent_v2(device.context), "cuCtxPushCurrent");
}

Current::~Current() {
  CUcontext ours = nullptr;
  functions_.cuCtxPopCurrent_v2(&ours);
}

Device::Device(int index, const Driver& driver, const PhysicalDevice& physical,
               const Settings& settings)
    : index(index), driver(driver), physical(physical), settings(settings) {
  const Functions& f = driver.functions;
  // the primary context: the one that CUDA's own runtime and other libraries use
  Check(f.cuDevicePrimaryCtxRetain(&context, physical.handle), "it cannot be opened");
  const Current current(*this);
  Check(f.cuStreamCreate(&stream, CU_STREAM_DEFAULT), "cuStreamCreate");
  memory = std::make_unique<Memory>(driver, stream, settings.block_bytes,
                                    physical.integrated && physical.managed && !settings.staging);
  staging = std::make_unique<Staging>(*this);
  timestamps = std::make_unique<Timestamps>(*this);
}

Device::~Device() = default;

std::string Device::Title() const { return Words("cuda:", index, " (", physical.name, ")"); }

void Device::CheckAlive() const {
  if (lost()) Fail(lost_, "; nothing more can run on it in this process");
}

void Device::Failed(CUresult result, const std::string& what) {
  if (!EndsContext(result)) Fail(Title(), ": ", what, ": ", driver.NameOf(result));
  lost_ = Words("device lost: ", driver.NameOf(result), " on ", Title(), ": ", what);
  if (!newest_kernel_.empty()) {
    lost_ += Words("; the newest kernel is ", newest_kernel_,
                   settings.blocking ? "" : " (HANDGLASS_CUDA_BLOCKING=1 names the one that failed)");
  }
  Fail(lost_);
}

uint64_t Device::Allocate(uint64_t bytes) {
  CheckAlive();
  const Current current(*this);
  uint64_t address = 0;
  CUresult result = memory->Allocate(bytes, &address);
  if (result == CUDA_ERROR_OUT_OF_MEMORY) {
    Sync();
    memory->ReturnIdle(0);
    result = memory->Allocate(bytes, &address);
  }
  if (result == CUDA_ERROR_OUT_OF_MEMORY) OutOfMemory(bytes);
  Check(result, "allocation of ", bytes, " bytes");
  return address;
}

void Device::OutOfMemory(uint64_t bytes) {
  size_t free = 0;
  size_t total = 0;
  driver.functions.cuMemGetInfo_v2(&free, &total);  // zeros if it fails
  const MemoryStatistics& now = memory->statistics();
  Fail("out of memory: allocation of ", bytes, " bytes on ", Title(), ": ", now.live_bytes,
       " bytes are in use by ", now.live_buffers, " tensors, ", free, " of ", total,
       " bytes are free");
}

void Device::Free(uint64_t address) {
  // The stream is ordered: what is cut from the same range later runs after its present use.
  if (!lost()) memory->Release(address);
}

void Device::Flush() {
  if (step) step->Flush();
}

void Device::Sync() {
  const Current current(*this);
  Flush();
  statistics.waits += 1;
  Check(driver.functions.cuStreamSynchronize(stream), "waiting for the device");
  memory->Waited();
}

bool Device::IsIdle() {
  Flush();
  const CUresult result = driver.functions.cuStreamQuery(stream);
  if (result == CUDA_ERROR_NOT_READY) return false;
  Check(result, "cuStreamQuery");
  return true;
}

void Device::Launched(const std::string& kernel) {
  newest_kernel_ = kernel;
  statistics.launches += 1;
  if (settings.blocking) Sync();
}

}  // namespace cuda
}  // namespace handglass
