#include "bundle.h"

#include <limits>

#include "engine.h"
#include "errors.h"
#include "fields.h"
#include "sha256.h"

namespace handglass {
namespace {

constexpr char kManifest[] = "manifest.json", kLibrary[] = "lib.so";
constexpr char kPositions[] = "positions", kRecurrent[] = "recurrent";
constexpr int64_t kVersion = 2, kMaxSide = 1 << 12;
constexpr int64_t kMost = std::numeric_limits<int32_t>::max();
constexpr size_t kMaxManifest = 64 << 20, kMaxTensors = 1 << 20, kLongest = 4096;

bool IsParams(const std::string& name) {
  return name.starts_with("params-") && name.ends_with(".safetensors");
}

TensorEntry ReadTensor(Fields& fields) {
  TensorEntry entry = {fields.Text("name", kLongest), {}, ""};
  entry.shape = Sizes(fields.List("shape", 16), fields.where() + ", " + entry.name);
  entry.dtype = fields.Text("dtype");
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

Vision ReadVision(Fields fields) {
  auto optional = [&](const char* name) {
    return fields.Has(name) ? fields.Integer(name, 0, kMost) : 0;
  };
  Vision vision;
  vision.image_size = fields.Integer("image_size", 1, 1 << 16);
  vision.patch_size = fields.Integer("patch_size", 1, vision.image_size);
  vision.query_num = optional("query_num");
  vision.patches_per_row = optional("patches_per_row");
  vision.positions = ReadPositions(fields.Inner("positions"));
  if (vision.image_size % vision.patch_size != 0) {
    throw InputError(fields.where(), ": 'image_size' must be a multiple of 'patch_size'");
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

/* "0.27.0.post1" -> "0.27": bytecode and calling convention may change in a minor release. */
std::string Minor(const std::string& version) {
  size_t first = version.find('.');
  return version.substr(0, first == version.npos ? first : version.find('.', first + 1));
}

}  // namespace

size_t TensorEntry::bytes() const {
  return static_cast<size_t>(CountOf(shape)) * DataType(dtype).bits / 8;
}

Bundle::Bundle(std::filesystem::path folder, Verify verify) : folder_(std::move(folder)) {
  ReadManifest();
  CheckVersions();
  for (const auto& [name, file] : files_) {
    auto mapping = Check(name, file, !IsParams(name) || verify == Verify::kAll);
    if (name == kLibrary) library_ = mapping;
    if (IsParams(name)) params_files_.push_back(mapping);
  }
}

void Bundle::ReadManifest() {
  std::shared_ptr<const Mapping> file;
  try {
    file = Mapping::Open(folder_ / kManifest);
  } catch (const Error& error) {
    throw InputError(folder_.string(), ": not a bundle: ", error.what());
  }
  std::string where = file->path().string();
  if (file->size() > kMaxManifest)
    throw InputError(where, ": larger than ", kMaxManifest, " bytes");
  Json table;
  try {
    table = Json::Parse({reinterpret_cast<const char*>(file->data()), file->size()});
  } catch (const JsonError& error) {
    throw InputError(where, ": not valid JSON: ", error.what());
  }
  Fields fields(table, where);
  if (!fields.Has("format") || fields.Text("format") != "handglass-bundle") {
    throw InputError(where, ": not a handglass bundle");
  }
  const Json* version = table.Find("version");
  const auto* number = version == nullptr ? nullptr : version->As<int64_t>();
  if (number == nullptr || *number != kVersion) {
    throw MismatchError(where, ": bundle version ", version == nullptr ? "none" : Shown(*version),
                        ", this program reads ", kVersion, "; compile the model again");
  }
  Fields versions = fields.Inner("versions"), state = fields.Inner("state");
  manifest_.target = ReadTarget(fields.Inner("target"));
  manifest_.tvm = versions.Text("tvm");
  manifest_.tvm_ffi = versions.Text("tvm_ffi");
  Fields functions = fields.Inner("functions");
  for (const auto& [name, entry] : functions.All()) manifest_.functions.insert(name);
  manifest_.params = ReadParams(fields.List("params", kMaxTensors), where + ", params");
  manifest_.state = ReadState(state.List("tensors", kMaxTensors), where + ", state");
  manifest_.context = state.Integer("context", 1, kMost);
  manifest_.vocab_size = fields.Integer("vocab_size", 1, kMost);
  manifest_.hidden_size = fields.Integer("hidden_size", 1, kMost);
  if (!fields.Any("vision").As<std::nullptr_t>()) {
    manifest_.vision = ReadVision(fields.Inner("vision"));
  }
  ReadFiles(fields.Any("files"), where + ", files");
  if (!files_.contains(kLibrary)) throw MismatchError(where, ": lists no ", kLibrary);
}

void Bundle::ReadFiles(const Json& table, const std::string& where) {
  for (const auto& [name, entry] : Fields(table, where).All()) {
    Fields listed(entry, where + ", " + name);
    File one = {listed.Text("sha256"), listed.Integer("size", 0, int64_t{1} << 50)};
    if (!IsHash(one.sha256)) throw InputError(listed.where(), ": sha256 is not one");
    files_.emplace(name, one);
  }
}

void Bundle::CheckVersions() const {
  const std::pair<std::string, std::string> pairs[] = {{manifest_.tvm, HANDGLASS_TVM},
                                                       {manifest_.tvm_ffi, HANDGLASS_TVM_FFI}};
  for (const auto& [wanted, ours] : pairs) {
    if (Minor(wanted) != Minor(ours)) {
      throw MismatchError(folder_.string(), ": compiled with TVM's version ", wanted,
                          ", this program has ", ours, "; build it or the bundle again");
    }
  }
}

/* A file that matches its entry in the manifest. */
std::shared_ptr<const Mapping> Bundle::Check(const std::string& name, const File& file,
                                             bool hashed) const {
  std::string problem;
  std::shared_ptr<const Mapping> mapping;
  if (!IsInside(name)) {
    problem = "points outside the bundle";
  } else {
    try {
      mapping = Mapping::Open(folder_ / name);
    } catch (const Error& error) {
      throw MismatchError(error.what(), "; copy or compile the bundle again");
    }
    if (static_cast<int64_t>(mapping->size()) != file.size) {
      problem = Words("has ", mapping->size(), " bytes, the manifest says ", file.size);
    } else if (hashed && Sha256Hex(mapping->data(), mapping->size()) != file.sha256) {
      problem = "its sha256 differs from the manifest";
    }
  }
  if (problem.empty()) return mapping;
  throw MismatchError(folder_.string(), ": ", name, ": ", problem,
                      "; copy or compile the bundle again");
}

/* Whether the name is a plain relative path that resolves to a place inside the bundle. */
bool Bundle::IsInside(const std::string& name) const {
  std::filesystem::path path(name);
  if (name.empty() || path.is_absolute() || path.lexically_normal().string() != name) return false;
  if (name == kManifest || name == "." || *path.begin() == "..") return false;
  if (name.find('\0') != name.npos || name.find('\\') != name.npos) return false;
  std::error_code error;
  auto root = std::filesystem::weakly_canonical(folder_, error);
  if (error) return false;
  auto real = std::filesystem::weakly_canonical(folder_ / path, error);
  auto relative = real.lexically_relative(root);
  return !error && !relative.empty() && *relative.begin() != "..";
}

}  // namespace handglass
