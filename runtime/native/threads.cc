#include "threads.h"

#include <pthread.h>
#include <tvm/ffi/c_api.h>
#include <tvm/runtime/c_backend_api.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <cstdlib>
#include <cstring>
#include <ctime>

#include "../threads/pool.h"
#include "cpu_quota.h"
#include "errors.h"
#include "machine.h"

namespace handglass {
namespace {

constexpr char kVariable[] = "TVM_NUM_THREADS";

int Checked(const char* name, const std::string& given, std::optional<int64_t> threads) {
  auto most = static_cast<int64_t>(UsableCpus().size());
  if (!threads || *threads < 1 || *threads > most) {
    throw UsageError(name, "=", given.substr(0, 40), " must be an integer between 1 and ", most,
                     ", the number of usable CPUs");
  }
  return static_cast<int>(*threads);
}

std::optional<int64_t> Number(const std::string& text) {
  int64_t number = 0;
  const char* end = text.data() + text.size();
  auto [stop, error] = std::from_chars(text.data(), end, number);
  if (error != std::errc() || stop != end) return std::nullopt;
  return number;
}

int DefaultThreads() {
  int cores = PhysicalCores();
  std::optional<double> quota = CpuQuota();
  return quota ? std::max(1, std::min(cores, static_cast<int>(*quota))) : cores;
}

}  // namespace

int ThreadCount(std::optional<int64_t> asked) {
  if (asked) return Checked("threads", std::to_string(*asked), asked);
  const char* given = std::getenv(kVariable);
  if (given == nullptr || *given == '\0') return DefaultThreads();
  return Checked(kVariable, given, Number(given));
}

void StartThreads(int count) {
  struct System system;
  system.pthread_create = reinterpret_cast<decltype(system.pthread_create)>(pthread_create);
  system.pthread_detach = reinterpret_cast<decltype(system.pthread_detach)>(pthread_detach);
  system.clock_gettime = reinterpret_cast<decltype(system.clock_gettime)>(clock_gettime);
  system.syscall = syscall;
  HandglassStartPool(&system);
  HandglassSetThreads(count);
}

}  // namespace handglass

// Compiled libraries call these functions of TVM's runtime, whose thread pool is not linked in.

int TVMBackendParallelLaunch(FTVMParallelLambda lambda, void* data, int pieces) {
  return HandglassParallelLaunch(reinterpret_cast<Parallel>(lambda), data, pieces);
}

int TVMBackendParallelBarrier(int, TVMParallelGroupEnv*) {
  TVMFFIErrorSetRaisedFromCStr("RuntimeError", "parallel loops with barriers are not supported");
  return -1;
}
