// Selects a token from logits: the counterpart of runtime/answer/sampler.py.
#pragma once

#include <cstdint>
#include <vector>

#include "fields.h"
#include "random.h"
#include "tensors.h"

namespace handglass {

/* Options as in Python; the defaults select greedily. */
struct Sampling {
  double temp = 0;     // 0: no sampling
  int64_t top_k = 0;   // 0: all
  double top_p = 1;
  double repeat_penalty = 1;
  int64_t seed = 0;
};

/* The field `sampling` of a request. InputError for a value out of range. */
Sampling ReadSampling(Fields fields);

/* Selects tokens one after another. The same seed gives the tokens of the Python runtime, unless
 * two sums of probabilities differ in their last bit only. */
class Sampler {
 public:
  explicit Sampler(const Sampling& sampling)
      : sampling_(sampling), random_(static_cast<uint64_t>(sampling.seed)) {}

  /* `generated`: the tokens so far, for the penalty. DeviceError for NaN or infinity. */
  int32_t operator()(const ffi::Tensor& logits, const std::vector<int32_t>& generated);

 private:
  int32_t Draw(const std::vector<double>& scores);

  Sampling sampling_;
  Random random_;
};

}  // namespace handglass
