// manifest.json of a bundle: the parts that this program needs.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "machine.h"
#include "vision.h"

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

/* What this program needs to know to call a function of the library. */
struct FunctionEntry {
  bool takes_positions = false;  // the rotary positions of the tokens
  std::string other;             // its arguments, if this program would pass others

  /* MismatchError, naming them, if so. */
  void CheckCallable(const std::string& name) const;
};

struct FileEntry {
  std::string sha256;
  int64_t size = 0;
};

struct Manifest {
  Target target;
  std::string tvm, tvm_ffi;  // versions
  std::map<std::string, FunctionEntry> functions;  // those that the bundle has
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
