// What a client sends: frames from a socket, and from the buffer of a handshake.

#include "frames.h"

#include <sys/socket.h>
#include <unistd.h>

#include <cstdlib>

#include "fields.h"
#include "fuzzing.h"

namespace handglass {
namespace {

/* Reads a message as a session does. */
void Read(const Message& message) {
  Fields fields(message.head, "request");
  fields.Text("do");
  fields.Number("deadline_s", 0.001, 600);
  fields.Integer("seed", 0, 1 << 20);
  Sizes(fields.List("items", 256), "items");
  fields.Inner("fill").Done();
  fields.Done();
}

void Receive(std::string_view text) {
  int ends[2];
  if (socketpair(AF_UNIX, SOCK_STREAM, 0, ends) != 0) std::abort();
  [[maybe_unused]] ssize_t sent = send(ends[1], text.data(), text.size(), MSG_DONTWAIT);
  close(ends[1]);
  try {
    while (true) {
      Message message = ReceiveFrame(ends[0]);
      Try([&] { Read(message); });
    }
  } catch (const FrameError&) {
  } catch (const Ended&) {
  }
  close(ends[0]);
}

}  // namespace
}  // namespace handglass

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace handglass;
  Receive(Input(data, size));
  std::string buffer(Input(data, size));
  try {
    while (TakeFrame(&buffer, 4096)) continue;
  } catch (const FrameError&) {
  }
  return 0;
}
