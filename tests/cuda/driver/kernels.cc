// Modules, functions and launches. A kernel is translated when it is first asked for, by
// translation.cc; cubins are rejected, so that programs go on to their PTX.
#include <dlfcn.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <set>

#include "machine.h"

namespace emulated {
namespace {

constexpr int kUnasked = 48 << 10;
constexpr unsigned int kMostThreads = 1024;

/* What runs a translated kernel (tests/cuda/emulator). */
using Run = int (*)(const void* kernel, const unsigned* grid, const unsigned* block,
                    unsigned dynamic_shared, const uint8_t* parameters,
                    const uint64_t* allocations, unsigned count, unsigned late,
                    uint64_t* statistics, char* message);

struct Function {
  std::string name;
  Run run = nullptr;
  const void* kernel = nullptr;
  const unsigned* layout = nullptr;  // count, (offset, size) each, shared bytes, parameter bytes
  int dynamic_limit = 0;

  unsigned parameters() const { return layout[0]; }
  unsigned shared() const { return layout[1 + 2 * layout[0]]; }
  unsigned parameter_bytes() const { return layout[2 + 2 * layout[0]]; }
};

struct Module {
  std::string kept;  // the file with its PTX
  std::set<std::string> names;
  std::map<std::string, Function> functions;
};

struct Launch {
  Function* function;
  unsigned grid[3], block[3], shared;
  std::vector<uint8_t> parameters;
};

/* Throws if the kernel cannot be translated. */
Function Translated(const Module& module, const std::string& name) {
  using Layout = const unsigned* (*)(const void* kernel);
  const auto [machine, kernel] = OpenKernel(module.kept, name);
  Function function;
  function.name = name;
  function.kernel = kernel;
  function.run = reinterpret_cast<Run>(dlsym(machine, "launch_kernel"));
  function.layout = reinterpret_cast<Layout>(dlsym(machine, "kernel_layout"))(kernel);
  return function;
}

/* The kernels of a PTX text: the words after ".entry". */
std::set<std::string> NamesIn(const char* ptx) {
  std::set<std::string> names;
  const char* const word = ".entry ";
  while ((ptx = std::strstr(ptx, word))) {
    ptx += std::strlen(word);
    names.emplace(ptx, std::strcspn(ptx, "( \t\n"));
  }
  return names;
}

/* ".target sm_87" as 87 and ".version 8.4" as 84; -1 if the text has none. */
int NumberAfter(const char* ptx, const char* word) {
  const char* found = std::strstr(ptx, word);
  if (!found) return -1;
  int number = 0;
  for (found += std::strlen(word); (*found >= '0' && *found <= '9') || *found == '.'; ++found) {
    if (*found != '.') number = 10 * number + *found - '0';
  }
  return number;
}

CUresult CheckPtx(const char* ptx) {
  const Settings& settings = TheMachine().settings;
  if (NumberAfter(ptx, ".version ") > settings.newest_ptx) {
    return CUDA_ERROR_UNSUPPORTED_PTX_VERSION;
  }
  const int target = NumberAfter(ptx, ".target sm_");
  if (target < 0) return CUDA_ERROR_INVALID_PTX;
  return target > CurrentDevice()->capability ? CUDA_ERROR_NO_BINARY_FOR_GPU : CUDA_SUCCESS;
}

CUresult Execute(const Launch& launch, Device* device) {
  Machine& machine = TheMachine();
  machine.counters.kernels += 1;
  if (machine.counters.kernels == static_cast<uint64_t>(machine.settings.fail_kernel)) {
    return machine.settings.fail_result;
  }
  std::vector<uint64_t> table;
  for (const auto& [address, allocation] : device->allocations) {
    table.push_back(address);
    table.push_back(allocation.bytes);
  }
  char message[512] = {};
  const Function& function = *launch.function;
  if (!function.run(function.kernel, launch.grid, launch.block, launch.shared,
                    launch.parameters.data(), table.data(),
                    static_cast<unsigned>(table.size() / 2), 1, nullptr, message)) {
    return CUDA_SUCCESS;
  }
  std::fprintf(stderr, "emulated CUDA: kernel %s: %s\n", function.name.c_str(), message);
  return CUDA_ERROR_ILLEGAL_ADDRESS;
}

std::vector<uint8_t> Packed(const Function& function, void** parameters) {
  std::vector<uint8_t> bytes(function.parameter_bytes());
  for (unsigned i = 0; i < function.parameters(); ++i) {
    const unsigned offset = function.layout[1 + 2 * i];
    std::memcpy(&bytes[offset], parameters[i], function.layout[2 + 2 * i]);
  }
  return bytes;
}

}  // namespace

CUresult MakeWork(const CUDA_KERNEL_NODE_PARAMS& asked, Work* work) {
  auto* function = reinterpret_cast<Function*>(asked.func);
  const Launch launch{function,
                      {asked.gridDimX, asked.gridDimY, asked.gridDimZ},
                      {asked.blockDimX, asked.blockDimY, asked.blockDimZ},
                      asked.sharedMemBytes,
                      Packed(*function, asked.kernelParams)};
  uint64_t threads = 1;
  for (int axis = 0; axis < 3; ++axis) {
    threads *= launch.block[axis];
    if (!launch.grid[axis] || !launch.block[axis]) return CUDA_ERROR_INVALID_VALUE;
  }
  const int unasked = kUnasked - static_cast<int>(function->shared());
  if (threads > kMostThreads ||
      static_cast<int>(launch.shared) > std::max(unasked, function->dynamic_limit)) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  Device* device = CurrentDevice();
  *work = [launch, device] { return Execute(launch, device); };
  return CUDA_SUCCESS;
}

}  // namespace emulated

