// handglass-native serve: reads the key, listens, and prints how to connect.

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "device_server.h"
#include "errors.h"
#include "machine.h"
#include "mapping.h"
#include "options.h"
#include "threads.h"
#include "verbs.h"

namespace handglass {
namespace {

constexpr size_t kShortestKey = 16, kMaxKey = 1 << 16;
constexpr int64_t kMost = 1 << 20;

/* The text of a file that only its owner can read, without surrounding white space. */
std::string ReadKey(const std::string& path) {
  auto file = Mapping::Read(path, kMaxKey);
  if ((file->mode() & 077) != 0) {
    throw InputError(path, ": other users can read the key; chmod 600 ", path);
  }
  std::string key(file->text());
  constexpr char kSpace[] = " \t\r\n";
  size_t start = key.find_first_not_of(kSpace);
  key = start == key.npos ? "" : key.substr(start, key.find_last_not_of(kSpace) + 1 - start);
  if (key.size() < kShortestKey) {
    throw UsageError(path, ": a key of ", key.size(), " characters can be guessed; use ",
                     kShortestKey, " or more (openssl rand -hex 16)");
  }
  return key;
}

/* A folder for files from clients: the given one, TMPDIR, or the temporary folder of the system. */
std::filesystem::path Folder(const std::optional<std::string>& given) {
  const char* temporary = std::getenv("TMPDIR");
  for (const std::string& path : {given.value_or(""), std::string(temporary ? temporary : ""),
                                  std::string("/data/local/tmp"), std::string("/tmp")}) {
    if (path.empty()) continue;
    if (access(path.c_str(), W_OK | X_OK) == 0) return path;
    if (given) throw UsageError("--dir ", path, ": ", std::strerror(errno));
  }
  throw UsageError("there is no writable temporary folder; pass one with --dir");
}

int Listen(const std::string& host, int64_t port, bool expose) {
  sockaddr_in address = {};
  address.sin_family = AF_INET;
  address.sin_port = htons(static_cast<uint16_t>(port));
  if (inet_pton(AF_INET, host == "localhost" ? "127.0.0.1" : host.c_str(), &address.sin_addr) !=
      1) {
    throw UsageError("--host ", host, ": not an IPv4 address");
  }
  if (ntohl(address.sin_addr.s_addr) >> 24 != 127 && !expose) {
    throw UsageError("--host ", host, " can be reached from other machines. Anyone with the key ",
                     "can run any code as your user here, and the traffic is not encrypted. Keep ",
                     "the default address and connect by 'ssh -L' or 'adb forward', or add ",
                     "--expose if you mean it");
  }
  int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), on = 1;
  setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
  if (listener < 0 || bind(listener, reinterpret_cast<sockaddr*>(&address), sizeof(address)) != 0 ||
      listen(listener, 8) != 0) {
    throw DeviceError(host, ":", port, ": cannot listen: ", std::strerror(errno),
                      "; try another --port");
  }
  return listener;
}

int PortOf(int listener) {
  sockaddr_in address = {};
  socklen_t size = sizeof(address);
  getsockname(listener, reinterpret_cast<sockaddr*>(&address), &size);
  return ntohs(address.sin_port);
}

}  // namespace

int ServeVerb(const Arguments& arguments) {
  Options options(arguments, {"--port", "--key-file", "--host", "--threads", "--dir"},
                  {"--expose"});
  if (!options.words().empty()) throw UsageError("serve takes no arguments");
  auto port = options.Integer("--port", 0, 65535);
  auto key_file = options.Text("--key-file");
  if (!port || !key_file) throw UsageError("serve needs --port and --key-file");
  auto threads = options.Integer("--threads", 1, kMost);
  ThreadCount(threads);  // fail now rather than in the first session
  std::string key = ReadKey(*key_file), host = options.Text("--host").value_or("127.0.0.1");
  std::filesystem::path folder = Folder(options.Text("--dir"));
  int listener = Listen(host, *port, options.Has("--expose"));
  std::printf("handglass device server on %s:%d, process %d\n", host.c_str(), PortOf(listener),
              static_cast<int>(getpid()));
  std::puts(
      options.Has("--expose")
          ? "EXPOSED: every machine that reaches this address can connect. Anyone with the\n"
            "key can run any code as your user here, and the traffic is not encrypted."
          : "Only programs on this machine can connect, and only with the key.");
  std::fflush(stdout);
  DeviceServer(listener, std::move(key), folder, threads).Run();
  return 0;
}

}  // namespace handglass
