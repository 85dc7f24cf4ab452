// The machine under us: whether it can run a library at all, and with how many threads.
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
  std::set<std::string> flags;        // of every core: a thread may run on any of them
  int cores = 0;                      // physical ones that we may use
  std::optional<int64_t> memory, l2;  // bytes
};

/* What code was compiled for, as the manifest says. */
struct Target {
  std::string name, triple, cpu;
  std::vector<std::string> features;
};

Machine ReadMachine();

/* The flags of a text such as /proc/cpuinfo that all its processors have. */
std::set<std::string> CpuFlags(const std::string& cpuinfo);

/* Refuses code for another architecture or with instructions that this CPU lacks: they would end
 * the process without a word. Asks Linux for AMX's tiles where the code has them. */
void CheckTarget(const Target& target, const Machine& machine);

/* The logical CPUs that this process may run on. */
std::vector<int> UsableCpus();

/* Their physical cores: hyperthreads share the units that a matmul uses, so they count once. */
int PhysicalCores();

/* What `describe` answers, here and over the network. */
Json::Object Description(std::optional<int64_t> threads);

/* Bytes that Linux says can still be had; nothing where it does not say. */
std::optional<int64_t> AvailableMemory();

/* Bytes of the largest cache; 0 where Linux does not say. */
int64_t LastLevelCache();

/* The most bytes that this process ever held, mapped files included. */
int64_t PeakBytes();

}  // namespace handglass
