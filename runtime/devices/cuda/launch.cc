#include "launch.h"

#include <algorithm>

#include "arguments.h"
#include "device_api.h"
#include "registry.h"
#include "step.h"

namespace handglass {
namespace cuda {
namespace {

// Shared memory that a kernel may use without asking for it.
constexpr int kUnasked = 48 << 10;

}  // namespace

Extent ReadExtent(const std::string& kernel, const std::string& tag) {
  if (tag == "tirx.use_dyn_shared_memory") return {Extent::kShared, 0};
  const bool grid = tag.rfind("blockIdx.", 0) == 0;
  const bool block = tag.rfind("threadIdx.", 0) == 0;
  const int axis = tag.empty() ? -1 : tag.back() - 'x';
  const size_t size = grid ? 10 : 11;
  if ((!grid && !block) || tag.size() != size || axis < 0 || axis > 2) {
    Fail("kernel ", kernel, ": its launch needs ", tag, ", which is not supported");
  }
  return {grid ? Extent::kGrid : Extent::kBlock, axis};
}

Launcher::Launcher(Kernel kernel, std::shared_ptr<Code> code)
    : kernel_(std::move(kernel)), code_(std::move(code)) {}

Launcher::Loaded& Launcher::On(Device& device) {
  std::lock_guard<std::mutex> lock(mutex_);
  const auto index = static_cast<size_t>(device.index);
  if (loaded_.size() <= index) loaded_.resize(index + 1);
  Loaded& loaded = loaded_[index];
  if (loaded.function) return loaded;
  const Functions& f = device.driver.functions;
  CUfunction function = nullptr;
  device.Check(f.cuModuleGetFunction(&function, code_->On(device), kernel_.name.c_str()),
               "kernel ", kernel_.name);
  device.Check(f.cuFuncGetAttribute(&loaded.max_threads, CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK,
                                    function),
               "kernel ", kernel_.name);
  device.Check(f.cuFuncGetAttribute(&loaded.static_shared, CU_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES,
                                    function),
               "kernel ", kernel_.name);
  loaded.dynamic_shared = kUnasked - loaded.static_shared;
  loaded.function = function;
  return loaded;
}

unsigned int Launcher::Bounded(int64_t value, int64_t most, const char* what,
                               const Device& device) const {
  if (value < 0 || value > most) {
    Fail("kernel ", kernel_.name, ": ", value, " ", what, ", not from 0 to ", most, " as on ",
         device.Title());
  }
  return static_cast<unsigned int>(value);
}

Launcher::Shape Launcher::ReadShape(const TVMFFIAny* values, const Device& device) const {
  static const char* const kBlocks[] = {"blocks along x", "blocks along y", "blocks along z"};
  static const char* const kThreads[] = {"threads along x", "threads along y", "threads along z"};
  const PhysicalDevice& has = device.physical;
  Shape shape;
  for (size_t i = 0; i < kernel_.extents.size(); ++i) {
    const auto [meaning, axis] = kernel_.extents[i];
    const int64_t value = values[i].v_int64;
    if (meaning == Extent::kGrid) {
      shape.grid[axis] = Bounded(value, has.max_grid[axis], kBlocks[axis], device);
    } else if (meaning == Extent::kBlock) {
      shape.block[axis] = Bounded(value, has.max_block[axis], kThreads[axis], device);
    } else {
      shape.shared = Bounded(value, has.shared_optin, "bytes of shared memory", device);
    }
  }
  return shape;
}

void Launcher::CheckShape(const Shape& shape, const Loaded& loaded, const Device& device) const {
  int64_t threads = 1;
  for (unsigned int extent : shape.block) threads *= extent;
  Bounded(threads, loaded.max_threads, "threads per block", device);
  Bounded(int64_t{shape.shared} + loaded.static_shared, device.physical.shared_optin,
          "bytes of shared memory", device);
}

void Launcher::AskForShared(unsigned int bytes, Loaded* loaded, Device& device) const {
  const int wanted = static_cast<int>(bytes);
  if (wanted <= loaded->dynamic_shared) return;
  device.Check(device.driver.functions.cuFuncSetAttribute(
                   loaded->function, CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES, wanted),
               "kernel ", kernel_.name, ": ", wanted, " bytes of shared memory");
  loaded->dynamic_shared = wanted;
}

void Launcher::Start(const Shape& shape, const Loaded& loaded, const TVMFFIAny* values,
                     Device& device) {
  KernelLaunch launch;
  launch.kernel = kernel_.name;
  launch.code = code_;
  launch.function = loaded.function;
  std::copy(shape.grid, shape.grid + 3, launch.grid);
  std::copy(shape.block, shape.block + 3, launch.block);
  launch.shared = shape.shared;
  launch.arguments.resize(kernel_.arguments.size());
  for (size_t i = 0; i < launch.arguments.size(); ++i) {
    PutScalar(values[i], kernel_.arguments[i], reinterpret_cast<char*>(&launch.arguments[i]));
  }
  launch.cells = kernel_.cells;
  if (!launch.cells.empty()) launch.arguments.push_back(0);  // no cells, unless a graph has some
  if (device.step && device.step->is_collecting()) {
    device.step->Add(std::move(launch));
  } else {
    StartKernel(device, launch);
  }
  device.Launched(kernel_.name);
}

void Launcher::Launch(tvm::ffi::PackedArgs packed) {
  const size_t count = kernel_.arguments.size();
  const size_t expected = count + kernel_.extents.size();
  if (static_cast<size_t>(packed.size()) != expected) {
    Fail("kernel ", kernel_.name, ": called with ", packed.size(), " arguments, not ", expected);
  }
  const auto* values = reinterpret_cast<const TVMFFIAny*>(packed.data());
  Device& device = Source::Open(ActiveIndex());
  std::lock_guard<std::mutex> lock(device.mutex);
  device.CheckAlive();
  const Current current(device);
  const Shape shape = ReadShape(values + count, device);
  if (shape.is_empty()) return;  // a tensor of no elements
  Loaded& loaded = On(device);
  CheckShape(shape, loaded, device);
  AskForShared(shape.shared, &loaded, device);
  Start(shape, loaded, values, device);
}

}  // namespace cuda
}  // namespace handglass
