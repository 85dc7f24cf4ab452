// The process of a session: a fork of the server, so that a crash does not affect the server.
//
// It does not exec: under qemu without binfmt, a foreign program cannot start another one.
#pragma once

#include <sys/types.h>

#include <filesystem>
#include <functional>
#include <optional>
#include <string>

namespace handglass {

/* Describes a wait status; nothing for a normal exit. */
std::optional<std::string> DeathInWords(int status);

class DeviceChild {
 public:
  /* Session folders are created in `parent`. */
  explicit DeviceChild(std::filesystem::path parent) : parent_(std::move(parent)) {}

  bool alive() const { return pid_ > 0; }
  const std::optional<std::string>& previous() const { return previous_; }

  /* Forks; the child calls `work` with a folder of its own and exits with its result. */
  void Start(const std::function<int(const std::filesystem::path&)>& work);

  /* Collects the child if it has ended. */
  void Reap() { Wait(true); }

  /* Kills the child. */
  void Stop();

 private:
  void Wait(bool only_if_ended);

  std::filesystem::path parent_, folder_;
  pid_t pid_ = 0;
  std::optional<std::string> previous_;
};

}  // namespace handglass
