#include "device_session.h"

#include <sys/time.h>

#include <cerrno>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <limits>
#include <new>

#include "errors.h"
#include "machine.h"
#include "measuring.h"
#include "sha256.h"
#include "threads.h"

namespace handglass {
namespace {

constexpr double kMaxDeadline = 600;
constexpr size_t kMaxItems = 256, kMaxWords = 2000;
constexpr int64_t kMaxCopies = 1 << 16, kMaxCalls = 10'000'000, kMaxSamples = 10'000;
constexpr int64_t kMaxSeed = std::numeric_limits<int64_t>::max();

/* SIGALRM kills the process at the deadline, also inside compiled code. */
class Deadline {
 public:
  explicit Deadline(double seconds) { Set(seconds); }
  ~Deadline() { Set(0); }

 private:
  static void Set(double seconds) {
    double whole = std::floor(seconds);
    itimerval timer = {};
    timer.it_value.tv_sec = static_cast<time_t>(whole);
    timer.it_value.tv_usec = static_cast<suseconds_t>((seconds - whole) * 1e6);
    setitimer(ITIMER_REAL, &timer, nullptr);
  }
};

Json Refusal(const char* kind, std::string words) {
  if (words.size() > kMaxWords) {
    words.resize(kMaxWords);
    while (!words.empty() && static_cast<uint8_t>(words.back()) >= 0x80) words.pop_back();
  }
  return Json::Object{{"ok", false}, {"kind", kind}, {"error", words}};
}

/* [a-z0-9][a-z0-9._-]{0,80} */
bool IsName(const std::string& name) {
  constexpr char kPlain[] = "abcdefghijklmnopqrstuvwxyz0123456789";
  const std::string others = std::string(kPlain) + "._-";
  return !name.empty() && name.size() <= 81 && std::strchr(kPlain, name[0]) != nullptr &&
         name.find_first_not_of(others) == name.npos;
}

void WriteFile(const std::filesystem::path& path, const std::string& data) {
  std::FILE* file = std::fopen(path.c_str(), "wbe");
  bool done = file != nullptr && std::fwrite(data.data(), 1, data.size(), file) == data.size();
  int reason = errno;
  if (file != nullptr && std::fclose(file) != 0) done = false, reason = errno;
  if (done) return;
  std::error_code ignored;
  std::filesystem::remove(path, ignored);
  throw DeviceError(path.string(), ": cannot store ", data.size(),
                    " bytes: ", std::strerror(reason),
                    "; free disk space on the device, or start the server with another --dir");
}

/* A compiled function that rejects its arguments may raise an error of any class. */
template <typename Work>
auto Calling(const std::string& what, Work&& work) {
  try {
    return work();
  } catch (const ffi::Error& error) {
    throw MismatchError(what, ": ", FirstLineOf(error));
  }
}

}  // namespace

const std::map<std::string, DeviceSession::Request> DeviceSession::kRequests = {
    {"describe", &DeviceSession::Describe}, {"put", &DeviceSession::Put},
    {"load", &DeviceSession::Load},         {"arguments", &DeviceSession::Arguments},
    {"measure", &DeviceSession::Measure},   {"compare", &DeviceSession::Compare},
    {"drop", &DeviceSession::Drop}};

Json DeviceSession::Answer(const Message& message) {
  try {
    return Dispatch(message);
  } catch (const Error& error) {
    return Refusal(error.kind, error.what());
  } catch (const std::bad_alloc&) {
    return Refusal("device", "out of memory; request fewer copies");
  }
}

Json::Object DeviceSession::Dispatch(const Message& message) {
  Fields fields(message.head, "request");
  std::string name = fields.Text("do");
  auto request = kRequests.find(name);
  if (request == kRequests.end()) {
    throw InputError(
        "request: 'do' must be one of describe, put, load, arguments, measure, "
        "compare, drop, got ",
        Shown(Json(name)));
  }
  Deadline deadline(fields.Number("deadline_s", 0.001, kMaxDeadline));
  Json::Object answer = (this->*request->second)(fields, message.payload);
  answer.insert(answer.begin(), {"ok", true});
  return answer;
}

Json::Object DeviceSession::Describe(Fields& fields, const std::string&) {
  fields.Done();
  return Description(threads_);
}

Json::Object DeviceSession::Put(Fields& fields, const std::string& payload) {
  std::string name = fields.Text("name"), sha256 = fields.Text("sha256");
  fields.Integer("payload", 0, kMaxPayload);
  fields.Done();
  if (!IsName(name)) {
    throw InputError("name ", Shown(Json(name)), " must match [a-z0-9][a-z0-9._-]{0,80}");
  }
  std::string found = Sha256Hex(payload.data(), payload.size());
  if (found != sha256) {
    throw MismatchError(name, ": sha256 is ", found, ", expected ", Shown(Json(sha256)));
  }
  auto path = folder_ / (std::to_string(++count_) + "-" + name + ".so");
  WriteFile(path, payload);
  if (libraries_.contains(name)) Forget(name);
  libraries_[name] = {path, sha256, std::nullopt};
  return {};
}

Json::Object DeviceSession::Load(Fields& fields, const std::string&) {
  std::string name = fields.Text("name");
  fields.Done();
  Stored& stored = Library(name);
  if (stored.module) return {};
  if (!started_) StartThreads(ThreadCount(threads_));
  started_ = true;
  stored.module = OpenLibrary(Mapping::Read(stored.path, kMaxPayload), stored.sha256);
  return {};
}

Json::Object DeviceSession::Arguments(Fields& fields, const std::string&) {
  std::string id = fields.Text("id");
  std::vector<Item> items = ReadItems(fields.List("items", kMaxItems));
  int64_t copies = fields.Integer("copies", 1, kMaxCopies);
  int64_t seed = fields.Integer("seed", 0, kMaxSeed);
  fields.Done();
  arguments_.erase(id);  // frees memory that the new set may need
  auto made = std::make_unique<DeviceArguments>(std::move(items), copies, seed);
  int64_t bytes = made->bytes();
  arguments_[id] = std::move(made);
  return {{"bytes", bytes}};
}

Json::Object DeviceSession::Measure(Fields& fields, const std::string&) {
  std::string library = fields.Text("library"), name = fields.Text("function");
  DeviceArguments& arguments = Find(fields.Text("arguments"));
  int64_t number = fields.Integer("number", 1, kMaxCalls);
  int64_t samples = fields.Integer("samples", 1, kMaxSamples);
  fields.Done();
  ffi::Function function = Function(library, name);
  return {{"seconds", Calling(library + ": " + name, [&] {
             return handglass::Measure(function, arguments, number, samples);
           })}};
}

Json::Object DeviceSession::Compare(Fields& fields, const std::string&) {
  std::string reference = fields.Text("reference"), candidate = fields.Text("candidate");
  std::string name = fields.Text("function");
  DeviceArguments& arguments = Find(fields.Text("arguments"));
  int64_t seed = fields.Integer("seed", 0, kMaxSeed);
  fields.Done();
  ffi::Function first = Function(reference, name), second = Function(candidate, name);
  return {{"items", Calling(reference + " or " + candidate + ": " + name,
                            [&] { return handglass::Compare(first, second, arguments, seed); })}};
}

Json::Object DeviceSession::Drop(Fields& fields, const std::string&) {
  if (fields.Has("library")) {
    std::string name = fields.Text("library");
    fields.Done();
    Library(name);
    Forget(name);
  } else {
    std::string id = fields.Text("arguments");
    fields.Done();
    Find(id);
    arguments_.erase(id);
  }
  return {};
}

void DeviceSession::Forget(const std::string& library) {
  std::error_code ignored;
  std::filesystem::remove(libraries_.at(library).path, ignored);
  libraries_.erase(library);
}

DeviceSession::Stored& DeviceSession::Library(const std::string& name) {
  auto found = libraries_.find(name);
  if (found == libraries_.end()) {
    throw InputError("this session has no library ", Shown(Json(name)), "; put it first");
  }
  return found->second;
}

ffi::Function DeviceSession::Function(const std::string& library, const std::string& function) {
  Stored& stored = Library(library);
  if (!stored.module) throw InputError(library, ": not loaded yet");
  auto found = (*stored.module)->GetFunction(function);
  if (!found.has_value()) {
    throw MismatchError(library, ": the library has no function ", Shown(Json(function)));
  }
  return *found;
}

DeviceArguments& DeviceSession::Find(const std::string& id) {
  auto found = arguments_.find(id);
  if (found == arguments_.end()) {
    throw InputError("this session has no arguments ", Shown(Json(id)));
  }
  return *found->second;
}

int AnswerRequests(int connection, DeviceSession& session) {
  try {
    while (true) SendFrame(connection, session.Answer(ReceiveFrame(connection)));
  } catch (const Idle&) {
    return kIdle;
  } catch (const FrameError&) {
    return kGarbage;
  } catch (const Ended&) {
    return kEnded;
  }
}

}  // namespace handglass
