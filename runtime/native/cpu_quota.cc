#include "cpu_quota.h"

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <sstream>

#include "mapping.h"

namespace handglass {
namespace {

const std::filesystem::path kHierarchy = "/sys/fs/cgroup";

/* The quota of one group in CPUs; nothing if it has none ("max" in version 2, -1 in version 1). */
std::optional<double> QuotaOf(const std::filesystem::path& group) {
  std::string quota, period;
  std::istringstream limit(FirstLine(group / "cpu.max"));
  if (!(limit >> quota >> period)) {
    quota = FirstLine(group / "cpu.cfs_quota_us");
    period = FirstLine(group / "cpu.cfs_period_us");
  }
  double time = std::atof(quota.c_str()), of = std::atof(period.c_str());
  if (time <= 0 || of <= 0) return std::nullopt;
  return time / of;
}

bool LimitsCpus(const std::string& controllers) {
  std::istringstream names(controllers);
  for (std::string name; std::getline(names, name, ',');) {
    if (name == "cpu") return true;
  }
  return controllers.empty();  // version 2
}

}  // namespace

std::optional<double> CpuQuota() {
  std::optional<double> least;
  std::istringstream lines(ReadText("/proc/self/cgroup"));
  for (std::string line; std::getline(lines, line);) {  // ID:CONTROLLERS:PATH
    size_t first = line.find(':'), second = line.find(':', first + 1);
    if (first == line.npos || second == line.npos) continue;
    std::string controllers = line.substr(first + 1, second - first - 1);
    if (!LimitsCpus(controllers)) continue;
    std::filesystem::path root = controllers.empty() ? kHierarchy : kHierarchy / "cpu";
    std::filesystem::path inside = line.substr(second + 1);
    for (std::filesystem::path group = inside.relative_path();; group = group.parent_path()) {
      std::optional<double> quota = QuotaOf(root / group);
      if (quota) least = least ? std::min(*least, *quota) : quota;
      if (group.empty()) break;
    }
  }
  return least;
}

}  // namespace handglass
