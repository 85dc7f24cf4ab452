// Random numbers as numpy.random.default_rng(seed) draws them: PCG64 (XSL RR 128/64, O'Neill 2014)
// with a state hashed from the seed (numpy's SeedSequence, after O'Neill's seed_seq_fe).
#pragma once

#include <cstdint>

namespace handglass {

class Random {
 public:
  explicit Random(uint64_t seed);

  /* Uniform in [0, 1), with 53 bits. */
  double Next();

 private:
  __extension__ using Wide = unsigned __int128;

  void Step();

  Wide state_ = 0, increment_ = 0;
};

}  // namespace handglass
