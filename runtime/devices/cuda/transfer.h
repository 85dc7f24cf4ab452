// Copies between the host and a device, and within a device. The caller holds the device's lock.
#pragma once

#include <cstdint>

namespace handglass {
namespace cuda {

class Device;

/* The bytes may be changed after the call. */
void Upload(Device& device, const void* from, uint64_t to, uint64_t bytes);
/* Returns after the data has arrived. */
void Download(Device& device, uint64_t from, void* to, uint64_t bytes);
void CopyWithin(Device& device, uint64_t from, uint64_t to, uint64_t bytes);

}  // namespace cuda
}  // namespace handglass
