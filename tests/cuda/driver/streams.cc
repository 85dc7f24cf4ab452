// Streams and events.
#include "machine.h"

namespace emulated {

Stream* StreamOf(CUstream handle) {
  if (handle) return reinterpret_cast<Stream*>(handle);
  return &CurrentDevice()->default_stream;
}

CUresult Put(Stream* stream, Work work) {
  if (stream->device->sticky != CUDA_SUCCESS) return stream->device->sticky;
  if (stream->queue.empty()) Protect(stream, true);
  stream->queue.push_back(std::move(work));
  return CUDA_SUCCESS;
}

CUresult Drain(Stream* stream) {
  Device* device = stream->device;
  if (!stream->queue.empty()) Protect(stream, false);
  while (!stream->queue.empty()) {
    const Work work = std::move(stream->queue.front());
    stream->queue.pop_front();
    if (device->sticky != CUDA_SUCCESS) continue;
    const CUresult result = work();
    if (result != CUDA_SUCCESS) device->sticky = result;
  }
  return device->sticky;
}

CUresult DrainAll(Device* device) {
  Drain(&device->default_stream);
  for (Stream& stream : device->streams) Drain(&stream);
  return device->sticky;
}

}  // namespace emulated

using namespace emulated;

EMULATED cuStreamCreate(CUstream* handle, unsigned int) {
  const Guard guard(Lock());
  Device* device = CurrentDevice();
  if (!device) return CUDA_ERROR_INVALID_CONTEXT;
  Stream& stream = device->streams.emplace_back();
  stream.device = device;
  *handle = reinterpret_cast<CUstream>(&stream);
  return CUDA_SUCCESS;
}

EMULATED cuStreamQuery(CUstream handle) {
  const Guard guard(Lock());
  const Stream* stream = StreamOf(handle);
  if (stream->device->sticky != CUDA_SUCCESS) return stream->device->sticky;
  return stream->queue.empty() ? CUDA_SUCCESS : CUDA_ERROR_NOT_READY;
}

EMULATED cuStreamSynchronize(CUstream handle) {
  const Guard guard(Lock());
  Stream* stream = StreamOf(handle);
  if (CurrentDevice() != stream->device) return CUDA_ERROR_INVALID_CONTEXT;
  TheMachine().counters.waits += 1;
  return Drain(stream);
}

EMULATED cuEventCreate(CUevent* handle, unsigned int) {
  *handle = reinterpret_cast<CUevent>(new Event());
  return CUDA_SUCCESS;
}

EMULATED cuEventRecord(CUevent handle, CUstream stream_handle) {
  const Guard guard(Lock());
  auto* event = reinterpret_cast<Event*>(handle);
  event->stream = StreamOf(stream_handle);
  event->happened = false;
  return Put(event->stream, [event] {
    event->happened = true;
    event->nanoseconds = Now();
    return CUDA_SUCCESS;
  });
}

EMULATED cuEventSynchronize(CUevent handle) {
  const Guard guard(Lock());
  auto* event = reinterpret_cast<Event*>(handle);
  return event->stream ? Drain(event->stream) : CUDA_SUCCESS;
}

EMULATED cuEventElapsedTime(float* milliseconds, CUevent from, CUevent to) {
  const Guard guard(Lock());
  const auto* first = reinterpret_cast<const Event*>(from);
  const auto* second = reinterpret_cast<const Event*>(to);
  if (!first->happened || !second->happened) return CUDA_ERROR_NOT_READY;
  *milliseconds = static_cast<float>(second->nanoseconds - first->nanoseconds) / 1e6f;
  return CUDA_SUCCESS;
}
