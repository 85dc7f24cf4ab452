// A libvulkan.so.1 with one fault, named by ODD_DRIVER; all other calls are forwarded to the real
// loader. Built and used by tests/support/odd_driver.py.
//
//   ODD_DRIVER       a name of kOdd
//   ODD_DRIVER_REAL  the real libvulkan.so.1
#include <dlfcn.h>
#include <signal.h>
#include <unistd.h>
#include <vulkan/vulkan.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <map>
#include <string>

namespace {

VkDevice device = VK_NULL_HANDLE;
std::map<VkDeviceMemory, VkDeviceSize> allocated;
std::map<VkDeviceMemory, void*> mapped;

std::string Odd() {
  const char* name = std::getenv("ODD_DRIVER");
  return name ? name : "";
}

template <typename Function>
Function Find(const char* name) {
  static void* real = dlopen(std::getenv("ODD_DRIVER_REAL"), RTLD_NOW | RTLD_LOCAL);
  return reinterpret_cast<Function>(dlsym(real, name));
}

#define REAL(name) Find<PFN_##name>(#name)

void Crash() { raise(SIGSEGV); }

// --- reported properties of the device ---

void Limit(VkPhysicalDeviceProperties* properties) {
  if (Odd() == "old device") properties->apiVersion = VK_API_VERSION_1_0;
  if (Odd() == "small buffers") properties->limits.maxStorageBufferRange = 64;
  if (Odd() == "few threads") properties->limits.maxComputeWorkGroupInvocations = 32;
}

void VKAPI_CALL Properties(VkPhysicalDevice physical, VkPhysicalDeviceProperties* out) {
  REAL(vkGetPhysicalDeviceProperties)(physical, out);
  Limit(out);
}

void VKAPI_CALL Properties2(VkPhysicalDevice physical, VkPhysicalDeviceProperties2* out) {
  REAL(vkGetPhysicalDeviceProperties2)(physical, out);
  Limit(&out->properties);
}

void VKAPI_CALL FeaturesWithoutBytes(VkPhysicalDevice physical, VkPhysicalDeviceFeatures2* out) {
  REAL(vkGetPhysicalDeviceFeatures2)(physical, out);
  for (auto* each = static_cast<VkBaseOutStructure*>(out->pNext); each; each = each->pNext) {
    if (each->sType != VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_8BIT_STORAGE_FEATURES) continue;
    reinterpret_cast<VkPhysicalDevice8BitStorageFeatures*>(each)->storageBuffer8BitAccess = VK_FALSE;
  }
}

/* 8 and 16 bits are supported for storage only, and 64 bits not at all. */
void VKAPI_CALL FeaturesWithoutArithmetic(VkPhysicalDevice physical, VkPhysicalDeviceFeatures2* out) {
  REAL(vkGetPhysicalDeviceFeatures2)(physical, out);
  out->features.shaderInt16 = out->features.shaderInt64 = VK_FALSE;
  for (auto* each = static_cast<VkBaseOutStructure*>(out->pNext); each; each = each->pNext) {
    if (each->sType != VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_SHADER_FLOAT16_INT8_FEATURES) continue;
    auto* narrow = reinterpret_cast<VkPhysicalDeviceShaderFloat16Int8Features*>(each);
    narrow->shaderFloat16 = narrow->shaderInt8 = VK_FALSE;
  }
}

VkResult VKAPI_CALL OldLoader(uint32_t* version) {
  *version = VK_API_VERSION_1_0;
  return VK_SUCCESS;
}

VkResult VKAPI_CALL CrashingList(VkInstance, uint32_t*, VkPhysicalDevice*) {
  Crash();
  return VK_SUCCESS;
}

// --- behavior of the device ---

VkResult VKAPI_CALL NoMemory(VkDevice, const VkMemoryAllocateInfo*, const VkAllocationCallbacks*,
                             VkDeviceMemory*) {
  return VK_ERROR_OUT_OF_DEVICE_MEMORY;
}

VkResult VKAPI_CALL CrashingCompiler(VkDevice, VkPipelineCache, uint32_t,
                                     const VkComputePipelineCreateInfo*,
                                     const VkAllocationCallbacks*, VkPipeline*) {
  Crash();
  return VK_SUCCESS;
}

void VKAPI_CALL NoDispatch(VkCommandBuffer, uint32_t, uint32_t, uint32_t) {}

VkResult VKAPI_CALL CrashingSubmit(VkQueue, uint32_t, const VkSubmitInfo*, VkFence) {
  Crash();
  return VK_SUCCESS;
}

VkResult VKAPI_CALL HangingSubmit(VkQueue, uint32_t, const VkSubmitInfo*, VkFence) {
  for (;;) pause();
}

VkResult VKAPI_CALL LostSubmit(VkQueue, uint32_t, const VkSubmitInfo*, VkFence) {
  return VK_ERROR_DEVICE_LOST;
}

/* As if the work never ended; respects the time limit of the wait. */
VkResult VKAPI_CALL EndlessWait(VkDevice, uint32_t, const VkFence*, VkBool32, uint64_t limit) {
  usleep(static_cast<useconds_t>(std::min<uint64_t>(limit / 1000, 60'000'000)));
  return VK_TIMEOUT;
}

VkResult VKAPI_CALL CountedMemory(VkDevice of, const VkMemoryAllocateInfo* info,
                                  const VkAllocationCallbacks* with, VkDeviceMemory* out) {
  const VkResult result = REAL(vkAllocateMemory)(of, info, with, out);
  if (result == VK_SUCCESS) allocated[*out] = info->allocationSize;
  return result;
}

VkResult VKAPI_CALL CountedMap(VkDevice of, VkDeviceMemory memory, VkDeviceSize at,
                               VkDeviceSize size, VkMemoryMapFlags flags, void** out) {
  device = of;
  const VkResult result = REAL(vkMapMemory)(of, memory, at, size, flags, out);
  if (result == VK_SUCCESS) mapped[memory] = *out;
  return result;
}

void VKAPI_CALL CountedFree(VkDevice of, VkDeviceMemory memory, const VkAllocationCallbacks* with) {
  mapped.erase(memory);
  REAL(vkFreeMemory)(of, memory, with);
}

/* Sets all bits: a NaN in every floating-point type. */
VkResult VKAPI_CALL SpoilingSubmit(VkQueue queue, uint32_t count, const VkSubmitInfo* infos,
                                   VkFence fence) {
  const VkResult result = REAL(vkQueueSubmit)(queue, count, infos, fence);
  REAL(vkDeviceWaitIdle)(device);
  for (const auto& [memory, bytes] : mapped) std::memset(bytes, 0xFF, allocated[memory]);
  return result;
}

struct Replaced {
  const char* odd;
  const char* name;
  void* with;
};

#define REPLACED(odd, name, with) {odd, name, reinterpret_cast<void*>(with)}

const Replaced kOdd[] = {
    REPLACED("old loader", "vkEnumerateInstanceVersion", OldLoader),
    REPLACED("old device", "vkGetPhysicalDeviceProperties", Properties),
    REPLACED("old device", "vkGetPhysicalDeviceProperties2", Properties2),
    REPLACED("small buffers", "vkGetPhysicalDeviceProperties2", Properties2),
    REPLACED("few threads", "vkGetPhysicalDeviceProperties2", Properties2),
    REPLACED("no bytes", "vkGetPhysicalDeviceFeatures2", FeaturesWithoutBytes),
    REPLACED("narrow storage", "vkGetPhysicalDeviceFeatures2", FeaturesWithoutArithmetic),
    REPLACED("crashing list", "vkEnumeratePhysicalDevices", CrashingList),
    REPLACED("no memory", "vkAllocateMemory", NoMemory),
    REPLACED("crashing compiler", "vkCreateComputePipelines", CrashingCompiler),
    REPLACED("crash", "vkQueueSubmit", CrashingSubmit),
    REPLACED("hang", "vkQueueSubmit", HangingSubmit),
    REPLACED("lost", "vkQueueSubmit", LostSubmit),
    REPLACED("endless", "vkWaitForFences", EndlessWait),
    REPLACED("idle", "vkCmdDispatch", NoDispatch),
    REPLACED("nan", "vkAllocateMemory", CountedMemory),
    REPLACED("nan", "vkMapMemory", CountedMap),
    REPLACED("nan", "vkFreeMemory", CountedFree),
    REPLACED("nan", "vkQueueSubmit", SpoilingSubmit),
};

void* Replacement(const char* name) {
  for (const Replaced& each : kOdd) {
    if (Odd() == each.odd && !std::strcmp(name, each.name)) return each.with;
  }
  return nullptr;
}

PFN_vkVoidFunction VKAPI_CALL DeviceEntry(VkDevice of, const char* name) {
  void* odd = Replacement(name);
  return odd ? reinterpret_cast<PFN_vkVoidFunction>(odd) : REAL(vkGetDeviceProcAddr)(of, name);
}

}  // namespace

extern "C" VKAPI_ATTR PFN_vkVoidFunction VKAPI_CALL vkGetInstanceProcAddr(VkInstance of,
                                                                          const char* name) {
  if (void* odd = Replacement(name)) return reinterpret_cast<PFN_vkVoidFunction>(odd);
  if (!std::strcmp(name, "vkGetDeviceProcAddr")) {
    return reinterpret_cast<PFN_vkVoidFunction>(DeviceEntry);
  }
  return REAL(vkGetInstanceProcAddr)(of, name);
}
