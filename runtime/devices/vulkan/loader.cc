#include "loader.h"

#include <dlfcn.h>

#include <cstring>
#include <vector>

#include "errors.h"

namespace handglass {
namespace vulkan {
namespace {

// The kernels need 1.1; features of newer versions are requested one by one.
constexpr uint32_t kNewestVersion = VK_MAKE_API_VERSION(0, 1, 3, 0);

PFN_vkGetInstanceProcAddr OpenLibrary() {
  std::string words;
  for (const char* name : {"libvulkan.so.1", "libvulkan.so"}) {
    if (void* library = dlopen(name, RTLD_NOW | RTLD_LOCAL)) {
      void* entry = dlsym(library, "vkGetInstanceProcAddr");
      if (entry) return reinterpret_cast<PFN_vkGetInstanceProcAddr>(entry);
    }
    if (words.empty()) words = dlerror();
  }
  throw Absent{Words("the Vulkan loader cannot be opened (", words,
                     "); install it: libvulkan1 on Debian and Ubuntu, vulkan-loader elsewhere")};
}

template <typename Function>
void Look(PFN_vkGetInstanceProcAddr get, VkInstance instance, const char* name, Function* out) {
  *out = reinterpret_cast<Function>(get(instance, name));
}

uint32_t VersionOf(PFN_vkGetInstanceProcAddr get) {
  PFN_vkEnumerateInstanceVersion enumerate = nullptr;
  Look(get, VK_NULL_HANDLE, "vkEnumerateInstanceVersion", &enumerate);
  uint32_t version = VK_API_VERSION_1_0;
  if (enumerate) enumerate(&version);
  if (version < VK_API_VERSION_1_1) {
    throw Absent{"the Vulkan loader is of version 1.0; 1.1 is needed"};
  }
  return version < kNewestVersion ? version : kNewestVersion;
}

/* Drivers on top of another API (MoltenVK) are listed only on request. */
bool HasPortability(PFN_vkGetInstanceProcAddr get) {
  PFN_vkEnumerateInstanceExtensionProperties enumerate = nullptr;
  Look(get, VK_NULL_HANDLE, "vkEnumerateInstanceExtensionProperties", &enumerate);
  uint32_t count = 0;
  if (!enumerate || enumerate(nullptr, &count, nullptr) < 0) return false;
  std::vector<VkExtensionProperties> extensions(count);
  enumerate(nullptr, &count, extensions.data());
  for (const VkExtensionProperties& extension : extensions) {
    if (!std::strcmp(extension.extensionName, "VK_KHR_portability_enumeration")) return true;
  }
  return false;
}

VkInstance CreateInstance(PFN_vkGetInstanceProcAddr get, uint32_t version) {
  PFN_vkCreateInstance create = nullptr;
  Look(get, VK_NULL_HANDLE, "vkCreateInstance", &create);
  VkApplicationInfo application{VK_STRUCTURE_TYPE_APPLICATION_INFO};
  application.pApplicationName = "handglass";
  application.pEngineName = "tvm";
  application.apiVersion = version;
  VkInstanceCreateInfo info{VK_STRUCTURE_TYPE_INSTANCE_CREATE_INFO};
  info.pApplicationInfo = &application;
  const char* portability = "VK_KHR_portability_enumeration";
  if (HasPortability(get)) {
    info.flags = 0x00000001;  // ENUMERATE_PORTABILITY
    info.enabledExtensionCount = 1;
    info.ppEnabledExtensionNames = &portability;
  }
  VkInstance instance = VK_NULL_HANDLE;
  const VkResult result = create ? create(&info, nullptr, &instance) : VK_ERROR_UNKNOWN;
  if (result == VK_ERROR_INCOMPATIBLE_DRIVER) {
    throw Absent{"no Vulkan driver is installed for any device of this machine"};
  }
  if (result != VK_SUCCESS) throw Absent{Words("vkCreateInstance: ", NameOf(result))};
  return instance;
}

}  // namespace

Instance MakeInstance() {
  const PFN_vkGetInstanceProcAddr get = OpenLibrary();
  Instance instance;
  instance.api_version = VersionOf(get);
  instance.handle = CreateInstance(get, instance.api_version);
#define HANDGLASS_VULKAN_LOOK(name)                                    \
  Look(get, instance.handle, #name, &instance.functions.name);         \
  if (!instance.functions.name) throw Absent{"the Vulkan loader lacks " #name};
  HANDGLASS_VULKAN_INSTANCE_FUNCTIONS(HANDGLASS_VULKAN_LOOK)
#undef HANDGLASS_VULKAN_LOOK
  Look(get, instance.handle, "vkGetPhysicalDeviceCooperativeMatrixPropertiesKHR",
       &instance.functions.vkGetPhysicalDeviceCooperativeMatrixPropertiesKHR);
  return instance;
}

DeviceFunctions LoadDevice(const Instance& instance, VkDevice device) {
  const PFN_vkGetDeviceProcAddr get = instance.functions.vkGetDeviceProcAddr;
  DeviceFunctions functions;
#define HANDGLASS_VULKAN_LOOK(name)                                      \
  functions.name = reinterpret_cast<PFN_##name>(get(device, #name));     \
  if (!functions.name) Fail("the driver lacks ", #name);
  HANDGLASS_VULKAN_DEVICE_FUNCTIONS(HANDGLASS_VULKAN_LOOK)
#undef HANDGLASS_VULKAN_LOOK
  functions.vkCmdPushDescriptorSetKHR = reinterpret_cast<PFN_vkCmdPushDescriptorSetKHR>(
      get(device, "vkCmdPushDescriptorSetKHR"));
  return functions;
}

}  // namespace vulkan
}  // namespace handglass
