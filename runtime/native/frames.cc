#include "frames.h"

#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>

#include "errors.h"

namespace handglass {
namespace {

constexpr size_t kPrefix = 4;

size_t LengthOf(const std::string& prefix, size_t limit) {
  size_t length = 0;
  for (size_t i = 0; i < kPrefix; ++i) length = length << 8 | static_cast<uint8_t>(prefix[i]);
  if (length < 1 || length > limit) {
    throw FrameError(Words("a frame of ", length, " bytes; it must be between 1 and ", limit));
  }
  return length;
}

Json ParseFrame(const std::string& text) {
  Json message;
  try {
    message = Json::Parse(text);
  } catch (const JsonError& error) {
    throw FrameError(Words("not JSON: ", error.what()));
  }
  if (message.As<Json::Object>() == nullptr) throw FrameError("not a JSON object");
  return message;
}

/* The number of bytes received; 0 at the end of the connection. */
size_t ReceiveSome(int connection, char* to, size_t most) {
  ssize_t got = 0;
  do {
    got = recv(connection, to, most, 0);
  } while (got < 0 && errno == EINTR);
  if (got >= 0) return static_cast<size_t>(got);
  if (errno == EAGAIN || errno == EWOULDBLOCK) throw Idle();
  throw Ended();
}

/* Allocates memory as bytes arrive, not by the declared size. */
std::string ReadBytes(int connection, size_t count, bool at_start = false) {
  std::string data;
  while (data.size() < count) {
    size_t known = data.size();
    data.resize(known + std::min(count - known, kMaxJson));
    size_t got = ReceiveSome(connection, data.data() + known, data.size() - known);
    if (got == 0 && at_start && known == 0) throw Ended();
    if (got == 0) throw FrameError(Words("the connection ended after ", known, " bytes"));
    data.resize(known + got);
  }
  return data;
}

}  // namespace

std::string EncodeFrame(const Json& message) {
  std::string text = message.Dump(), frame;
  if (text.size() > kMaxJson) throw FrameError(Words("a message of ", text.size(), " bytes"));
  for (int shift = 24; shift >= 0; shift -= 8) frame += static_cast<char>(text.size() >> shift);
  return frame + text;
}

std::optional<Json> TakeFrame(std::string* buffer, size_t limit) {
  if (buffer->size() < kPrefix) return std::nullopt;
  size_t end = kPrefix + LengthOf(*buffer, limit);
  if (buffer->size() < end) return std::nullopt;
  Json message = ParseFrame(buffer->substr(kPrefix, end - kPrefix));
  buffer->erase(0, end);
  if (message.Find("payload") != nullptr) throw FrameError("a payload is not allowed");
  return message;
}

Message ReceiveFrame(int connection) {
  std::string prefix = ReadBytes(connection, kPrefix, true);
  Message message = {ParseFrame(ReadBytes(connection, LengthOf(prefix, kMaxJson))), ""};
  if (const Json* payload = message.head.Find("payload")) {
    const auto* count = payload->As<int64_t>();
    if (count == nullptr || *count < 0 || *count > kMaxPayload) {
      throw FrameError("payload is not between 0 and " + std::to_string(kMaxPayload));
    }
    message.payload = ReadBytes(connection, static_cast<size_t>(*count));
  }
  return message;
}

void SendFrame(int connection, const Json& message) {
  std::string frame = EncodeFrame(message);
  for (size_t sent = 0; sent < frame.size();) {
    ssize_t count = send(connection, frame.data() + sent, frame.size() - sent, MSG_NOSIGNAL);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) throw Ended();
    sent += static_cast<size_t>(count);
  }
}

}  // namespace handglass
