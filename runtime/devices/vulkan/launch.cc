#include "launch.h"

#include <cstring>

#include "api.h"
#include "arguments.h"
#include "device.h"
#include "errors.h"
#include "recorder.h"

namespace handglass {
namespace vulkan {
namespace {

/* 0 .. 2: x, y, z of the grid; -1 for the workgroup's own extents, which are compiled in. */
int Axis(const std::string& tag) {
  if (tag.rfind("blockIdx.", 0) != 0 || tag.size() != 10) return -1;
  return tag[9] >= 'x' && tag[9] <= 'z' ? tag[9] - 'x' : -1;
}

struct Bound {
  std::vector<VkDescriptorBufferInfo> buffers;
  std::vector<std::pair<Allocation*, bool>> tensors;
};

void BindBuffer(const Kernel& kernel, uint32_t i, const TVMFFIAny& handle, Device& device,
                Bound* bound) {
  const Place place = device.memory->Find(reinterpret_cast<uint64_t>(handle.v_ptr));
  if (!place.allocation) {
    Fail("kernel ", kernel.name, ": argument ", i, " is not a tensor of ", device.Title());
  }
  const VkPhysicalDeviceLimits& limits = device.physical.limits();
  if (place.rest() > limits.maxStorageBufferRange) {
    Fail("kernel ", kernel.name, ": argument ", i, " has ", place.rest(), " bytes, above the ",
         limits.maxStorageBufferRange, " (maxStorageBufferRange) of ", device.Title(),
         "; split the tensor or store it in fewer bits");
  }
  if (place.in_block() % limits.minStorageBufferOffsetAlignment) {
    Fail("kernel ", kernel.name, ": argument ", i, " begins at byte ", place.offset,
         " of its tensor; a multiple of ", limits.minStorageBufferOffsetAlignment,
         " (minStorageBufferOffsetAlignment) is needed on ", device.Title());
  }
  // the last word may be padded: a shader reads bytes as words
  const uint64_t range = (place.rest() + 3) / 4 * 4;
  bound->buffers.push_back({place.buffer(), place.in_block(), range});
  bound->tensors.emplace_back(place.allocation, kernel.Writes(i));
}

std::vector<char> Scalars(const Kernel& kernel, const TVMFFIAny* arguments) {
  std::vector<char> bytes(kernel.scalar_bytes());
  for (uint32_t i = 0; i < kernel.scalars(); ++i) {
    const uint32_t at = kernel.buffers + i;
    PutScalar(arguments[at], kernel.arguments[at], bytes.data() + 8 * i);
  }
  return bytes;
}

void BindDescriptors(const Pipeline& pipeline, const Kernel& kernel, const Bound& bound,
                     Device& device) {
  Recorder& recorder = *device.recorder;
  const DeviceFunctions& f = device.functions;
  const VkDescriptorSet set = pipeline.push ? VK_NULL_HANDLE : recorder.MakeSet(pipeline.set_layout);
  std::vector<VkWriteDescriptorSet> writes(bound.buffers.size());
  for (uint32_t i = 0; i < writes.size(); ++i) {
    writes[i] = {VK_STRUCTURE_TYPE_WRITE_DESCRIPTOR_SET};
    writes[i].dstSet = set;
    writes[i].dstBinding = i;
    writes[i].descriptorCount = 1;
    writes[i].descriptorType =
        i < kernel.buffers ? VK_DESCRIPTOR_TYPE_STORAGE_BUFFER : VK_DESCRIPTOR_TYPE_UNIFORM_BUFFER;
    writes[i].pBufferInfo = &bound.buffers[i];
  }
  const auto count = static_cast<uint32_t>(writes.size());
  if (pipeline.push) {
    f.vkCmdPushDescriptorSetKHR(recorder.Commands(), VK_PIPELINE_BIND_POINT_COMPUTE,
                                pipeline.layout, 0, count, writes.data());
  } else {
    f.vkUpdateDescriptorSets(device.handle, count, writes.data(), 0, nullptr);
    f.vkCmdBindDescriptorSets(recorder.Commands(), VK_PIPELINE_BIND_POINT_COMPUTE, pipeline.layout,
                              0, 1, &set, 0, nullptr);
  }
}

}  // namespace

Launcher::Launcher(Kernel kernel) : kernel_(std::move(kernel)) {}

std::shared_ptr<Pipeline> Launcher::PipelineOf(Device& device) {
  std::lock_guard<std::mutex> lock(mutex_);
  const auto index = static_cast<size_t>(device.index);
  if (pipelines_.size() <= index) pipelines_.resize(index + 1);
  if (!pipelines_[index]) pipelines_[index] = std::make_shared<Pipeline>(kernel_, device);
  return pipelines_[index];
}

void Launcher::Grid(const TVMFFIAny* extents, Device& device, uint32_t* grid) const {
  for (size_t i = 0; i < kernel_.tags.size(); ++i) {
    const int axis = Axis(kernel_.tags[i]);
    if (axis < 0) continue;
    const int64_t extent = extents[i].v_int64;
    const int64_t most = device.physical.limits().maxComputeWorkGroupCount[axis];
    if (extent < 0 || extent > most) {
      Fail("kernel ", kernel_.name, ": ", extent, " workgroups along ", kernel_.tags[i],
           ", above the ", most, " (maxComputeWorkGroupCount) of ", device.Title());
    }
    grid[axis] = extent ? static_cast<uint32_t>(extent) : 1;
  }
}

void Launcher::Launch(tvm::ffi::PackedArgs packed) {
  const size_t expected = kernel_.arguments.size() + kernel_.tags.size();
  if (static_cast<size_t>(packed.size()) != expected) {
    Fail("kernel ", kernel_.name, ": called with ", packed.size(), " arguments, not ", expected);
  }
  const auto* arguments = reinterpret_cast<const TVMFFIAny*>(packed.data());
  Device& device = ActiveDevice();
  std::lock_guard<std::mutex> lock(device.mutex);
  device.CheckAlive();
  const std::shared_ptr<Pipeline> pipeline = PipelineOf(device);
  uint32_t grid[3] = {1, 1, 1};
  Grid(arguments + kernel_.arguments.size(), device, grid);
  Bound bound;
  for (uint32_t i = 0; i < kernel_.buffers; ++i) {
    BindBuffer(kernel_, i, arguments[i], device, &bound);
  }
  const std::vector<char> scalars = Scalars(kernel_, arguments);
  Recorder& recorder = *device.recorder;
  if (kernel_.uniform) {  // before Order: staging may submit
    const HostPlace place = recorder.Stage(
        scalars.size(), device.physical.limits().minUniformBufferOffsetAlignment);
    std::memcpy(place.host, scalars.data(), scalars.size());
    bound.buffers.push_back({place.buffer, place.offset, scalars.size()});
  }
  recorder.Order(bound.tensors);
  const DeviceFunctions& f = device.functions;
  const VkCommandBuffer commands = recorder.Commands();
  f.vkCmdBindPipeline(commands, VK_PIPELINE_BIND_POINT_COMPUTE, pipeline->handle);
  BindDescriptors(*pipeline, kernel_, bound, device);
  if (!kernel_.uniform && !scalars.empty()) {
    f.vkCmdPushConstants(commands, pipeline->layout, VK_SHADER_STAGE_COMPUTE_BIT, 0,
                         kernel_.scalar_bytes(), scalars.data());
  }
  f.vkCmdDispatch(commands, grid[0], grid[1], grid[2]);
  recorder.Launched(pipeline);
}

}  // namespace vulkan
}  // namespace handglass
