#include "request.h"

#include <iostream>
#include <iterator>
#include <limits>

#include "errors.h"
#include "fields.h"

namespace handglass {
namespace {

constexpr size_t kMaxIds = 1 << 20;

std::vector<int32_t> ReadIds(const Json::List& list, const Manifest& manifest,
                             const std::string& where) {
  std::vector<int32_t> ids;
  for (int64_t id : Sizes(list, where)) {
    if (id >= manifest.vocab_size) {
      throw InputError(where, ": token id ", id, " is outside the vocabulary of ",
                       manifest.vocab_size);
    }
    ids.push_back(static_cast<int32_t>(id));
  }
  return ids;
}

Segment ReadSegment(const Json& item, const Manifest& manifest, int64_t pictures,
                    const std::string& where) {
  if (const auto* list = item.As<Json::List>()) {
    if (list->empty()) throw InputError(where, ": a run of no ids");
    return {ReadIds(*list, manifest, where), -1};
  }
  Fields fields(item, where);
  if (pictures == 0) throw InputError(where, ": a picture, but no --pixels was given");
  Segment segment = {{}, fields.Integer("picture", 0, pictures - 1)};
  fields.Done();
  return segment;
}

std::string ReadAll(const std::string& path) {
  if (path == "-") return {std::istreambuf_iterator<char>(std::cin), {}};
  auto file = Mapping::Open(path);
  return {reinterpret_cast<const char*>(file->data()), file->size()};
}

}  // namespace

int64_t Request::Length(const Manifest& manifest) const {
  int64_t length = 0;
  for (const Segment& segment : prompt) {
    length += segment.picture < 0 ? static_cast<int64_t>(segment.ids.size()) : manifest.query_num;
  }
  return length;
}

Request ReadRequest(const std::string& path, const Manifest& manifest, int64_t pictures) {
  std::string where = path == "-" ? "standard input" : path;
  Json table;
  try {
    table = Json::Parse(ReadAll(path));
  } catch (const JsonError& error) {
    throw InputError(where, ": not valid JSON: ", error.what());
  }
  Fields fields(table, where);
  if (fields.Text("format") != "handglass-request" || fields.Integer("version", 0, 1 << 20) != 1) {
    throw MismatchError(where,
                        ": not a handglass-request of version 1; write it with "
                        "handglass.runtime.answer.native_request of the same release");
  }
  Request request;
  for (const Json& item : fields.List("prompt", kMaxIds)) {
    std::string at = Words(where, ", segment ", request.prompt.size());
    request.prompt.push_back(ReadSegment(item, manifest, pictures, at));
  }
  request.stop = ReadIds(fields.List("stop", kMaxIds), manifest, where + ", stop");
  request.max_tokens = fields.Integer("max_tokens", 1, std::numeric_limits<int32_t>::max());
  request.repeat_penalty = fields.Number("repeat_penalty", 1e-6, 1e6);
  fields.Done();
  if (request.prompt.empty()) throw InputError(where, ": the prompt is empty");
  return request;
}

}  // namespace handglass
