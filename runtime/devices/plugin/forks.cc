#include "forks.h"

#include <pthread.h>

#include <atomic>

#include "failure.h"

namespace handglass {
namespace {

std::atomic<bool> forked{false};

void InChild() { forked = true; }

}  // namespace

void WatchForks() { pthread_atfork(nullptr, nullptr, InChild); }

bool IsForked() { return forked; }

void CheckNotForked(const char* label) {
  if (!forked) return;
  Fail("this process was forked from one that used ", label,
       ", and a driver does not survive a fork: start processes anew (multiprocessing: \"spawn\"), "
       "or fork before the first use");
}

}  // namespace handglass
