// Compiled functions with their parameters and their state: rows of floats in, rows of floats out.
//
// Knows no text. Checks every shape and the end of the context, because the compiled code does not.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "bundle.h"
#include "engine.h"

namespace handglass {

/* What `encode_image` wants of one tile of a picture; n patches of p x p. */
struct Tile {
  ffi::Tensor pixels;        // (3, p, p n) float32
  ffi::Tensor position_ids;  // (n,) int32
  ffi::Tensor grid;          // (n, 2) int32: row, column
  int64_t rows = 0;          // of the language model that it becomes
};

/* What the model can do is what its bundle says: `Has("encode_image")`. A call of a function that
 * the bundle does not have is a MismatchError. */
class Session {
 public:
  /* Refuses a bundle that this machine cannot run before anything of it is loaded. */
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

  /* A probe of the machine, by name; nothing where the bundle has none such. */
  std::optional<ffi::Function> Probe(const std::string& name) const;

  /* Writes every page of what is kept for each position, which are all one page of zeros before. */
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

/* A tile of a file that runtime/answer/native_request.py wrote, checked against the manifest. */
Tile ReadTile(const std::filesystem::path& path, const Vision& vision);

}  // namespace handglass
