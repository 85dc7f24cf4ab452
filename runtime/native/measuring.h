// Times a compiled function, and compares the results of two functions.
#pragma once

#include <vector>

#include "device_arguments.h"
#include "json.h"

namespace handglass {

/* Seconds per call for each sample of `number` calls; calls cycle through the copies of the
 * arguments. */
Json::List Measure(const ffi::Function& function, const DeviceArguments& arguments, int64_t number,
                   int64_t samples);

/* One row per tensor, including inputs: a candidate must not write where the reference does not. */
Json::List Compare(const ffi::Function& reference, const ffi::Function& candidate,
                   DeviceArguments& arguments, uint64_t seed);

}  // namespace handglass
