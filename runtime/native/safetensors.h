// Safetensors files, mapped: a strict reader that trusts nothing in the header.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "engine.h"
#include "json.h"
#include "mapping.h"

namespace handglass {

struct StoredTensor {
  std::vector<int64_t> shape;
  std::string dtype;            // numpy's name, or bfloat16
  size_t start = 0, bytes = 0;  // in the file
};

class Safetensors {
 public:
  /* InputError for what is no such file, or whose tensors do not tile it. */
  explicit Safetensors(std::shared_ptr<const Mapping> file);

  const std::map<std::string, StoredTensor>& tensors() const { return tensors_; }

  /* Over the mapping where that is aligned, otherwise a copy; read-only in either case. */
  ffi::Tensor Tensor(const StoredTensor& stored) const;

 private:
  void ReadEntry(const std::string& name, const Json& value, size_t data);
  void CheckCoverage(size_t data) const;

  std::shared_ptr<const Mapping> file_;
  std::map<std::string, StoredTensor> tensors_;
};

}  // namespace handglass
