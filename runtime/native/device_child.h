// The process of a session: a fork of the server, so that what kills it leaves the server alone.
//
// Never a new program: under qemu without binfmt only the first one of a machine's kind can start.
#pragma once

#include <sys/types.h>

#include <filesystem>
#include <functional>
#include <optional>
#include <string>

namespace handglass {

/* A wait status in words; nothing for an orderly end. */
std::optional<std::string> DeathInWords(int status);

class DeviceChild {
 public:
  /* Folders of sessions are made in `parent`. */
  explicit DeviceChild(std::filesystem::path parent) : parent_(std::move(parent)) {}

  bool alive() const { return pid_ > 0; }
  const std::optional<std::string>& previous() const { return previous_; }

  /* Forks; the child does `work` in a folder of its own and exits with what it returns. */
  void Start(const std::function<int(const std::filesystem::path&)>& work);

  /* Collects the child if it has ended. */
  void Reap() { Wait(true); }

  /* Ends the child, whatever it is doing. */
  void Stop();

 private:
  void Wait(bool only_if_ended);

  std::filesystem::path parent_, folder_;
  pid_t pid_ = 0;
  std::optional<std::string> previous_;
};

}  // namespace handglass
