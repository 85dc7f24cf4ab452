// The state of one client's session, and the seven requests that it may make.
//
// Only libraries that were sent in this session are executed, never any other part of a message.
#pragma once

#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <string>

#include "device_arguments.h"
#include "engine.h"
#include "fields.h"
#include "frames.h"

namespace handglass {

/* Exit codes of a session process. */
constexpr int kEnded = 0, kIdle = 64, kGarbage = 65;
constexpr int kIdleSeconds = 600;

class DeviceSession {
 public:
  /* Files from the client are stored in `folder`. */
  DeviceSession(std::filesystem::path folder, std::optional<int64_t> threads)
      : folder_(std::move(folder)), threads_(threads) {}

  /* Answers a request; an Error becomes a refusal with its message. */
  Json Answer(const Message& message);

 private:
  using Request = Json::Object (DeviceSession::*)(Fields& fields, const std::string& payload);

  struct Stored {
    std::filesystem::path path;
    std::string sha256;
    std::optional<ffi::Module> module;
  };

  Json::Object Describe(Fields& fields, const std::string& payload);
  Json::Object Put(Fields& fields, const std::string& payload);
  Json::Object Load(Fields& fields, const std::string& payload);
  Json::Object Arguments(Fields& fields, const std::string& payload);
  Json::Object Measure(Fields& fields, const std::string& payload);
  Json::Object Compare(Fields& fields, const std::string& payload);
  Json::Object Drop(Fields& fields, const std::string& payload);

  Json::Object Dispatch(const Message& message);
  Stored& Library(const std::string& name);
  ffi::Function Function(const std::string& library, const std::string& function);
  DeviceArguments& Find(const std::string& id);
  void Forget(const std::string& library);

  static const std::map<std::string, Request> kRequests;

  std::filesystem::path folder_;
  std::optional<int64_t> threads_;
  bool started_ = false;
  int count_ = 0;
  std::map<std::string, Stored> libraries_;
  std::map<std::string, std::unique_ptr<DeviceArguments>> arguments_;
};

/* Serves one client until it leaves; returns an exit code. */
int AnswerRequests(int connection, DeviceSession& session);

}  // namespace handglass
