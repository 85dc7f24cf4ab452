// Describes this machine and checks whether it can run a library.
#pragma once

#include <cstdint>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "json.h"

namespace handglass {

struct Machine {
  std::string architecture;  // x86_64, aarch64
  std::string model;
  std::set<std::string> flags;        // common to all cores: a thread may run on any
  int cores = 0;                      // physical cores available to this process
  std::optional<int64_t> memory, l2;  // bytes
};

/* The machine that a bundle was compiled for, from its manifest. */
struct Target {
  std::string name, triple, cpu;
  std::vector<std::string> features;
};

Machine ReadMachine();

/* The flags that all processors of a text such as /proc/cpuinfo have in common. */
std::set<std::string> CpuFlags(const std::string& cpuinfo);

/* Refuses code for another architecture or with instructions that this CPU lacks: they would end
 * the process with SIGILL. Requests the AMX tile registers from Linux if the code uses them. */
void CheckTarget(const Target& target, const Machine& machine);

/* The logical CPUs that this process may run on. */
std::vector<int> UsableCpus();

/* Their physical cores: hyperthreads share the units that a matmul uses, so they count once. */
int PhysicalCores();

/* The answer to `describe`, on the command line and over the network. */
Json::Object Description(std::optional<int64_t> threads);

/* Available memory in bytes, if Linux reports it. */
std::optional<int64_t> AvailableMemory();

/* Bytes of the largest cache; 0 if Linux does not report it. */
int64_t LastLevelCache();

/* Peak resident memory of this process in bytes, including mapped files. */
int64_t PeakBytes();

}  // namespace handglass
