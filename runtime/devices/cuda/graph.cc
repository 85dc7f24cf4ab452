// "handglass.cuda.capture" and "handglass.cuda.captured", for a call that is repeated.
//
// Between them, kernels are recorded instead of run. The result is a function that starts them, with
// the same addresses: the tensors of the call must stay alive, and what changes from one launch to
// the next must be in device memory.
#include "graph.h"

#include <tvm/ffi/function.h>
#include <tvm/ffi/reflection/registry.h>

#include <atomic>

#include "forks.h"
#include "registry.h"

namespace handglass {
namespace cuda {
namespace {

namespace ffi = tvm::ffi;

int64_t NextArena() {
  static std::atomic<int64_t> next{1};
  return next++;
}

}  // namespace

Capture::Capture(Device& device) : device_(device), arena_(NextArena()) {
  const Current current(device);
  device.Check(device.driver.functions.cuStreamBeginCapture_v2(device.stream,
                                                               CU_STREAM_CAPTURE_MODE_RELAXED),
               "the capture of a graph");
  device.memory->BeginArena(arena_);
}

Capture::~Capture() {
  if (IsForked()) return;
  std::lock_guard<std::mutex> lock(device_.mutex);
  if (device_.lost()) return;
  try {
    const Current current(device_);
    if (!device_.capture) device_.Sync();  // it may still be running
    if (executable_) device_.driver.functions.cuGraphExecDestroy(executable_);
    device_.memory->DropArena(arena_);
  } catch (...) {  // the device is lost: its memory is gone as well
  }
}

void Capture::End() {
  const Functions& f = device_.driver.functions;
  const Current current(device_);
  device_.memory->EndArena();
  CUgraph graph = nullptr;
  device_.Check(f.cuStreamEndCapture(device_.stream, &graph), "the end of a capture");
  CUresult result = f.cuGraphGetNodes(graph, nullptr, &nodes_);
  if (result == CUDA_SUCCESS) result = f.cuGraphInstantiateWithFlags(&executable_, graph, 0);
  f.cuGraphDestroy(graph);
  device_.Check(result, "a graph of ", nodes_, " operations");
}

void Capture::Launch() {
  std::lock_guard<std::mutex> lock(device_.mutex);
  device_.CheckAlive();
  if (device_.capture) Fail("a graph cannot be started while another one is captured");
  const Current current(device_);
  device_.Check(device_.driver.functions.cuGraphLaunch(executable_, device_.stream),
                "the launch of a graph of ", nodes_, " operations");
  device_.statistics.graph_launches += 1;
}

namespace {

void Begin(int64_t index) {
  Device& device = Source::Open(static_cast<int>(index));
  std::lock_guard<std::mutex> lock(device.mutex);
  device.CheckAlive();
  if (device.capture) Fail("a graph of ", device.Title(), " is already being captured");
  device.capture = std::make_shared<Capture>(device);
}

/* Ends it also if it fails. */
ffi::Function End(int64_t index) {
  Device& device = Source::Open(static_cast<int>(index));
  std::shared_ptr<Capture> capture;  // destroyed after the lock is released
  std::lock_guard<std::mutex> lock(device.mutex);
  if (!device.capture) Fail("no graph of ", device.Title(), " is being captured");
  capture.swap(device.capture);
  capture->End();
  return ffi::Function::FromTyped([capture] { capture->Launch(); });
}

}  // namespace

TVM_FFI_STATIC_INIT_BLOCK() {
  tvm::ffi::reflection::GlobalDef()
      .def("handglass.cuda.capture", Begin)
      .def("handglass.cuda.captured", End);
}

}  // namespace cuda
}  // namespace handglass
