// Frames of the device protocol: a length, a JSON object, and the bytes that its "payload"
// announces.
#pragma once

#include <optional>
#include <stdexcept>
#include <string>

#include "json.h"

namespace handglass {

/* What came is not a frame: nothing on the connection can be trusted from here on. */
struct FrameError : std::runtime_error {
  using std::runtime_error::runtime_error;
};
/* The other side left, or the way to it is gone. */
struct Ended {};
/* Nothing came for as long as we wait. */
struct Idle {};

struct Message {
  Json head;
  std::string payload;
};

constexpr size_t kMaxJson = 1 << 20;
constexpr int64_t kMaxPayload = 256 << 20;

/* The bytes of a frame without a payload. */
std::string EncodeFrame(const Json& message);

/* The first message of what has arrived so far, taken from it; nothing while it is incomplete.
 * For frames without a payload. */
std::optional<Json> TakeFrame(std::string* buffer, size_t limit);

/* Blocking; FrameError, Ended or Idle as above. */
Message ReceiveFrame(int connection);
void SendFrame(int connection, const Json& message);

}  // namespace handglass
