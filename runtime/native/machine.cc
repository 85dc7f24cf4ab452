#include "machine.h"

#include <sched.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>

#include "errors.h"
#include "hwcap.h"
#include "mapping.h"
#include "threads.h"

namespace handglass {
namespace {

#if defined(__aarch64__)
constexpr char kArchitecture[] = "aarch64";
#else
constexpr char kArchitecture[] = "x86_64";
#endif

const std::filesystem::path kCpus = "/sys/devices/system/cpu";

/* The value of the first line "key : value" with one of two keys; empty if there is none. */
std::string Value(const std::string& text, const std::string& key, const std::string& other = "") {
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) {
    size_t colon = line.find(':');
    if (colon == line.npos) continue;
    std::string name = line.substr(0, line.find_last_not_of(" \t", colon - 1) + 1);
    if (colon == 0 || name.empty() || (name != key && name != other)) continue;
    size_t start = line.find_first_not_of(" \t", colon + 1);
    return start == line.npos ? "" : line.substr(start);
  }
  return "";
}

/* Bytes of a size such as "2048K". */
int64_t CacheSize(const std::string& text) {
  int64_t size = std::atoll(text.c_str());
  switch (text.empty() ? '\0' : text.back()) {
    case 'K':
      return size << 10;
    case 'M':
      return size << 20;
    case 'G':
      return size << 30;
    default:
      return size;
  }
}

std::optional<int64_t> Kilobytes(const std::string& value) {
  if (value.empty()) return std::nullopt;
  return std::atoll(value.c_str()) * 1024;
}

/* Requests the AMX tile registers from Linux (Documentation/arch/x86/xstate.rst). */
bool MayUseTiles() {
#if defined(__x86_64__)
  constexpr long kRequest = 0x1023, kTileData = 18;
  return syscall(SYS_arch_prctl, kRequest, kTileData) == 0;
#else
  return false;
#endif
}

std::string Architecture(const std::string& triple) {
  std::string name = triple.substr(0, triple.find('-'));
  return name == "arm64" ? "aarch64" : name == "amd64" ? "x86_64" : name;
}

template <typename T>
Json OrNull(const std::optional<T>& value) {
  return value ? Json(*value) : Json();
}

}  // namespace

std::vector<int> UsableCpus() {
  cpu_set_t mask;
  std::vector<int> cpus;
  if (sched_getaffinity(0, sizeof(mask), &mask) != 0) return {0};
  for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
    if (CPU_ISSET(cpu, &mask)) cpus.push_back(cpu);
  }
  return cpus;
}

int PhysicalCores() {
  std::set<std::string> cores;
  for (int cpu : UsableCpus()) {
    std::string name = std::to_string(cpu);
    std::string siblings = FirstLine(kCpus / ("cpu" + name) / "topology/thread_siblings_list");
    cores.insert(siblings.empty() ? name : siblings);
  }
  return static_cast<int>(cores.size());
}

std::set<std::string> CpuFlags(const std::string& cpuinfo) {
  std::istringstream lines(cpuinfo);
  std::optional<std::set<std::string>> common;
  for (std::string line; std::getline(lines, line);) {
    std::string list = Value(line, "flags", "Features");
    if (list.empty()) continue;
    std::istringstream words(list);
    std::set<std::string> flags, both;
    for (std::string flag; words >> flag;) flags.insert(flag);
    if (!common) common = flags;
    std::set_intersection(flags.begin(), flags.end(), common->begin(), common->end(),
                          std::inserter(both, both.end()));
    common = std::move(both);
  }
  return common.value_or(std::set<std::string>());
}

Machine ReadMachine() {
  std::string cpuinfo = ReadText("/proc/cpuinfo");
  std::string l2 = FirstLine(kCpus / "cpu0/cache/index2/size");
  Machine machine;
  machine.architecture = kArchitecture;
  machine.model = Value(cpuinfo, "model name", "Model");
  if (machine.model.empty()) machine.model = kArchitecture;
  machine.flags = ArmFlags();
  if (machine.flags.empty()) machine.flags = CpuFlags(cpuinfo);
  if (machine.flags.contains("amx_tile") && !MayUseTiles()) {
    std::erase_if(machine.flags, [](const std::string& flag) { return flag.starts_with("amx_"); });
  }
  machine.cores = PhysicalCores();
  machine.memory = Kilobytes(Value(ReadText("/proc/meminfo"), "MemTotal"));
  if (!l2.empty()) machine.l2 = CacheSize(l2);
  return machine;
}

void CheckTarget(const Target& target, const Machine& machine) {
  std::string wanted = Architecture(target.triple), missing;
  if (wanted != machine.architecture) {
    throw DeviceError("the bundle is compiled for ", wanted, " (target ", target.name,
                      "), this program and this machine are ", machine.architecture);
  }
  for (const std::string& feature : target.features) {
    if (!machine.flags.contains(feature)) missing += (missing.empty() ? "" : ", ") + feature;
  }
  if (!missing.empty()) {
    throw DeviceError("the bundle is compiled for ", target.cpu, " (target ", target.name,
                      "); this CPU lacks ", missing,
                      "; compile with a target that fits this machine");
  }
}

Json::Object Description(std::optional<int64_t> threads) {
  Machine machine = ReadMachine();
  Json::Object about = {{"architecture", machine.architecture},
                        {"model", machine.model},
                        {"flags", Json::List(machine.flags.begin(), machine.flags.end())},
                        {"cores", machine.cores},
                        {"memory", OrNull(machine.memory)},
                        {"l2", OrNull(machine.l2)}};
  Json::Object versions = {{"handglass", HANDGLASS_VERSION}, {"tvm_ffi", HANDGLASS_TVM_FFI}};
  return {{"machine", std::move(about)},
          {"threads", ThreadCount(threads)},
          {"runtime", "native"},
          {"versions", std::move(versions)}};
}

std::optional<int64_t> AvailableMemory() {
  return Kilobytes(Value(ReadText("/proc/meminfo"), "MemAvailable"));
}

int64_t LastLevelCache() {
  int64_t largest = 0;
  for (int index = 0; index < 8; ++index) {
    std::string name = "cpu0/cache/index" + std::to_string(index) + "/size";
    largest = std::max(largest, CacheSize(FirstLine(kCpus / name)));
  }
  return largest;
}

int64_t PeakBytes() {
  if (auto peak = Kilobytes(Value(ReadText("/proc/self/status"), "VmHWM"))) return *peak;
  struct rusage usage = {};
  getrusage(RUSAGE_SELF, &usage);
  return usage.ru_maxrss * 1024L;
}

}  // namespace handglass
