// Listens, lets those in who know the key, one at a time, and gives each a process of its own.
//
// Handshakes run in one loop without threads, so that a caller who says nothing keeps nobody
// waiting. The server itself loads no library and starts no thread: a fork of it is whole.
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

  /* Until SIGTERM or SIGINT. */
  void Run();

 private:
  /* Somebody who is not in yet. */
  struct Caller {
    int connection;
    double until;
    std::string server_nonce;
    std::string client_nonce;  // known once the caller has proved itself
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
  std::list<Caller> callers_;  // the oldest first
};

}  // namespace handglass
