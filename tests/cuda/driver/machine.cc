#include "machine.h"

#include <chrono>
#include <cstdlib>
#include <sstream>

namespace emulated {
namespace {

std::string Variable(const char* name, const char* otherwise) {
  const char* value = std::getenv((std::string("EMULATED_CUDA_") + name).c_str());
  return value ? value : otherwise;
}

int Number(const char* name, const char* otherwise) {
  return std::stoi(Variable(name, otherwise));
}

std::vector<int> Numbers(const std::string& text) {
  std::vector<int> numbers;
  std::istringstream parts(text);
  for (std::string part; std::getline(parts, part, ',');) numbers.push_back(std::stoi(part));
  return numbers;
}

Settings ReadSettings() {
  Settings settings;
  settings.capabilities = Numbers(Variable("CHIPS", "87"));
  settings.version = Number("VERSION", "13000");
  settings.memory = std::stoull(Variable("MEMORY", "2147483648"));
  settings.integrated = Number("INTEGRATED", "0") != 0;
  settings.init_result = Number("INIT", "0");
  settings.newest_ptx = Number("PTX", "99");
  settings.fail_kernel = Number("FAIL_KERNEL", "0");
  settings.fail_result = static_cast<CUresult>(Number("FAIL_RESULT", "700"));
  settings.lose_upload = Number("LOSE_UPLOAD", "0");
  return settings;
}

}  // namespace

Machine::Machine() : settings(ReadSettings()) {
  for (int capability : settings.capabilities) {
    Device& device = devices.emplace_back();
    device.number = static_cast<int>(devices.size()) - 1;
    device.capability = capability;
    device.default_stream.device = &device;
  }
}

std::recursive_mutex& Lock() {
  static auto* lock = new std::recursive_mutex();  // never destroyed: used while processes exit
  return *lock;
}

Machine& TheMachine() {
  static auto* machine = new Machine();
  return *machine;
}

int64_t Now() {
  const auto now = std::chrono::steady_clock::now().time_since_epoch();
  return std::chrono::duration_cast<std::chrono::nanoseconds>(now).count();
}

}  // namespace emulated

/* kernels, graph launches, waits, bytes in use, allocations, pinned buffers, modules, graphs, nodes
 * changed, uploads */
extern "C" __attribute__((visibility("default"))) void emulated_counters(uint64_t* out) {
  using namespace emulated;
  const Guard guard(Lock());
  const Machine& machine = TheMachine();
  uint64_t used = 0;
  for (const Device& device : machine.devices) used += device.used;
  const Counters& c = machine.counters;
  const uint64_t values[] = {c.kernels,            c.graph_launches, c.waits,        used,
                             c.driver_allocations, c.pinned,         c.modules,      c.graphs,
                             c.node_updates,       c.uploads};
  for (size_t i = 0; i < sizeof values / sizeof *values; ++i) out[i] = values[i];
}
