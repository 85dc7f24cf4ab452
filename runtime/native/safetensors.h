// A strict reader of safetensors files. It trusts nothing in the header.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "json.h"
#include "mapping.h"
#include "tensors.h"

namespace handglass {

struct StoredTensor {
  std::vector<int64_t> shape;
  std::string dtype;            // numpy's name, or bfloat16
  size_t start = 0, bytes = 0;  // in the file
};

class Safetensors {
 public:
  /* InputError unless it is such a file and its tensors cover the data without gaps or overlaps. */
  explicit Safetensors(std::shared_ptr<const Mapping> file);

  const std::map<std::string, StoredTensor>& tensors() const { return tensors_; }

  /* A read-only tensor: over the mapping if the data is aligned, otherwise a copy. */
  ffi::Tensor Tensor(const StoredTensor& stored) const;

 private:
  void ReadEntry(const std::string& name, const Json& value, size_t data);
  void CheckCoverage(size_t data) const;

  std::shared_ptr<const Mapping> file_;
  std::map<std::string, StoredTensor> tensors_;
};

}  // namespace handglass
