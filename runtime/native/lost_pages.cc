#include "lost_pages.h"

#include <unistd.h>

#include <array>
#include <atomic>
#include <csignal>
#include <cstring>

#include "mapping.h"

namespace handglass {
namespace {

constexpr int kMismatch = 5;  // exit code of MismatchError

// A signal handler cannot take locks, so this table has a fixed size. A lost page of a mapping that
// does not fit in it ends the process without a message.
std::array<std::atomic<const Mapping*>, 256> watched;

void Say(const char* text) {
  [[maybe_unused]] ssize_t written = write(STDERR_FILENO, text, std::strlen(text));
}

bool Holds(const Mapping* mapping, const void* address) {
  if (mapping == nullptr) return false;
  const auto* byte = static_cast<const uint8_t*>(address);
  return mapping->data() <= byte && byte < mapping->data() + mapping->size();
}

/* Prints the error and exits. Several threads may get here at once; the first one prints. */
[[noreturn]] void ExitOver(const Mapping& mapping) {
  static std::atomic_flag taken = ATOMIC_FLAG_INIT;
  while (taken.test_and_set()) pause();
  Say("error: ");
  Say(mapping.path().c_str());
  Say(": truncated or unreadable while in use; copy or compile the bundle again\n");
  _exit(kMismatch);
}

void ReportLostPage(int number, siginfo_t* info, void*) {
  for (const auto& entry : watched) {
    const Mapping* mapping = entry;
    if (!Holds(mapping, info->si_addr)) continue;
    ExitOver(*mapping);
  }
  // Not ours: the default action ends the process when the handler returns. Raised again because a
  // signal that was sent does not repeat.
  std::signal(number, SIG_DFL);
  std::raise(number);
}

}  // namespace

void WatchPages(const Mapping& mapping) {
  struct sigaction action = {};
  action.sa_sigaction = ReportLostPage;
  action.sa_flags = SA_SIGINFO;
  sigaction(SIGBUS, &action, nullptr);
  for (auto& entry : watched) {
    const Mapping* none = nullptr;
    if (entry.compare_exchange_strong(none, &mapping)) return;
  }
}

void ForgetPages(const Mapping& mapping) {
  for (auto& entry : watched) {
    const Mapping* found = &mapping;
    entry.compare_exchange_strong(found, nullptr);
  }
}

}  // namespace handglass
