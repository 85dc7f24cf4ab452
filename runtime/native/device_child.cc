#include "device_child.h"

#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>

#include "device_session.h"
#include "errors.h"
#include "printable.h"

namespace handglass {
namespace {

constexpr int kDefect = 70;

std::string SignalName(int number) {
  static const std::map<int, std::string> names = {
      {SIGABRT, "SIGABRT"}, {SIGBUS, "SIGBUS"},  {SIGFPE, "SIGFPE"},   {SIGHUP, "SIGHUP"},
      {SIGILL, "SIGILL"},   {SIGINT, "SIGINT"},  {SIGKILL, "SIGKILL"}, {SIGPIPE, "SIGPIPE"},
      {SIGSEGV, "SIGSEGV"}, {SIGSYS, "SIGSYS"},  {SIGTERM, "SIGTERM"}, {SIGTRAP, "SIGTRAP"},
      {SIGXCPU, "SIGXCPU"}, {SIGXFSZ, "SIGXFSZ"}};
  auto found = names.find(number);
  return found == names.end() ? "signal " + std::to_string(number) : found->second;
}

[[noreturn]] void BeChild(const std::function<int(const std::filesystem::path&)>& work,
                          const std::filesystem::path& folder, pid_t parent) {
  int code = kDefect;
  for (int number : {SIGCHLD, SIGTERM, SIGINT, SIGALRM}) std::signal(number, SIG_DFL);
  rlimit none = {0, 0};
  setrlimit(RLIMIT_CORE, &none);           // no core dumps
  prctl(PR_SET_PDEATHSIG, SIGKILL);        // killed when the server dies
  if (getppid() != parent) _exit(kEnded);  // the server died before the call
  try {
    code = work(folder);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "error: a defect of handglass, please report it: %s\n",
                 Printable(error.what()).c_str());
  }
  _exit(code);
}

}  // namespace

std::optional<std::string> DeathInWords(int status) {
  if (WIFSIGNALED(status)) {
    return WTERMSIG(status) == SIGALRM ? "time limit" : SignalName(WTERMSIG(status));
  }
  switch (int code = WEXITSTATUS(status)) {
    case kEnded:
      return std::nullopt;
    case kIdle:
      return Words("idle for ", kIdleSeconds, " s");
    case kGarbage:
      return "the client sent a malformed frame";
    case kDefect:
      return "a bug in the server; its output has the message";
    default:
      return Words("exit code ", code);
  }
}

void DeviceChild::Start(const std::function<int(const std::filesystem::path&)>& work) {
  std::string name = (parent_ / "handglass-device-XXXXXX").string();
  if (mkdtemp(name.data()) == nullptr) {  // 0700
    throw DeviceError(name, ": cannot be created: ", std::strerror(errno));
  }
  folder_ = name;
  pid_t server = getpid(), pid = fork();
  if (pid == 0) BeChild(work, folder_, server);
  if (pid < 0) {
    int reason = errno;
    std::error_code ignored;
    std::filesystem::remove_all(folder_, ignored);
    throw DeviceError("cannot start a process: ", std::strerror(reason));
  }
  pid_ = pid;
}

void DeviceChild::Stop() {
  if (pid_ <= 0) return;
  kill(pid_, SIGKILL);
  Wait(false);
}

void DeviceChild::Wait(bool only_if_ended) {
  int status = 0;
  if (pid_ <= 0) return;
  pid_t ended = 0;
  do {
    ended = waitpid(pid_, &status, only_if_ended ? WNOHANG : 0);
  } while (ended < 0 && errno == EINTR);
  if (ended != pid_) return;
  pid_ = 0;
  previous_ = DeathInWords(status);
  std::error_code ignored;
  std::filesystem::remove_all(folder_, ignored);
}

}  // namespace handglass
