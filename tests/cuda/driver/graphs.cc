// Graphs: the work that a stream captured, in its order.
#include "machine.h"

using namespace emulated;

EMULATED cuStreamBeginCapture(CUstream handle, CUstreamCaptureMode) {
  const Guard guard(Lock());
  Stream* stream = StreamOf(handle);
  if (stream->capture) return CUDA_ERROR_ILLEGAL_STATE;
  stream->capture = new Graph();
  stream->broken = false;
  return CUDA_SUCCESS;
}

EMULATED cuStreamEndCapture(CUstream handle, CUgraph* graph) {
  const Guard guard(Lock());
  Stream* stream = StreamOf(handle);
  if (!stream->capture) return CUDA_ERROR_ILLEGAL_STATE;
  *graph = reinterpret_cast<CUgraph>(stream->capture);
  stream->capture = nullptr;
  return stream->broken ? CUDA_ERROR_STREAM_CAPTURE_INVALIDATED : CUDA_SUCCESS;
}

EMULATED cuGraphGetNodes(CUgraph graph, CUgraphNode* nodes, size_t* count) {
  if (nodes) return CUDA_ERROR_NOT_SUPPORTED;
  *count = reinterpret_cast<const Graph*>(graph)->nodes.size();
  return CUDA_SUCCESS;
}

EMULATED cuGraphInstantiateWithFlags(CUgraphExec* handle, CUgraph graph, unsigned long long) {
  *handle = reinterpret_cast<CUgraphExec>(new Graph(*reinterpret_cast<const Graph*>(graph)));
  return CUDA_SUCCESS;
}

EMULATED cuGraphLaunch(CUgraphExec handle, CUstream stream) {
  const Guard guard(Lock());
  TheMachine().counters.graph_launches += 1;
  for (const Work& work : reinterpret_cast<const Graph*>(handle)->nodes) {
    const CUresult result = Put(StreamOf(stream), work);
    if (result != CUDA_SUCCESS) return result;
  }
  return CUDA_SUCCESS;
}

EMULATED cuGraphDestroy(CUgraph graph) {
  delete reinterpret_cast<Graph*>(graph);
  return CUDA_SUCCESS;
}

EMULATED cuGraphExecDestroy(CUgraphExec handle) {
  delete reinterpret_cast<Graph*>(handle);
  return CUDA_SUCCESS;
}
