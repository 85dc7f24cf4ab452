#include "physical.h"

#include "first_device.h"
#include "uuid.h"

namespace handglass {
namespace cuda {
namespace {

constexpr int kLongestName = 256;

void Check(const Driver& driver, CUresult result, const char* what) {
  if (result != CUDA_SUCCESS) Fail(what, ": ", driver.NameOf(result));
}

int Attribute(const Driver& driver, CUdevice device, CUdevice_attribute attribute) {
  int value = 0;
  Check(driver, driver.functions.cuDeviceGetAttribute(&value, attribute, device),
        "cuDeviceGetAttribute");
  return value;
}

struct Field {
  int PhysicalDevice::*member;
  CUdevice_attribute attribute;
};

constexpr Field kFields[] = {
    {&PhysicalDevice::max_threads_per_block, CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_BLOCK},
    {&PhysicalDevice::warp_size, CU_DEVICE_ATTRIBUTE_WARP_SIZE},
    {&PhysicalDevice::shared_per_block, CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK},
    {&PhysicalDevice::shared_optin, CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN},
    {&PhysicalDevice::shared_per_multiprocessor,
     CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_MULTIPROCESSOR},
    {&PhysicalDevice::registers_per_block, CU_DEVICE_ATTRIBUTE_MAX_REGISTERS_PER_BLOCK},
    {&PhysicalDevice::registers_per_multiprocessor,
     CU_DEVICE_ATTRIBUTE_MAX_REGISTERS_PER_MULTIPROCESSOR},
    {&PhysicalDevice::threads_per_multiprocessor,
     CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_MULTIPROCESSOR},
    {&PhysicalDevice::multiprocessors, CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT},
    {&PhysicalDevice::l2, CU_DEVICE_ATTRIBUTE_L2_CACHE_SIZE},
    {&PhysicalDevice::clock_khz, CU_DEVICE_ATTRIBUTE_CLOCK_RATE},
    {&PhysicalDevice::memory_clock_khz, CU_DEVICE_ATTRIBUTE_MEMORY_CLOCK_RATE},
    {&PhysicalDevice::memory_bus_bits, CU_DEVICE_ATTRIBUTE_GLOBAL_MEMORY_BUS_WIDTH},
    {&PhysicalDevice::integrated, CU_DEVICE_ATTRIBUTE_INTEGRATED},
    {&PhysicalDevice::managed, CU_DEVICE_ATTRIBUTE_MANAGED_MEMORY},
    {&PhysicalDevice::compute_mode, CU_DEVICE_ATTRIBUTE_COMPUTE_MODE},
};

void ReadExtents(const Driver& driver, PhysicalDevice* device) {
  for (unsigned int axis = 0; axis < 3; ++axis) {
    device->max_block[axis] = Attribute(
        driver, device->handle,
        static_cast<CUdevice_attribute>(CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_X + axis));
    device->max_grid[axis] =
        Attribute(driver, device->handle,
                  static_cast<CUdevice_attribute>(CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_X + axis));
  }
}

PhysicalDevice Describe(const Driver& driver, int number) {
  const Functions& f = driver.functions;
  PhysicalDevice device;
  Check(driver, f.cuDeviceGet(&device.handle, number), "cuDeviceGet");
  char name[kLongestName] = {};
  Check(driver, f.cuDeviceGetName(name, kLongestName - 1, device.handle), "cuDeviceGetName");
  device.name = name;
  CUuuid uuid{};
  Check(driver, f.cuDeviceGetUuid_v2(&uuid, device.handle), "cuDeviceGetUuid");
  device.uuid = UuidText(reinterpret_cast<const uint8_t*>(uuid.bytes));
  size_t bytes = 0;
  Check(driver, f.cuDeviceTotalMem_v2(&bytes, device.handle), "cuDeviceTotalMem");
  device.memory = bytes;
  for (const Field& field : kFields) {
    device.*field.member = Attribute(driver, device.handle, field.attribute);
  }
  ReadExtents(driver, &device);
  device.capability =
      10 * Attribute(driver, device.handle, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR) +
      Attribute(driver, device.handle, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR);
  return device;
}

}  // namespace

std::vector<PhysicalDevice> FindDevices(const Driver& driver, const Settings& settings) {
  int count = 0;
  Check(driver, driver.functions.cuDeviceGetCount(&count), "cuDeviceGetCount");
  std::vector<PhysicalDevice> devices;
  for (int number = 0; number < count; ++number) devices.push_back(Describe(driver, number));
  MoveNamedToFront(&devices, settings.device, "HANDGLASS_CUDA_DEVICE");
  return devices;
}

}  // namespace cuda
}  // namespace handglass
