// A bundle folder: its manifest and its checked files.
#pragma once

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "manifest.h"
#include "mapping.h"

namespace handglass {

/* What to hash when a bundle is opened: every file, or all but the parameters. */
enum class Verify { kAll, kLibrary };

class Bundle {
 public:
  /* Reads the manifest and checks every listed file. Executes nothing. */
  Bundle(std::filesystem::path folder, Verify verify);

  const std::filesystem::path& folder() const { return folder_; }
  const Manifest& manifest() const { return manifest_; }
  /* In private memory, so that it cannot change between hashing and loading. */
  const std::shared_ptr<const Mapping>& library() const { return library_; }
  const std::string& library_sha256() const { return manifest_.files.at(kLibrary).sha256; }

  /* The parameter files, ordered by name. */
  const std::vector<std::shared_ptr<const Mapping>>& params_files() const { return params_files_; }

 private:
  void ReadManifest();
  void CheckVersions() const;
  std::shared_ptr<const Mapping> Open(const std::string& name) const;
  std::shared_ptr<const Mapping> Check(const std::string& name, const FileEntry& entry,
                                       bool hashed) const;
  bool IsInside(const std::string& name) const;

  std::filesystem::path folder_;
  Manifest manifest_;
  std::shared_ptr<const Mapping> library_;
  std::vector<std::shared_ptr<const Mapping>> params_files_;
};

}  // namespace handglass
