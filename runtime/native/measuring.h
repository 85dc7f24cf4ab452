// Times a compiled function, and compares what two of them leave in their arguments.
#pragma once

#include <vector>

#include "device_arguments.h"
#include "json.h"

namespace handglass {

/* Seconds per call of each sample of `number` calls, which take the copies in turn. */
Json::List Measure(const ffi::Function& function, const DeviceArguments& arguments, int64_t number,
                   int64_t samples);

/* One row per tensor, inputs too: a candidate must not write where the reference does not. */
Json::List Compare(const ffi::Function& reference, const ffi::Function& candidate,
                   DeviceArguments& arguments, uint64_t seed);

}  // namespace handglass
