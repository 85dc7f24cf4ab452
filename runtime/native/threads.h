// The threads that run compiled code: how many, and the pool (runtime/threads/pool.c).
#pragma once

#include <cstdint>
#include <optional>

namespace handglass {

/* `asked` if given, else TVM_NUM_THREADS if set, else the physical cores that this process may use,
 * or fewer in a container that grants less CPU time. UsageError unless it is between 1 and the
 * number of usable CPUs. */
int ThreadCount(std::optional<int64_t> asked);

/* Starts the pool and sets the number of threads of later parallel loops. */
void StartThreads(int count);

}  // namespace handglass
