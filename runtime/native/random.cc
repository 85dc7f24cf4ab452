#include "random.h"

#include <array>
#include <bit>
#include <cstddef>

namespace handglass {
namespace {

constexpr size_t kPool = 4;
constexpr int kShift = 16;

/* Hashes words one after the other, each with another factor. */
class Hash {
 public:
  Hash(uint32_t first, uint32_t factor) : constant_(first), factor_(factor) {}

  uint32_t operator()(uint32_t word) {
    word ^= constant_;
    constant_ *= factor_;
    word *= constant_;
    return word ^ word >> kShift;
  }

 private:
  uint32_t constant_, factor_;
};

uint32_t Mix(uint32_t a, uint32_t b) {
  uint32_t mixed = 0xca01f9dd * a - 0x4973f715 * b;
  return mixed ^ mixed >> kShift;
}

/* A pool of words, each of which depends on every bit of the seed. */
std::array<uint32_t, kPool> PoolOf(uint64_t seed) {
  Hash hash(0x43b0d7e5, 0x931e8875);
  std::array<uint32_t, kPool> pool = {static_cast<uint32_t>(seed),
                                      static_cast<uint32_t>(seed >> 32)};
  for (uint32_t& word : pool) word = hash(word);
  for (size_t from = 0; from < kPool; ++from) {
    for (size_t to = 0; to < kPool; ++to) {
      if (from != to) pool[to] = Mix(pool[to], hash(pool[from]));
    }
  }
  return pool;
}

}  // namespace

Random::Random(uint64_t seed) {
  constexpr uint32_t kHalves = 8;  // of state and sequence, the high words first
  std::array<uint32_t, kPool> pool = PoolOf(seed);
  Hash hash(0x8b51f9dd, 0x58f38ded);
  std::array<Wide, 2> seeds = {};
  for (uint32_t half = 0; half < kHalves; half += 2) {
    uint64_t low = hash(pool[half % kPool]), high = hash(pool[(half + 1) % kPool]);
    Wide& one = seeds[half / kPool];
    one = one << 64 | (high << 32 | low);
  }
  increment_ = seeds[1] << 1 | 1;
  Step();
  state_ += seeds[0];
  Step();
}

void Random::Step() {
  constexpr Wide kMultiplier = Wide{2549297995355413924U} << 64 | 4865540595714422341U;
  state_ = state_ * kMultiplier + increment_;
}

double Random::Next() {
  Step();
  auto high = static_cast<uint64_t>(state_ >> 64), low = static_cast<uint64_t>(state_);
  uint64_t bits = std::rotr(high ^ low, static_cast<int>(high >> 58));
  return static_cast<double>(bits >> 11) * 0x1p-53;
}

}  // namespace handglass
