#include "device_server.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <csignal>

#include "clock.h"
#include "device_session.h"
#include "errors.h"
#include "frames.h"
#include "sha256.h"

namespace handglass {
namespace {

constexpr size_t kMaxCallers = 16;  // concurrent handshakes; a new caller replaces the oldest
constexpr size_t kLimit = 4096;     // bytes of a frame from an unauthenticated peer
constexpr double kHandshakeSeconds = 10;
// Time to wait for an ending session before the next caller gets "busy".
constexpr double kPatience = 1;

volatile sig_atomic_t ending = 0;
int wakeup[2] = {-1, -1};  // signals arrive here as bytes

void Heed(int number) {
  int before = errno;
  if (number != SIGCHLD) ending = 1;
  char byte = 0;
  [[maybe_unused]] ssize_t written = write(wakeup[1], &byte, 1);
  errno = before;
}

void WatchSignals() {
  if (pipe2(wakeup, O_NONBLOCK | O_CLOEXEC) != 0) throw DeviceError("no pipe for signals");
  struct sigaction action = {};
  action.sa_handler = Heed;
  for (int number : {SIGCHLD, SIGTERM, SIGINT}) sigaction(number, &action, nullptr);
}

std::string Proof(const std::string& key, const std::string& side, const std::string& server_nonce,
                  const std::string& client_nonce) {
  return HmacHex(key, side + ":" + server_nonce + ":" + client_nonce);
}

/* Small messages fit into an empty buffer; a caller that does not read times out. */
void Say(int connection, const Json& message) {
  std::string frame = EncodeFrame(message);
  [[maybe_unused]] ssize_t sent = send(connection, frame.data(), frame.size(), MSG_NOSIGNAL);
}

void SetOption(int connection, int level, int name, int value) {
  setsockopt(connection, level, name, &value, sizeof(value));
}

/* Makes the connection blocking, with the idle timeout of a session. Keep-alive detects a vanished
 * client within two minutes; until then the device is busy. */
void PrepareForSession(int connection) {
  fcntl(connection, F_SETFL, fcntl(connection, F_GETFL) & ~O_NONBLOCK);
  timeval idle = {kIdleSeconds, 0};
  setsockopt(connection, SOL_SOCKET, SO_RCVTIMEO, &idle, sizeof(idle));
  setsockopt(connection, SOL_SOCKET, SO_SNDTIMEO, &idle, sizeof(idle));
  SetOption(connection, IPPROTO_TCP, TCP_NODELAY, 1);
  SetOption(connection, SOL_SOCKET, SO_KEEPALIVE, 1);
  SetOption(connection, IPPROTO_TCP, TCP_KEEPIDLE, 60);
  SetOption(connection, IPPROTO_TCP, TCP_KEEPINTVL, 15);
  SetOption(connection, IPPROTO_TCP, TCP_KEEPCNT, 4);
}

}  // namespace

void DeviceServer::Run() {
  WatchSignals();
  while (ending == 0) Turn();
  child_.Stop();
}

void DeviceServer::Turn() {
  std::vector<int> ready;
  Wait(&ready);
  for (int descriptor : ready) {
    if (descriptor == listener_) Accept();
    auto is_it = [&](const Caller& caller) { return caller.connection == descriptor; };
    Place caller = std::find_if(callers_.begin(), callers_.end(), is_it);
    if (caller != callers_.end()) Hear(caller);
  }
  child_.Reap();
  for (Place caller = callers_.begin(); caller != callers_.end();) {
    Place next = std::next(caller);
    bool late = Now() >= caller->until;
    if (!caller->client_nonce.empty() && !child_.alive()) {
      Begin(caller);
    } else if (late && !caller->client_nonce.empty()) {
      Refuse(caller, "busy: the device serves another client; try again later");
    } else if (late) {
      Forget(caller);
    }
    caller = next;
  }
}

/* Descriptors that are ready to read; none if a caller timed out. */
void DeviceServer::Wait(std::vector<int>* ready) {
  std::vector<pollfd> watched = {{wakeup[0], POLLIN, 0}, {listener_, POLLIN, 0}};
  double until = INFINITY;
  for (const Caller& caller : callers_) {
    watched.push_back({caller.connection, POLLIN, 0});
    until = std::min(until, caller.until);
  }
  double left = std::ceil(std::max(0.0, until - Now()) * 1e3);
  int timeout = callers_.empty() ? -1 : static_cast<int>(left);
  if (poll(watched.data(), watched.size(), timeout) <= 0) return;
  char bytes[64];
  while (read(wakeup[0], bytes, sizeof(bytes)) > 0) continue;
  for (size_t i = 1; i < watched.size(); ++i) {
    if (watched[i].revents != 0) ready->push_back(watched[i].fd);
  }
}

void DeviceServer::Accept() {
  int connection = accept4(listener_, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
  if (connection < 0) return;  // the caller has disconnected, or descriptors ran out
  if (callers_.size() >= kMaxCallers) Forget(callers_.begin());
  callers_.push_back({connection, Now() + kHandshakeSeconds, FreshNonce(), "", ""});
  Say(connection, Json::Object{{"protocol", "handglass-device"},
                               {"version", 1},
                               {"nonce", callers_.back().server_nonce}});
}

/* Reads the caller's proof; drops callers that send more data before they are accepted. */
void DeviceServer::Hear(Place caller) {
  char bytes[kLimit];
  ssize_t count = recv(caller->connection, bytes, sizeof(bytes), 0);
  if (count < 0 && (errno == EAGAIN || errno == EINTR)) return;
  bool good = count > 0 && caller->client_nonce.empty();
  if (good) {
    caller->received.append(bytes, static_cast<size_t>(count));
    try {
      std::optional<Json> message = TakeFrame(&caller->received, kLimit);
      if (!message) return;
      if (caller->received.empty()) {
        if (!Judge(caller, *message)) Refuse(caller, "wrong key");
        return;
      }
    } catch (const FrameError&) {
    }
  }
  Forget(caller);
}

/* False for a wrong key; a message that is not a proof gets no answer. */
bool DeviceServer::Judge(Place caller, const Json& message) {
  auto text = [&](const char* name) {
    const Json* value = message.Find(name);
    const auto* found = value == nullptr ? nullptr : value->As<std::string>();
    return found == nullptr ? std::string() : *found;
  };
  std::string nonce = text("nonce"), expected = Proof(key_, "client", caller->server_nonce, nonce);
  if (!IsHash(nonce) || !EqualInConstantTime(text("proof"), expected)) return false;
  caller->client_nonce = nonce;
  caller->until = Now() + kPatience;
  return true;
}

void DeviceServer::Begin(Place caller) {
  try {
    child_.Start([&](const std::filesystem::path& folder) { return BeSession(caller, folder); });
    Forget(caller);
  } catch (const Error& error) {
    Refuse(caller, Words("cannot start a session: ", error.what()));
  }
}

/* Runs in the child: closes the server's sockets, then answers requests. */
int DeviceServer::BeSession(Place caller, const std::filesystem::path& folder) {
  close(listener_);
  close(wakeup[0]);
  close(wakeup[1]);
  for (const Caller& other : callers_) {
    if (other.connection != caller->connection) close(other.connection);
  }
  PrepareForSession(caller->connection);
  std::string proof = Proof(key_, "server", caller->server_nonce, caller->client_nonce);
  const std::optional<std::string>& previous = child_.previous();
  try {
    SendFrame(caller->connection, Json::Object{{"ok", true},
                                               {"proof", proof},
                                               {"previous", previous ? Json(*previous) : Json()}});
  } catch (const Ended&) {
    return kEnded;
  }
  DeviceSession session(folder, threads_);
  return AnswerRequests(caller->connection, session);
}

void DeviceServer::Refuse(Place caller, const std::string& error) {
  Say(caller->connection, Json::Object{{"ok", false}, {"error", error}});
  Forget(caller);
}

void DeviceServer::Forget(Place caller) {
  close(caller->connection);
  callers_.erase(caller);
}

}  // namespace handglass