using namespace emulated;

EMULATED cuModuleLoadDataEx(CUmodule* handle, const void* image, unsigned int, CUjit_option*,
                            void**) {
  const Guard guard(Lock());
  if (!CurrentDevice()) return CUDA_ERROR_INVALID_CONTEXT;
  const auto* text = static_cast<const char*>(image);
  if (!std::memcmp(text, "\x7f" "ELF", 4)) return CUDA_ERROR_NO_BINARY_FOR_GPU;
  const CUresult result = CheckPtx(text);
  if (result != CUDA_SUCCESS) return result;
  try {
    *handle = reinterpret_cast<CUmodule>(new Module{KeepPtx(text), NamesIn(text), {}});
  } catch (const std::exception& error) {
    std::fprintf(stderr, "emulated CUDA: PTX: %s\n", error.what());
    return CUDA_ERROR_INVALID_PTX;
  }
  TheMachine().counters.modules += 1;
  return CUDA_SUCCESS;
}

/* The functions stay: a bug that uses them afterwards then shows as a wrong count, not a crash. */
EMULATED cuModuleUnload(CUmodule) {
  const Guard guard(Lock());
  TheMachine().counters.modules -= 1;
  return CUDA_SUCCESS;
}

EMULATED cuModuleGetFunction(CUfunction* handle, CUmodule module_handle, const char* name) {
  const Guard guard(Lock());
  auto* module = reinterpret_cast<Module*>(module_handle);
  if (!module->names.count(name)) return CUDA_ERROR_NOT_FOUND;
  Function& function = module->functions[name];
  try {
    if (!function.run) function = Translated(*module, name);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "emulated CUDA: kernel %s: %s\n", name, error.what());
    return CUDA_ERROR_INVALID_PTX;
  }
  *handle = reinterpret_cast<CUfunction>(&function);
  return CUDA_SUCCESS;
}

EMULATED cuFuncGetAttribute(int* value, CUfunction_attribute attribute, CUfunction handle) {
  const auto* function = reinterpret_cast<const Function*>(handle);
  switch (attribute) {
    case CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK:
      *value = kMostThreads;
      return CUDA_SUCCESS;
    case CU_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES:
      *value = static_cast<int>(function->shared());
      return CUDA_SUCCESS;
    default:
      return CUDA_ERROR_INVALID_VALUE;
  }
}

EMULATED cuFuncSetAttribute(CUfunction handle, CUfunction_attribute attribute, int value) {
  const Guard guard(Lock());
  auto* function = reinterpret_cast<Function*>(handle);
  if (attribute != CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES) return CUDA_ERROR_INVALID_VALUE;
  int optin = 0;
  cuDeviceGetAttribute(&optin, CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN,
                       CurrentDevice()->number);
  if (value + static_cast<int>(function->shared()) > optin) return CUDA_ERROR_INVALID_VALUE;
  function->dynamic_limit = value;
  return CUDA_SUCCESS;
}

EMULATED cuLaunchKernel(CUfunction function, unsigned int grid_x, unsigned int grid_y,
                        unsigned int grid_z, unsigned int block_x, unsigned int block_y,
                        unsigned int block_z, unsigned int shared, CUstream handle,
                        void** parameters, void**) {
  const Guard guard(Lock());
  Stream* stream = StreamOf(handle);
  if (CurrentDevice() != stream->device) return CUDA_ERROR_INVALID_CONTEXT;
  CUDA_KERNEL_NODE_PARAMS launch{function, grid_x,  grid_y, grid_z,     block_x, block_y,
                                 block_z,  shared, parameters, nullptr, nullptr, nullptr};
  Work work;
  const CUresult result = MakeWork(launch, &work);
  return result == CUDA_SUCCESS ? Put(stream, std::move(work)) : result;
}
