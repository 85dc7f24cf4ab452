#include "step.h"

#include <tvm/ffi/function.h>
#include <tvm/ffi/reflection/registry.h>

#include <algorithm>

#include "forks.h"
#include "registry.h"
#include "transfer.h"

namespace handglass {
namespace cuda {
namespace {

namespace ffi = tvm::ffi;

/* Pointers to the arguments, as the driver wants them. It reads them during the call only. */
std::vector<void*> PointersTo(const std::vector<uint64_t>& arguments) {
  std::vector<void*> pointers;
  for (const uint64_t& each : arguments) pointers.push_back(const_cast<uint64_t*>(&each));
  return pointers;
}

CUDA_KERNEL_NODE_PARAMS NodeOf(const KernelLaunch& launch, std::vector<void*>* pointers) {
  *pointers = PointersTo(launch.arguments);
  CUDA_KERNEL_NODE_PARAMS node{};
  node.func = launch.function;
  node.gridDimX = launch.grid[0];
  node.gridDimY = launch.grid[1];
  node.gridDimZ = launch.grid[2];
  node.blockDimX = launch.block[0];
  node.blockDimY = launch.block[1];
  node.blockDimZ = launch.block[2];
  node.sharedMemBytes = launch.shared;
  node.kernelParams = pointers->data();
  return node;
}

bool HaveSameKernels(const std::vector<KernelLaunch>& one, const std::vector<KernelLaunch>& other) {
  return std::equal(one.begin(), one.end(), other.begin(), other.end(),
                    [](const auto& a, const auto& b) { return a.function == b.function; });
}

/* What belongs in the cells of all kernels. */
std::vector<uint64_t> NumbersOf(const std::vector<KernelLaunch>& launches) {
  std::vector<uint64_t> numbers;
  for (const KernelLaunch& each : launches) {
    for (size_t cell : each.cells) numbers.push_back(each.arguments[cell]);
  }
  return numbers;
}

}  // namespace

bool KernelLaunch::HasSameNode(const KernelLaunch& other) const {
  if (function != other.function) return false;  // so it has as many arguments
  std::vector<uint64_t> parameters = other.arguments;
  for (size_t cell : cells) parameters[cell] = arguments[cell];
  return parameters == arguments && shared == other.shared &&
         std::equal(grid, grid + 3, other.grid) && std::equal(block, block + 3, other.block);
}

void StartKernel(Device& device, const KernelLaunch& launch) {
  std::vector<void*> pointers = PointersTo(launch.arguments);
  const unsigned int* grid = launch.grid;
  const unsigned int* block = launch.block;
  device.Check(device.driver.functions.cuLaunchKernel(
                   launch.function, grid[0], grid[1], grid[2], block[0], block[1], block[2],
                   launch.shared, device.stream, pointers.data(), nullptr),
               "kernel ", launch.kernel);
}

Step::~Step() {
  if (IsForked()) return;
  std::lock_guard<std::mutex> lock(device_.mutex);
  const bool is_open = device_.step == this;
  if (is_open) device_.step = nullptr;
  if (device_.lost()) return;
  try {
    const Current current(device_);
    if (is_open) Flush();
    DropGraph();
  } catch (...) {  // the device is lost: its graphs are gone as well
  }
}

void Step::Begin() {
  device_.CheckAlive();
  if (device_.step || !device_.settings.graphs || device_.settings.blocking) return;
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
    if (is_whole) Start();
  } catch (...) {
    collecting_ = false;
    retired->swap(launches_);
    DropGraph();
    throw;
  }
  if (is_whole) previous_.swap(launches_);
  collecting_ = false;
  retired->swap(launches_);
}

void Step::Start() {
  const Current current(device_);
  if (!HaveSameKernels(launches_, previous_)) {  // also the first time
    DropGraph();
    Flush();
    return;
  }
  if (executable_) {
    PlaceCells();
    Update();
  } else {
    AllocateCells();
    PlaceCells();
    Build();
  }
  WriteCells();
  device_.Check(device_.driver.functions.cuGraphLaunch(executable_, device_.stream),
                "the launch of a graph of ", nodes_.size(), " kernels");
  device_.statistics.graph_launches += 1;
}

/* A chain: each kernel after the one before, as in the stream. */
void Step::Build() {
  const Functions& f = device_.driver.functions;
  device_.Check(f.cuGraphCreate(&graph_, 0), "cuGraphCreate");
  for (const KernelLaunch& each : launches_) {
    std::vector<void*> pointers;
    const CUDA_KERNEL_NODE_PARAMS parameters = NodeOf(each, &pointers);
    CUgraphNode node = nullptr;
    device_.Check(f.cuGraphAddKernelNode_v2(&node, graph_, nodes_.empty() ? nullptr : &nodes_.back(),
                                            nodes_.empty() ? 0 : 1, &parameters),
                  "kernel ", each.kernel, " in a graph");
    nodes_.push_back(node);
  }
  device_.Check(f.cuGraphInstantiateWithFlags(&executable_, graph_, 0), "a graph of ",
                nodes_.size(), " kernels");
}

void Step::Update() {
  for (size_t i = 0; i < nodes_.size(); ++i) {
    if (launches_[i].HasSameNode(previous_[i])) continue;
    std::vector<void*> pointers;
    const CUDA_KERNEL_NODE_PARAMS parameters = NodeOf(launches_[i], &pointers);
    device_.Check(device_.driver.functions.cuGraphExecKernelNodeSetParams_v2(executable_, nodes_[i],
                                                                             &parameters),
                  "kernel ", launches_[i].kernel, " in a graph");
    device_.statistics.graph_updates += 1;
  }
}

void Step::AllocateCells() {
  const size_t count = NumbersOf(launches_).size();
  if (count) cells_ = device_.Allocate(count * sizeof(uint64_t));
}

/* Passes each kernel the address of its cells. */
void Step::PlaceCells() {
  uint64_t place = cells_;
  for (KernelLaunch& each : launches_) {
    if (each.cells.empty()) continue;
    each.arguments.back() = place;
    place += each.cells.size() * sizeof(uint64_t);
  }
}

/* The stream orders the copy: after the last launch, which may still read, and before the next. */
void Step::WriteCells() {
  std::vector<uint64_t> numbers = NumbersOf(launches_);
  if (numbers == numbers_) return;
  Upload(device_, numbers.data(), cells_, numbers.size() * sizeof(uint64_t));
  numbers_.swap(numbers);
  device_.statistics.cell_writes += 1;
}

/* The driver keeps an executable graph until it has run, and the stream is done with its cells
 * before it does anything else in their place. */
void Step::DropGraph() {
  const Functions& f = device_.driver.functions;
  if (executable_) f.cuGraphExecDestroy(executable_);
  if (graph_) f.cuGraphDestroy(graph_);
  executable_ = nullptr;
  graph_ = nullptr;
  nodes_.clear();
  if (cells_) device_.Free(cells_);
  cells_ = 0;
  numbers_.clear();
}

namespace {

/* A function that opens a step (true) or ends it (false); it owns the graph. */
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
