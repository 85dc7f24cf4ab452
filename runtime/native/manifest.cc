#include "manifest.h"

#include <algorithm>
#include <set>

#include "errors.h"
#include "fields.h"
#include "json.h"
#include "sha256.h"
#include "tensors.h"

namespace handglass {
namespace {

constexpr char kPositions[] = "positions", kRecurrent[] = "recurrent",
               kPictures[] = "pictures";
constexpr int64_t kVersion = 2;
// Bounds of numbers, as in runtime/bundle/bounds.py.
constexpr int64_t kMaxVocabulary = 1 << 24, kMaxHidden = 1 << 20, kMaxContext = 1 << 24;
constexpr int64_t kMaxFile = int64_t{1} << 47;
constexpr size_t kMaxTensors = 1 << 20, kMaxArguments = 100, kLongest = 200;

TensorEntry ReadTensor(Fields& fields) {
  TensorEntry entry = {fields.Text("name", kLongest), {}, ""};
  std::string where = Words(fields.where(), ", ", entry.name);
  entry.shape = Sizes(fields.List("shape", kMaxRank), where);
  entry.dtype = fields.Text("dtype");
  BytesOf(entry.shape, DataType(entry.dtype, where), where);
  return entry;
}

std::vector<TensorEntry> ReadParams(const Json::List& list, const std::string& where) {
  std::vector<TensorEntry> entries;
  for (const Json& item : list) {
    Fields fields(item, where);
    entries.push_back(ReadTensor(fields));
  }
  return entries;
}

std::vector<StateTensor> ReadState(const Json::List& list, const std::string& where) {
  std::vector<StateTensor> entries;
  for (const Json& item : list) {
    Fields fields(item, where);
    StateTensor entry = {ReadTensor(fields)};
    std::string kind = fields.Has("kind") ? fields.Text("kind") : kPositions;
    if (kind == kPictures) {
      throw InputError(where, ", ", entry.name,
                       ": the text of this model sees pictures by cross-attention, which this "
                       "program does not compute; use 'handglass run'");
    }
    if (kind != kPositions && kind != kRecurrent) {
      throw InputError(where, ", ", entry.name, ": 'kind' must be ", kPositions, " or ", kRecurrent,
                       ", got ", Shown(kind));
    }
    entry.recurrent = kind == kRecurrent;
    entries.push_back(std::move(entry));
  }
  return entries;
}

Target ReadTarget(Fields fields) {
  Target target = {fields.Text("name"), fields.Text("triple"), fields.Text("cpu"), {}};
  target.features = Texts(fields.List("features", 1000), fields.where());
  std::string device = fields.Has("device") ? fields.Text("device") : "cpu";
  if (device != "cpu") {
    throw DeviceError(fields.where(), ": the bundle is compiled for ", Shown(device), " (target ",
                      target.name,
                      "), this program runs on the CPU alone; use "
                      "'handglass run', or compile for a CPU");
  }
  return target;
}

/* The names of the arguments that this program passes to a function; `placed`: with positions. */
std::vector<std::string> Passed(const std::string& function, bool placed) {
  if (function == "encode_image") return {"pixels", "position_ids", "grid", "params"};
  if (function == "embed") return {"ids", "params"};
  std::vector<std::string> names = {function == "prefill" ? "x" : "ids"};
  if (placed) names.emplace_back("positions");
  for (const char* name : {"pos", "state", "params"}) names.emplace_back(name);
  return names;
}

std::string Listed(const std::vector<std::string>& names) {
  std::string text;
  for (const std::string& name : names) text += (text.empty() ? "" : ", ") + name;
  return "(" + text + ")";
}

FunctionEntry ReadFunction(const std::string& name, Fields fields) {
  static const std::set<std::string> called = {"encode_image", "embed", "prefill", "decode"};
  FunctionEntry entry;
  if (!called.contains(name) || !fields.Has("arguments")) return entry;
  std::vector<std::string> names;
  for (const std::string& text : Texts(fields.List("arguments", kMaxArguments), fields.where())) {
    names.push_back(text.substr(0, std::min(text.find(' '), kLongest)));
    entry.takes_positions = entry.takes_positions || names.back() == kPositions;
  }
  std::vector<std::string> passed = Passed(name, entry.takes_positions);
  if (names != passed) entry.other = Words(Listed(names), ", not ", Listed(passed));
  return entry;
}

std::map<std::string, FunctionEntry> ReadFunctions(const Fields& functions) {
  std::map<std::string, FunctionEntry> entries;
  for (const auto& [name, entry] : functions.All()) {
    Fields one(entry, Words(functions.where(), ", ", name.substr(0, kLongest)));
    entries.emplace(name, ReadFunction(name, one));
  }
  return entries;
}

Json ParseText(std::string_view text, const std::string& where) {
  try {
    return Json::Parse(text);
  } catch (const JsonError& error) {
    throw InputError(where, ": not valid JSON: ", error.what());
  }
}

void CheckFormat(Fields& fields, const Json& table) {
  if (!fields.Has("format") || fields.Text("format") != "handglass-bundle") {
    throw InputError(fields.where(), ": not a handglass bundle");
  }
  const Json* version = table.Find("version");
  const auto* number = version == nullptr ? nullptr : version->As<int64_t>();
  if (number != nullptr && *number == kVersion) return;
  throw MismatchError(fields.where(), ": bundle version ",
                      version == nullptr ? "none" : Shown(*version), ", this program reads ",
                      kVersion, "; compile the model again");
}

std::map<std::string, FileEntry> ReadFiles(const Json& table, const std::string& where) {
  std::map<std::string, FileEntry> files;
  for (const auto& [name, entry] : Fields(table, where).All()) {
    Fields listed(entry, Words(where, ", ", name.substr(0, kLongest)));
    FileEntry one = {listed.Text("sha256"), listed.Integer("size", 0, kMaxFile)};
    if (!IsHash(one.sha256)) throw InputError(listed.where(), ": 'sha256' must be 64 hex digits");
    files.emplace(name, one);
  }
  if (!files.contains(kLibrary)) throw MismatchError(where, ": lists no ", kLibrary);
  return files;
}

}  // namespace

size_t TensorEntry::bytes() const { return BytesOf(shape, DataType(dtype), name); }

void FunctionEntry::CheckCallable(const std::string& name) const {
  if (other.empty()) return;
  throw MismatchError("this bundle's function '", name, "' takes ", other,
                      " as this program passes; use 'handglass run', or the program of the release "
                      "that made the bundle");
}

Manifest Manifest::Parse(std::string_view text, const std::string& where) {
  Json table = ParseText(text, where);
  Fields fields(table, where);
  CheckFormat(fields, table);
  Fields versions = fields.Inner("versions"), state = fields.Inner("state");
  Manifest manifest;
  manifest.target = ReadTarget(fields.Inner("target"));
  manifest.tvm = versions.Text("tvm");
  manifest.tvm_ffi = versions.Text("tvm_ffi");
  manifest.functions = ReadFunctions(fields.Inner("functions"));
  manifest.params = ReadParams(fields.List("params", kMaxTensors), where + ", params");
  manifest.state = ReadState(state.List("tensors", kMaxTensors), where + ", state");
  manifest.context = state.Integer("context", 1, kMaxContext);
  manifest.vocab_size = fields.Integer("vocab_size", 1, kMaxVocabulary);
  manifest.hidden_size = fields.Integer("hidden_size", 1, kMaxHidden);
  if (!fields.Any("vision").As<std::nullptr_t>()) {
    manifest.vision = ReadVision(fields.Inner("vision"));
  }
  manifest.files = ReadFiles(fields.Any("files"), where + ", files");
  return manifest;
}

}  // namespace handglass
