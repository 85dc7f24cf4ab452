// The state of the emulated driver, and what its files share.
//
// The driver implements NVIDIA's prototypes (cuda.h) on the CPU: streams are lazy, so that work runs
// only when something waits for it; errors of kernels are sticky; memory that host and device share
// cannot be touched by the host while work is pending. One lock protects everything.
#pragma once

#include <cuda.h>

#include <cstdint>
#include <functional>
#include <list>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#undef cuEventElapsedTime  // cuda.h of CUDA 13 renames it; programs ask for both symbols
#undef cuDeviceGetUuid

#define EMULATED extern "C" __attribute__((visibility("default"))) CUresult CUDAAPI

namespace emulated {

struct Device;

/* One piece of work of a stream. */
using Work = std::function<CUresult()>;

/* A kernel of a graph, which runs after the nodes that it depends on. */
struct Node {
  Work work;
  std::vector<Node*> dependencies;
};

struct Graph {
  std::list<Node> nodes;
};

/* A graph that can be launched: its own work for each node. */
struct ExecutableGraph {
  std::map<const Node*, Work> work;
  std::vector<const Node*> order;
};

struct Stream {
  Device* device = nullptr;
  std::list<Work> queue;
};

struct Event {
  Stream* stream = nullptr;  // null: not recorded yet
  bool happened = false;
  int64_t nanoseconds = 0;
};

struct Allocation {
  uint64_t bytes = 0;
  bool managed = false;
  Stream* attached = nullptr;  // the stream whose work excludes the host
};

struct Device {
  int number = 0;
  int capability = 0;
  Stream default_stream;
  std::list<Stream> streams;
  std::map<uint64_t, Allocation> allocations;
  uint64_t used = 0;
  CUresult sticky = CUDA_SUCCESS;
};

struct Counters {
  uint64_t kernels = 0;
  uint64_t graph_launches = 0;
  uint64_t graphs = 0;  // live executable graphs
  uint64_t waits = 0;
  uint64_t driver_allocations = 0;
  uint64_t pinned = 0;  // live pinned allocations
  uint64_t modules = 0;  // live modules
  uint64_t node_updates = 0;  // kernels that were changed in executable graphs
  uint64_t uploads = 0;       // copies from the host
};

/* The settings, from environment variables EMULATED_CUDA_*. */
struct Settings {
  std::vector<int> capabilities;  // CHIPS=87,90: one device each (87)
  int version;                    // VERSION: of the newest CUDA that it supports (13000)
  uint64_t memory;                // MEMORY: bytes of each device (2 GiB)
  bool integrated;                // INTEGRATED=1: host and device share memory (0)
  int init_result;                // INIT: result of cuInit (0)
  int newest_ptx;                 // PTX=8.4 as 84: newer PTX is rejected (99)
  int fail_kernel;                // FAIL_KERNEL: this launch ends with FAIL_RESULT (0: none)
  CUresult fail_result;           // FAIL_RESULT (700)
  int lose_upload;                // LOSE_UPLOAD: this copy from the host does nothing (0: none)
};

struct Machine {
  Machine();

  Settings settings;
  bool started = false;
  std::list<Device> devices;
  Counters counters;
};

std::recursive_mutex& Lock();
Machine& TheMachine();

/* The device of the context that is current in this thread; null if there is none. */
Device* CurrentDevice();

/* Queues work. */
CUresult Put(Stream* stream, Work work);
/* Runs all that is queued; the result is the device's sticky error. */
CUresult Drain(Stream* stream);
CUresult DrainAll(Device* device);
/* The stream behind a handle of the current device. */
Stream* StreamOf(CUstream handle);

/* The work of a kernel launch, with copies of its parameters. */
CUresult MakeWork(const CUDA_KERNEL_NODE_PARAMS& launch, Work* work);

/* Gives a PTX text to the translator. Returns the path of the file in which it keeps it. Throws. */
std::string KeepPtx(const char* ptx);
/* A kernel of that text and the machine that runs it; translated if it is not yet. Throws. */
struct Opened {
  void* machine;       // as dlsym wants it
  const void* kernel;  // as the machine wants it
};
Opened OpenKernel(const std::string& kept, const std::string& kernel);

/* Lets the host touch managed memory of a stream, or traps it. */
void Protect(Stream* stream, bool trapped);

/* Nanoseconds of a clock that only runs forward. */
int64_t Now();

using Guard = std::lock_guard<std::recursive_mutex>;

}  // namespace emulated
