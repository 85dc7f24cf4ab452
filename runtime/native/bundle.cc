#include "bundle.h"

#include <system_error>

#include "errors.h"
#include "sha256.h"

namespace handglass {
namespace {

constexpr char kManifest[] = "manifest.json";
constexpr size_t kMaxManifest = 4 << 20;   // as in runtime/bundle/manifest.py
constexpr size_t kMaxLibrary = 256 << 20;  // as kMaxPayload of the device protocol
constexpr size_t kLongestName = 200;       // part of a name in a message

bool IsParams(const std::string& name) {
  return name.starts_with("params-") && name.ends_with(".safetensors");
}

/* "0.27.0.post1" -> "0.27": bytecode and calling convention may change in a minor release. */
std::string Minor(const std::string& version) {
  size_t first = version.find('.');
  return version.substr(0, first == version.npos ? first : version.find('.', first + 1));
}

}  // namespace

Bundle::Bundle(std::filesystem::path folder, Verify verify) : folder_(std::move(folder)) {
  ReadManifest();
  CheckVersions();
  for (const auto& [name, entry] : manifest_.files) {
    auto mapping = Check(name, entry, !IsParams(name) || verify == Verify::kAll);
    if (name == kLibrary) library_ = mapping;
    if (IsParams(name)) params_files_.push_back(mapping);
  }
}

void Bundle::ReadManifest() {
  std::shared_ptr<const Mapping> file;
  try {
    file = Mapping::Read(folder_ / kManifest, kMaxManifest);
  } catch (const Error& error) {
    throw InputError(folder_.string(), ": not a bundle: ", error.what());
  }
  manifest_ = Manifest::Parse(file->text(), file->path().string());
}

void Bundle::CheckVersions() const {
  const std::pair<std::string, std::string> pairs[] = {{manifest_.tvm, HANDGLASS_TVM},
                                                       {manifest_.tvm_ffi, HANDGLASS_TVM_FFI}};
  for (const auto& [wanted, ours] : pairs) {
    if (Minor(wanted) != Minor(ours)) {
      throw MismatchError(folder_.string(), ": compiled with TVM's version ", wanted,
                          ", this program has ", ours,
                          "; build the program or compile the bundle again");
    }
  }
}

/* Reads lib.so into private memory, maps any other file. */
std::shared_ptr<const Mapping> Bundle::Open(const std::string& name) const {
  try {
    if (name != kLibrary) return Mapping::Open(folder_ / name);
    return Mapping::Read(folder_ / name, kMaxLibrary);
  } catch (const Error& error) {
    throw MismatchError(error.what(), "; copy or compile the bundle again");
  }
}

/* Opens a file and checks it against its entry in the manifest. */
std::shared_ptr<const Mapping> Bundle::Check(const std::string& name, const FileEntry& entry,
                                             bool hashed) const {
  std::string problem;
  std::shared_ptr<const Mapping> mapping;
  if (!IsInside(name)) {
    problem = "points outside the bundle";
  } else {
    mapping = Open(name);
    if (static_cast<int64_t>(mapping->size()) != entry.size) {
      problem = Words("has ", mapping->size(), " bytes, the manifest says ", entry.size);
    } else if (hashed && Sha256Hex(mapping->data(), mapping->size()) != entry.sha256) {
      problem = "its sha256 differs from the manifest";
    }
  }
  if (problem.empty()) return mapping;
  throw MismatchError(folder_.string(), ": ", name.substr(0, kLongestName), ": ", problem,
                      "; copy or compile the bundle again");
}

/* Whether the name is a plain relative path whose folder is inside the bundle. The file itself may
 * be a link, as in the cache of a model hub, since its content is checked. */
bool Bundle::IsInside(const std::string& name) const {
  std::filesystem::path path(name);
  if (name.empty() || path.is_absolute() || path.lexically_normal().string() != name) return false;
  if (name == kManifest || name == "." || *path.begin() == "..") return false;
  if (name.find('\0') != name.npos || name.find('\\') != name.npos) return false;
  std::error_code error;
  auto root = std::filesystem::weakly_canonical(folder_, error);
  if (error) return false;
  auto real = std::filesystem::weakly_canonical((folder_ / path).parent_path(), error);
  auto relative = real.lexically_relative(root);
  return !error && !relative.empty() && *relative.begin() != "..";
}

}  // namespace handglass
