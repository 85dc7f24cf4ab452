// A bundle folder: what this program needs of its manifest, and files that are what it says.
#pragma once

#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "json.h"
#include "machine.h"
#include "mapping.h"

namespace handglass {

/* How much is hashed when a bundle is opened: everything, or all but the parameters. */
enum class Verify { kAll, kLibrary };

struct TensorEntry {
  std::string name;
  std::vector<int64_t> shape;
  std::string dtype;  // numpy's name of the stored type

  size_t bytes() const;
};

/* A tensor that a step reads and writes in place. */
struct StateTensor : TensorEntry {
  bool recurrent = false;  // a summary of all positions so far, else something for each of them
};

/* What a tile must be; how pictures become tiles is the host's part. */
struct Vision {
  int64_t image_size = 0;  // side of a tile in pixels, the largest one
  int64_t patch_size = 0;
  int64_t query_num = 0, patches_per_row = 0;  // one of them is 0
  int64_t positions = 0;  // rows of the position table; 0: a method unknown here

  /* Patches along the side of the largest tile. */
  int64_t side() const { return image_size / patch_size; }
  /* Rows of the language model that a tile of so many patches becomes. */
  int64_t Rows(int64_t patches) const {
    return query_num > 0 ? query_num : patches / patches_per_row;
  }
};

struct Manifest {
  Target target;
  std::string tvm, tvm_ffi;         // versions
  std::set<std::string> functions;  // what the model can do
  std::vector<TensorEntry> params;
  std::vector<StateTensor> state;
  int64_t context = 0, vocab_size = 0, hidden_size = 0;
  std::optional<Vision> vision;  // none: it reads text alone
};

class Bundle {
 public:
  /* Reads the manifest and checks every listed file; executes nothing. */
  Bundle(std::filesystem::path folder, Verify verify);

  const std::filesystem::path& folder() const { return folder_; }
  const Manifest& manifest() const { return manifest_; }
  const std::shared_ptr<const Mapping>& library() const { return library_; }
  const std::string& library_sha256() const { return files_.at("lib.so").sha256; }

  /* Files of parameters, in the order of their names. */
  const std::vector<std::shared_ptr<const Mapping>>& params_files() const { return params_files_; }

 private:
  struct File {
    std::string sha256;
    int64_t size;
  };

  void ReadManifest();
  void ReadFiles(const Json& table, const std::string& where);
  void CheckVersions() const;
  std::shared_ptr<const Mapping> Check(const std::string& name, const File& file,
                                       bool hashed) const;
  bool IsInside(const std::string& name) const;

  std::filesystem::path folder_;
  Manifest manifest_;
  std::map<std::string, File> files_;
  std::shared_ptr<const Mapping> library_;
  std::vector<std::shared_ptr<const Mapping>> params_files_;
};

}  // namespace handglass
