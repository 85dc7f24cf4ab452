#include "manifest.h"

#include "errors.h"
#include "fields.h"
#include "json.h"
#include "sha256.h"
#include "tensors.h"

namespace handglass {
namespace {

constexpr char kPositions[] = "positions", kRecurrent[] = "recurrent";
constexpr int64_t kVersion = 2;
// Bounds of numbers, as in runtime/bundle/bounds.py.
constexpr int64_t kMaxVocabulary = 1 << 24, kMaxHidden = 1 << 20, kMaxContext = 1 << 24;
constexpr int64_t kMaxSide = 1 << 11, kMaxRows = 1 << 16, kMaxPatches = 1 << 16;
constexpr int64_t kMaxWindows = 2;
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
    if (kind != kPositions && kind != kRecurrent) {
      throw InputError(where, ", ", entry.name, ": 'kind' must be ", kPositions, " or ", kRecurrent,
                       ", got ", Shown(kind));
    }
    entry.recurrent = kind == kRecurrent;
    entries.push_back(std::move(entry));
  }
  return entries;
}

/* Rows of the position table, by the name of the method; 0 for an unknown method. */
int64_t ReadPositions(Fields method) {
  if (method.Text("kind") != "bucket") return 0;
  int64_t side = method.Inner("parameters").Integer("side", 1, kMaxSide);
  return side * side;
}

/* A method that this program lacks, with its name; such a bundle answers text alone here. */
std::string ReadUnknown(Fields& fields) {
  std::string slicing = fields.Inner("slicing").Text("kind");
  std::string positions = fields.Inner("positions").Text("kind");
  if (slicing != "crops") return Words("vision.slicing ", Shown(slicing));
  if (positions != "bucket") return Words("vision.positions ", Shown(positions));
  bool windows = fields.Has("window_levels") && fields.Integer("window_levels", 0, kMaxWindows) > 0;
  return windows ? "vision.window_levels" : "";
}

Vision ReadVision(Fields fields) {
  auto optional = [&](const char* name) {
    return fields.Has(name) ? fields.Integer(name, 0, kMaxRows) : 0;
  };
  Vision vision;
  vision.image_size = fields.Integer("image_size", 1, kMaxSide);
  vision.patch_size = fields.Integer("patch_size", 1, vision.image_size);
  vision.query_num = optional("query_num");
  vision.patches_per_row = optional("patches_per_row");
  vision.positions = ReadPositions(fields.Inner("positions"));
  vision.unknown = ReadUnknown(fields);
  if (vision.image_size % vision.patch_size != 0) {
    throw InputError(fields.where(), ": 'image_size' must be a multiple of 'patch_size'");
  }
  if (vision.side() > kMaxPatches / vision.side()) {
    throw InputError(fields.where(), ": a tile has ", vision.side(), " x ", vision.side(),
                     " patches, at most ", kMaxPatches, " are supported");
  }
  if ((vision.query_num > 0) == (vision.patches_per_row > 0)) {
    throw InputError(fields.where(),
                     ": one of 'query_num' and 'patches_per_row' must be positive, the other 0");
  }
  return vision;
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

/* The names of the functions. MismatchError for one that takes the rotary positions of tokens:
 * this program does not compute them. */
std::set<std::string> ReadFunctions(const Fields& functions) {
  std::set<std::string> names;
  for (const auto& [name, entry] : functions.All()) {
    Fields one(entry, Words(functions.where(), ", ", name.substr(0, kLongest)));
    names.insert(name);
    if (!one.Has("arguments")) continue;
    for (const std::string& argument : Texts(one.List("arguments", kMaxArguments), one.where())) {
      if (!argument.starts_with("positions ")) continue;
      throw MismatchError(one.where(),
                          ": takes the rotary positions of tokens (prompt.positions), which this "
                          "program does not compute; use 'handglass run'");
    }
  }
  return names;
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
