// mma.sync.m16n8k*: fragments of every element width by one formula.
#pragma once
#include "machine.h"

struct F16 {
  static constexpr int bits = 16;
  using Sum = f64;
  static f64 get(u32 r, int i) { return f64(f32(as<f16>(u16(r >> 16 * i)))); }
};
struct BF16 {
  static constexpr int bits = 16;
  using Sum = f64;
  static f64 get(u32 r, int i) { return as<f32>(r >> 16 * i << 16); }
};
struct TF32 {
  static constexpr int bits = 32;
  using Sum = f64;
  static f64 get(u32 r, int) { return as<f32>(r & ~0x1fffu); }
};
struct S8 {
  static constexpr int bits = 8;
  using Sum = s32;
  static s32 get(u32 r, int i) { return s8(r >> 8 * i); }
};
struct U8 {
  static constexpr int bits = 8;
  using Sum = s32;
  static s32 get(u32 r, int i) { return u8(r >> 8 * i); }
};
struct S4 {
  static constexpr int bits = 4;
  using Sum = s32;
  static s32 get(u32 r, int i) { return s32(r << (28 - 4 * i)) >> 28; }
};
struct U4 {
  static constexpr int bits = 4;
  using Sum = s32;
  static s32 get(u32 r, int i) { return s32(r >> 4 * i & 15); }
};

// Sums of products that are exact before they are added to c and rounded once.
static inline f32 accumulated(f64 sum, f32 c, bool) { return f32(sum + c); }
static inline s32 accumulated(s32 sum, s32 c, bool saturated) {
  return saturated ? add_saturated(sum, c) : add(sum, c);
}

// Registers a[2K/4n], b[K/4n] with n elements each, and c[4], of all lanes. c becomes the result.
template <class A, class B, int K, class C>
static inline void multiply(const u32 (*a)[32], const u32 (*b)[32], C (*c)[32], bool saturated) {
  using Sum = typename A::Sum;
  constexpr int per = 32 / A::bits, registers_b = K / (4 * per);
  Sum rows[16][K], columns[K][8], sums[16][8] = {};
  for (int i = 0; i < 2 * registers_b; i++)
    LANES (l)
      for (int j = 0; j < per; j++)
        rows[l / 4 + 8 * (i & 1)][per * (l & 3) + (i >> 1) * 4 * per + j] = A::get(a[i][l], j);
  for (int i = 0; i < registers_b; i++)
    LANES (l)
      for (int j = 0; j < per; j++)
        columns[per * (l & 3) + i * 4 * per + j][l / 4] = B::get(b[i][l], j);
  for (int row = 0; row < 16; row++)
    for (int k = 0; k < K; k++)
      for (int n = 0; n < 8; n++) sums[row][n] += rows[row][k] * columns[k][n];
  for (int i = 0; i < 4; i++)
    LANES (l)
      c[i][l] = accumulated(sums[l / 4 + 8 * (i >> 1)][2 * (l & 3) + (i & 1)], c[i][l], saturated);
}
