// Graphs of kernels. A launch runs a node once all that it depends on has run, and of several such
// nodes the newest, so that a missing dependency changes the order.
#include <algorithm>
#include <set>

#include "machine.h"

namespace emulated {
namespace {

std::vector<const Node*> OrderOf(const Graph& graph) {
  std::vector<const Node*> order;
  std::set<const Node*> done;
  const auto is_ready = [&done](const Node& node) {
    return !done.count(&node) &&
           std::all_of(node.dependencies.begin(), node.dependencies.end(),
                       [&done](const Node* each) { return done.count(each); });
  };
  while (order.size() < graph.nodes.size()) {
    const auto next = std::find_if(graph.nodes.rbegin(), graph.nodes.rend(), is_ready);
    done.insert(&*next);
    order.push_back(&*next);
  }
  return order;
}

}  // namespace
}  // namespace emulated

using namespace emulated;

EMULATED cuGraphCreate(CUgraph* handle, unsigned int) {
  *handle = reinterpret_cast<CUgraph>(new Graph());
  return CUDA_SUCCESS;
}

EMULATED cuGraphAddKernelNode(CUgraphNode* handle, CUgraph graph, const CUgraphNode* dependencies,
                              size_t count, const CUDA_KERNEL_NODE_PARAMS* launch) {
  const Guard guard(Lock());
  Node node;
  const CUresult result = MakeWork(*launch, &node.work);
  if (result != CUDA_SUCCESS) return result;
  for (size_t i = 0; i < count; ++i) {
    node.dependencies.push_back(reinterpret_cast<Node*>(dependencies[i]));
  }
  auto& nodes = reinterpret_cast<Graph*>(graph)->nodes;
  *handle = reinterpret_cast<CUgraphNode>(&nodes.emplace_back(std::move(node)));
  return CUDA_SUCCESS;
}

EMULATED cuGraphInstantiateWithFlags(CUgraphExec* handle, CUgraph graph, unsigned long long) {
  const Guard guard(Lock());
  auto* executable = new ExecutableGraph();
  const Graph& from = *reinterpret_cast<const Graph*>(graph);
  executable->order = OrderOf(from);
  for (const Node& node : from.nodes) executable->work[&node] = node.work;
  *handle = reinterpret_cast<CUgraphExec>(executable);
  TheMachine().counters.graphs += 1;
  return CUDA_SUCCESS;
}

/* Changes later launches only: what is queued keeps its parameters. */
EMULATED cuGraphExecKernelNodeSetParams(CUgraphExec handle, CUgraphNode node,
                                        const CUDA_KERNEL_NODE_PARAMS* launch) {
  const Guard guard(Lock());
  TheMachine().counters.node_updates += 1;
  auto& work = reinterpret_cast<ExecutableGraph*>(handle)->work;
  const auto found = work.find(reinterpret_cast<const Node*>(node));
  return found == work.end() ? CUDA_ERROR_INVALID_VALUE : MakeWork(*launch, &found->second);
}

EMULATED cuGraphLaunch(CUgraphExec handle, CUstream stream) {
  const Guard guard(Lock());
  TheMachine().counters.graph_launches += 1;
  const auto& graph = *reinterpret_cast<const ExecutableGraph*>(handle);
  for (const Node* node : graph.order) {
    const CUresult result = Put(StreamOf(stream), graph.work.at(node));
    if (result != CUDA_SUCCESS) return result;
  }
  return CUDA_SUCCESS;
}

EMULATED cuGraphDestroy(CUgraph graph) {
  delete reinterpret_cast<Graph*>(graph);
  return CUDA_SUCCESS;
}

EMULATED cuGraphExecDestroy(CUgraphExec handle) {
  const Guard guard(Lock());
  delete reinterpret_cast<ExecutableGraph*>(handle);
  TheMachine().counters.graphs -= 1;
  return CUDA_SUCCESS;
}
