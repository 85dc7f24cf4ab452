#include "graph.h"

#include <algorithm>
#include <iterator>

#include "device.h"

namespace handglass {
namespace cuda {
namespace {

CUDA_KERNEL_NODE_PARAMS NodeOf(const KernelLaunch& launch, std::vector<void*>* pointers) {
  *pointers = PointersTo(launch.arguments);
  CUDA_KERNEL_NODE_PARAMS node{};
  node.func = launch.function;
  node.gridDimX = launch.grid[0];
  node.gridDimY = launch.grid[1];
  node.gridDimZ = launch.grid[2];
  node.blockDimX = launch.block[0];
  node.blockDimY = launch.block[1];
  node.blockDimZ = launch.block[2];
  node.sharedMemBytes = launch.shared;
  node.kernelParams = pointers->data();
  return node;
}

}  // namespace

void Graph::Build(const std::vector<KernelLaunch>& launches) {
  const Functions& f = device_.driver.functions;
  launches_ = launches;
  device_.Check(f.cuGraphCreate(&graph_, 0), "cuGraphCreate");
  for (const KernelLaunch& each : launches_) {
    std::vector<void*> pointers;
    const CUDA_KERNEL_NODE_PARAMS parameters = NodeOf(each, &pointers);
    CUgraphNode node = nullptr;
    device_.Check(f.cuGraphAddKernelNode_v2(&node, graph_, nodes_.empty() ? nullptr : &nodes_.back(),
                                            nodes_.empty() ? 0 : 1, &parameters),
                  "kernel ", each.kernel, " in a graph");
    nodes_.push_back(node);
  }
  device_.Check(f.cuGraphInstantiateWithFlags(&executable_, graph_, 0), "a graph of ",
                nodes_.size(), " kernels");
}

bool Graph::Has(const std::vector<KernelLaunch>& launches) const {
  return std::equal(launches.begin(), launches.end(), launches_.begin(), launches_.end(),
                    [](const auto& a, const auto& b) { return a.HasSameNode(b); });
}

void Graph::Update(const std::vector<KernelLaunch>& launches) {
  for (size_t i = 0; i < nodes_.size(); ++i) {
    if (launches[i].HasSameNode(launches_[i])) continue;
    std::vector<void*> pointers;
    const CUDA_KERNEL_NODE_PARAMS parameters = NodeOf(launches[i], &pointers);
    device_.Check(device_.driver.functions.cuGraphExecKernelNodeSetParams_v2(executable_, nodes_[i],
                                                                             &parameters),
                  "kernel ", launches[i].kernel, " in a graph");
    launches_[i] = launches[i];  // of the same code, which therefore is not destroyed here
    device_.statistics.graph_updates += 1;
  }
}

void Graph::Launch() {
  device_.Check(device_.driver.functions.cuGraphLaunch(executable_, device_.stream),
                "the launch of a graph of ", nodes_.size(), " kernels");
  device_.statistics.graph_launches += 1;
}

void Graph::Drop(std::vector<KernelLaunch>* retired) {
  const Functions& f = device_.driver.functions;
  if (executable_) f.cuGraphExecDestroy(executable_);
  if (graph_) f.cuGraphDestroy(graph_);
  executable_ = nullptr;
  graph_ = nullptr;
  nodes_.clear();
  std::move(launches_.begin(), launches_.end(), std::back_inserter(*retired));
  launches_.clear();
}

}  // namespace cuda
}  // namespace handglass
