// A bundle folder with this manifest: its files are checked, and its sizes multiplied.

#include "bundle.h"

#include <unistd.h>

#include <cstdlib>
#include <fstream>

#include "fuzzing.h"

namespace handglass {
namespace {

void Write(const std::filesystem::path& path, std::string_view content) {
  std::ofstream(path, std::ios::binary) << content;
}

const std::filesystem::path& Folder() {
  static const std::filesystem::path folder = [] {
    char name[] = "/tmp/fuzz-bundle-XXXXXX";
    if (mkdtemp(name) == nullptr) std::abort();
    Write(std::filesystem::path(name) / "lib.so", "lib");
    std::atexit([] { std::filesystem::remove_all(Folder()); });
    return std::filesystem::path(name);
  }();
  return folder;
}

void Use(const Manifest& manifest) {
  for (const TensorEntry& entry : manifest.params) entry.bytes();
  for (const StateTensor& entry : manifest.state) entry.bytes();
  if (!manifest.vision) return;
  const Vision& vision = *manifest.vision;
  vision.Rows(vision.patches);
  for (int64_t i = 0; i < vision.side() * vision.side(); ++i) vision.PlaceOf(i, vision.side());
}

}  // namespace
}  // namespace handglass

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace handglass;
  Try([&] {
    Use(Manifest::Parse(Input(data, size), "manifest"));
    Write(Folder() / "manifest.json", Input(data, size));
    Use(Bundle(Folder(), Verify::kAll).manifest());
  });
  return 0;
}
