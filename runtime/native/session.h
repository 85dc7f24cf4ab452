// Compiled functions with their parameters and state. Works on token ids and rows of floats, not on
// text. Checks all shapes and the context limit, because the compiled code does not.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "bundle.h"
#include "engine.h"
#include "tile.h"

namespace handglass {

constexpr int64_t kAxes = 3;  // of the rotary positions of a token

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

  /* Whether the tokens have rotary positions of their own, three each: time, row, column. */
  bool takes_positions() const;

  /* Appends rows (s, hidden_size) at `pos`; logits of the last one, (vocab_size,). `positions` are
   * the rotary ones, kAxes for each row, if the bundle takes them; empty: those of text, equal to
   * the place. */
  ffi::Tensor Prefill(const ffi::Tensor& rows, int64_t pos,
                      const std::vector<int32_t>& positions = {});

  /* Appends one token at `pos`; logits of the next one. `position` is its rotary one, if the bundle
   * takes one; none: `pos`. */
  ffi::Tensor Decode(int32_t token, int64_t pos, std::optional<int64_t> position = std::nullopt);

  /* A probe of the machine, by name; nothing if the bundle does not have it. */
  std::optional<ffi::Function> Probe(const std::string& name) const;

  /* Writes to every page of the state by position: untouched pages all map to one page of zeros,
   * which would be faster to read. */
  void FillState();

 private:
  ffi::Function Required(const std::string& name) const;
  const ffi::Function& Capability(const std::string& name) const;
  ffi::Tensor Step(const char* name, const ffi::Tensor& input, int64_t pos,
                   const std::vector<int32_t>& positions);
  ffi::Tensor Result(const char* name, const ffi::Any& result, std::vector<int64_t> shape) const;
  void CheckBounds(int64_t pos, int64_t count) const;
  void CheckPositions(const std::vector<int32_t>& positions, int64_t count) const;
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

}  // namespace handglass
