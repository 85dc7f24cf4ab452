// The CPU time that a container grants (runtime/system/cpu_quota.py).
#pragma once

#include <optional>

namespace handglass {

/* CPUs that this process may use on average, such as 1.5; nothing if there is no limit. */
std::optional<double> CpuQuota();

}  // namespace handglass
