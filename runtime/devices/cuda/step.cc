#include "step.h"

#include <tvm/ffi/function.h>
#include <tvm/ffi/reflection/registry.h>

#include <algorithm>
#include <iterator>

#include "device.h"
#include "forks.h"
#include "registry.h"

namespace handglass {
namespace cuda {
namespace {

namespace ffi = tvm::ffi;

// The result of a function is in one of two places in turn: TVM's virtual machine holds the last
// result until the function returns the next one.
constexpr size_t kMostGraphs = 2;

}  // namespace

Step::~Step() {
  if (IsForked()) return;
  std::vector<KernelLaunch> retired;  // destroyed after the lock is released
  std::lock_guard<std::mutex> lock(device_.mutex);
  const bool is_open = device_.step == this;
  if (is_open) device_.step = nullptr;
  if (device_.lost()) return;
  try {
    const Current current(device_);
    if (is_open) Flush();
    DropGraphs(&retired);
  } catch (...) {  // the device is lost: its graphs are gone as well
  }
}

void Step::Begin() {
  device_.CheckAlive();
  if (device_.step || !device_.settings.graphs || device_.settings.blocking) return;
  cells_.Allocate(previous_);
  device_.step = this;
  collecting_ = true;
}

void Step::Flush() {
  if (!collecting_) return;
  collecting_ = false;
  for (const KernelLaunch& each : launches_) StartKernel(device_, each);
}

void Step::End(std::vector<KernelLaunch>* retired) {
  if (device_.step != this) return;
  device_.step = nullptr;
  const bool is_whole = collecting_ && !launches_.empty();
  try {
    if (is_whole) Start(retired);
  } catch (...) {
    DropGraphs(retired);
    Close(retired);
    throw;
  }
  if (is_whole) previous_.swap(launches_);
  Close(retired);
}

void Step::Close(std::vector<KernelLaunch>* retired) {
  collecting_ = false;
  std::move(launches_.begin(), launches_.end(), std::back_inserter(*retired));
  launches_.clear();
}

void Step::Start(std::vector<KernelLaunch>* retired) {
  const Current current(device_);
  if (!HaveSameKernels(launches_, previous_)) {  // also the first time
    DropGraphs(retired);
    Flush();
    return;
  }
  cells_.Place(&launches_);
  Graph& graph = FittingGraph();
  cells_.Write(launches_);
  graph.Launch();
}

/* One that is as it has to be, if there is one; else another one; else that which was launched longest
 * ago, changed. Throws. */
Graph& Step::FittingGraph() {
  auto found = std::find_if(graphs_.begin(), graphs_.end(),
                            [this](const auto& each) { return each->Has(launches_); });
  if (found == graphs_.end() && graphs_.size() < kMostGraphs) {
    graphs_.push_back(std::make_unique<Graph>(device_));
    graphs_.back()->Build(launches_);
    return *graphs_.back();
  }
  if (found == graphs_.end()) {
    found = graphs_.begin();
    (*found)->Update(launches_);
  }
  std::rotate(found, found + 1, graphs_.end());
  return *graphs_.back();
}

void Step::DropGraphs(std::vector<KernelLaunch>* retired) {
  for (const auto& each : graphs_) each->Drop(retired);
  graphs_.clear();
  cells_.Free();
}

namespace {

/* A function that opens a step (true) or ends it (false); it owns the graphs. */
ffi::Function MakeStep(int64_t index) {
  Device& device = Source::Open(static_cast<int>(index));
  const auto step = std::make_shared<Step>(device);
  return ffi::Function::FromTyped([step, &device](bool open) {
    std::vector<KernelLaunch> retired;  // destroyed after the lock is released
    std::lock_guard<std::mutex> lock(device.mutex);
    if (open) {
      step->Begin();
    } else {
      step->End(&retired);
    }
  });
}

}  // namespace

TVM_FFI_STATIC_INIT_BLOCK() {
  tvm::ffi::reflection::GlobalDef().def("handglass.cuda.step", MakeStep);
}

}  // namespace cuda
}  // namespace handglass
