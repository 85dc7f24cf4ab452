// Compiled functions with their parameters and state. Works on token ids and rows of floats, not on
// text. Checks all shapes and the context limit, because the compiled code does not.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "bundle.h"
#include "engine.h"

namespace handglass {

/* The inputs of `encode_image` for one tile of a picture: n patches of p x p pixels. */
struct Tile {
  ffi::Tensor pixels;        // (3, p, p n) float32
  ffi::Tensor position_ids;  // (n,) int32
  ffi::Tensor grid;          // (n, 2) int32: row, column
  int64_t rows = 0;          // that it takes in the input of the language model
};

/* A loaded bundle. `Has` says which functions it has; calling another one is a MismatchError. */
class Session {
 public:
  /* Rejects a bundle that this machine cannot run, before loading any of it. */
  Session(const Bundle& bundle, std::optional<int64_t> threads);

  const Manifest& manifest() const { return manifest_; }
  int threads() const { return threads_; }
  bool Has(const std::string& capability) const { return functions_.contains(capability); }

  /* (rows of the tile, hidden_size) */
  ffi::Tensor EncodeImage(const Tile& tile);

  /* (ids, hidden_size) */
  ffi::Tensor Embed(const std::vector<int32_t>& ids);

  /* Appends rows (s, hidden_size) at `pos`; logits of the last one, (vocab_size,). */
  ffi::Tensor Prefill(const ffi::Tensor& rows, int64_t pos);

  /* Appends one token at `pos`; logits of the next one. */
  ffi::Tensor Decode(int32_t token, int64_t pos);

  /* A probe of the machine, by name; nothing if the bundle does not have it. */
  std::optional<ffi::Function> Probe(const std::string& name) const;

  /* Writes to every page of the state by position: untouched pages all map to one page of zeros,
   * which would be faster to read. */
  void FillState();

 private:
  ffi::Function Required(const std::string& name) const;
  const ffi::Function& Capability(const std::string& name) const;
  ffi::Tensor Result(const char* name, const ffi::Any& result, std::vector<int64_t> shape) const;
  void CheckBounds(int64_t pos, int64_t count) const;
  void CheckIds(const std::vector<int32_t>& ids) const;
  void LoadParams(const Bundle& bundle);

  Manifest manifest_;
  int threads_;
  std::string where_;
  std::optional<ffi::Module> machine_;
  std::map<std::string, ffi::Function> functions_;
  ffi::Array<ffi::Any> params_, state_;
  ffi::Tensor token_;
};

/* Reads a tile written by runtime/answer/native_request.py and checks it against the manifest. */
Tile ReadTile(const std::filesystem::path& path, const Vision& vision);

}  // namespace handglass
