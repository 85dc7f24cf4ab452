// Turns SIGBUS in a mapped file into an error message: another process truncated the file, or the
// disk failed.
#pragma once

namespace handglass {

class Mapping;

/* From now on, a lost page of this mapping ends the process with an error that names the file. */
void WatchPages(const Mapping& mapping);

void ForgetPages(const Mapping& mapping);

}  // namespace handglass
