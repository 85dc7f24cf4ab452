// manifest.json of a bundle: the parts that this program needs.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "machine.h"

namespace handglass {

struct TensorEntry {
  std::string name;
  std::vector<int64_t> shape;
  std::string dtype;  // numpy's name

  size_t bytes() const;
};

/* A tensor that a step reads and writes in place. */
struct StateTensor : TensorEntry {
  bool recurrent = false;  // summarises all positions; otherwise it has rows for each
};

/* The tiles that the model accepts; the host cuts pictures into tiles. */
struct Vision {
  int64_t image_size = 0;  // side of the largest tile, in pixels
  int64_t patch_size = 0;
  int64_t query_num = 0, patches_per_row = 0;  // exactly one is 0
  int64_t positions = 0;  // rows of the position table; 0: unknown method
  std::string unknown;    // the first method of the bundle that this program lacks

  /* Patches along the side of the largest tile. */
  int64_t side() const { return image_size / patch_size; }
  /* Rows that a tile of this many patches takes in the input of the language model. */
  int64_t Rows(int64_t patches) const {
    return query_num > 0 ? query_num : patches / patches_per_row;
  }
};

struct FileEntry {
  std::string sha256;
  int64_t size = 0;
};

struct Manifest {
  Target target;
  std::string tvm, tvm_ffi;         // versions
  std::set<std::string> functions;  // names of those that the bundle has
  std::vector<TensorEntry> params;
  std::vector<StateTensor> state;
  int64_t context = 0, vocab_size = 0, hidden_size = 0;
  std::optional<Vision> vision;  // none: a text-only model
  std::map<std::string, FileEntry> files;

  /* Parses the text of a manifest; `where` names it in messages. Every number is bounded, so that
   * no product of them overflows. InputError for malformed content, MismatchError for another
   * format version, DeviceError for a bundle of another device. */
  static Manifest Parse(std::string_view text, const std::string& where);
};

constexpr char kLibrary[] = "lib.so";

}  // namespace handglass
