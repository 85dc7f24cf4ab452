// Serves one authenticated client at a time, each in a process of its own.
//
// Handshakes run in one event loop, so a silent caller does not block others. The server itself
// loads no library and starts no thread, so it can fork safely.
#pragma once

#include <list>
#include <optional>
#include <string>

#include "device_child.h"
#include "json.h"

namespace handglass {

class DeviceServer {
 public:
  /* `listener` listens already; sessions keep what they are sent in a folder of their own in
   * `folder`. */
  DeviceServer(int listener, std::string key, const std::filesystem::path& folder,
               std::optional<int64_t> threads)
      : listener_(listener), key_(std::move(key)), threads_(threads), child_(folder) {}

  /* Serves until SIGTERM or SIGINT. */
  void Run();

 private:
  /* A connection that has not been authenticated yet. */
  struct Caller {
    int connection;
    double until;
    std::string server_nonce;
    std::string client_nonce;  // set after authentication
    std::string received;
  };
  using Place = std::list<Caller>::iterator;

  void Turn();
  void Wait(std::vector<int>* ready);
  void Accept();
  void Hear(Place caller);
  bool Judge(Place caller, const Json& message);
  void Begin(Place caller);
  int BeSession(Place caller, const std::filesystem::path& folder);
  void Refuse(Place caller, const std::string& error);
  void Forget(Place caller);

  int listener_;
  std::string key_;
  std::optional<int64_t> threads_;
  DeviceChild child_;
  std::list<Caller> callers_;  // oldest first
};

}  // namespace handglass
