// Frames of the device protocol: a length, a JSON object, and the bytes that its "payload"
// announces.
#pragma once

#include <optional>
#include <stdexcept>
#include <string>

#include "json.h"

namespace handglass {

/* The received bytes are not a frame; the connection is out of sync and must be closed. */
struct FrameError : std::runtime_error {
  using std::runtime_error::runtime_error;
};
/* The peer closed the connection, or it broke. */
struct Ended {};
/* The receive timeout expired. */
struct Idle {};

struct Message {
  Json head;
  std::string payload;
};

constexpr size_t kMaxJson = 1 << 20;
constexpr int64_t kMaxPayload = 256 << 20;

/* The bytes of a frame without a payload. */
std::string EncodeFrame(const Json& message);

/* Removes the first message from the buffer; nothing if it is incomplete. For frames without a
 * payload. */
std::optional<Json> TakeFrame(std::string* buffer, size_t limit);

/* Blocking; FrameError, Ended or Idle as above. */
Message ReceiveFrame(int connection);
void SendFrame(int connection, const Json& message);

}  // namespace handglass
