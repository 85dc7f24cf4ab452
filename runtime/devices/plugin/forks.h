// Detects a process that was forked from one that used its devices: a driver does not survive that.
#pragma once

namespace handglass {

/* From now on, a child process of this one counts as forked. */
void WatchForks();

/* Whether this process inherited its devices by a fork; they must not be used then. */
bool IsForked();

/* Throws in such a process; `label` is the kind's name, as in "a process that used Vulkan". */
void CheckNotForked(const char* label);

}  // namespace handglass
