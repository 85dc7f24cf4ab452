// Arithmetic and comparison of one lane, as the PTX manual defines them for each type.
#pragma once
#include <cmath>

#include "lanes.h"

template <Integer T>
using Unsigned = std::make_unsigned_t<T>;

// Integers wrap. The cast to 32 bits keeps products of u16 from overflowing `int`.
template <Integer T>
static inline T add(T a, T b) {
  return T(Unsigned<T>(a) + Unsigned<T>(b));
}
template <Integer T>
static inline T sub(T a, T b) {
  return T(Unsigned<T>(a) - Unsigned<T>(b));
}
template <Integer T>
static inline T mul(T a, T b) {
  return T(u64(a) * u64(b));
}
template <Integer T>
static inline T mad(T a, T b, T c) {
  return add(mul(a, b), c);
}
template <Integer T>
static inline T neg(T a) {
  return sub(T(0), a);
}
template <Integer T>
static inline T absolute(T a) {
  return a < 0 ? neg(a) : a;
}
template <Integer T>
static inline T least(T a, T b) {
  return b < a ? b : a;
}
template <Integer T>
static inline T largest(T a, T b) {
  return a < b ? b : a;
}

// Division by zero gives all ones on hardware, and no trap.
template <Integer T>
static inline T quotient(T a, T b) {
  if (b == 0) return T(-1);
  if (std::is_signed_v<T> && b == T(-1)) return neg(a);
  return T(a / b);
}
template <Integer T>
static inline T remainder_of(T a, T b) {
  if (b == 0) return a;
  return std::is_signed_v<T> && b == T(-1) ? T(0) : T(a % b);
}

template <class W, class T>
static inline W mul_wide(T a, T b) {
  return W(a) * W(b);
}
template <class W, class T>
static inline W mad_wide(T a, T b, W c) {
  return add(mul_wide<W>(a, b), c);
}
template <Integer T>
static inline T mul_high(T a, T b) {
  using W = std::conditional_t<std::is_signed_v<T>, __int128, unsigned __int128>;
  if constexpr (sizeof(T) == 8)
    return T(W(a) * W(b) >> 64);
  else
    return T(s64(a) * s64(b) >> 8 * sizeof(T));
}
template <>
inline u32 mul_high(u32 a, u32 b) {
  return u32(u64(a) * b >> 32);
}
template <Integer T>
static inline T mad_high(T a, T b, T c) {
  return add(mul_high(a, b), c);
}
// Saturation exists for s32 only.
static inline s32 clamped(s64 v) {
  return s32(v < INT32_MIN ? INT32_MIN : v > INT32_MAX ? INT32_MAX : v);
}
static inline s32 add_saturated(s32 a, s32 b) { return clamped(s64(a) + b); }
static inline s32 sub_saturated(s32 a, s32 b) { return clamped(s64(a) - b); }

// A double to float, rounded to odd: a second rounding to half is then right.
static inline f32 to_odd(f64 x) {
  const f32 y = f32(x);
  const u32 b = as<u32>(y);
  const bool exact = f64(y) == x || x != x || (b & 1) || (b << 1) == 0xff000000u;
  const bool up = (f64(y) < x) == (x > 0);
  return exact ? y : as<f32>(up ? b + 1 : b - 1);
}

template <Real T>
static inline T add(T a, T b) {
  return a + b;
}
template <Real T>
static inline T sub(T a, T b) {
  return a - b;
}
template <Real T>
static inline T mul(T a, T b) {
  return a * b;
}
template <Real T>
static inline T quotient(T a, T b) {
  return a / b;
}
template <Real T>
static inline T fma_of(T a, T b, T c) {
  return std::fma(a, b, c);
}
template <Real T>
static inline T neg(T a) {
  return -a;
}
template <Real T>
static inline T absolute(T a) {
  return std::fabs(a);
}

template <Half T>
static inline T add(T a, T b) {
  return T(wide(a) + wide(b));
}
template <Half T>
static inline T sub(T a, T b) {
  return T(wide(a) - wide(b));
}
template <Half T>
static inline T mul(T a, T b) {
  return T(wide(a) * wide(b));
}
template <Half T>
static inline T fma_of(T a, T b, T c) {
  return T(to_odd(f64(wide(a)) * wide(b) + wide(c)));
}
template <Half T>
static inline T neg(T a) {
  return as<T>(u16(bits(a) ^ 0x8000));
}
template <Half T>
static inline T absolute(T a) {
  return as<T>(u16(bits(a) & 0x7fff));
}

// The other number if one is NaN; -0 is less than +0.
template <class T>
concept Floating = Real<T> || Half<T>;
template <Floating T>
static inline bool below(T a, T b) {
  const auto x = wide(a), y = wide(b);
  return x < y || (x == y && std::signbit(x));
}
template <Floating T>
static inline T least(T a, T b) {
  const T found = below(a, b) ? a : b;
  return wide(a) != wide(a) ? b : wide(b) != wide(b) ? a : found;
}
template <Floating T>
static inline T largest(T a, T b) {
  const T found = below(a, b) ? b : a;
  return wide(a) != wide(a) ? b : wide(b) != wide(b) ? a : found;
}
// The variants with .NaN.
template <Floating T>
static inline T least_nan(T a, T b) {
  return wide(a) != wide(a) ? a : wide(b) != wide(b) ? b : least(a, b);
}
template <Floating T>
static inline T largest_nan(T a, T b) {
  return wide(a) != wide(a) ? a : wide(b) != wide(b) ? b : largest(a, b);
}

// NaN becomes 0, as .sat says.
template <Floating T>
static inline T saturate(T a) {
  return wide(a) > 0 ? wide(a) < 1 ? a : T(1.f) : T(0.f);
}
template <Floating T>
static inline T relu(T a) {
  return wide(a) < 0 ? T(0.f) : a;
}
static inline f32 flush(f32 x) { return std::fabs(x) < 0x1p-126f ? std::copysign(0.f, x) : x; }
static inline f32 copysign_of(f32 sign, f32 x) { return std::copysign(x, sign); }
static inline f64 copysign_of(f64 sign, f64 x) { return std::copysign(x, sign); }

// Packed halves: the same for both.
#define PAIRED_1(name)                    \
  template <Half T>                       \
  static inline Pair<T> name(Pair<T> a) { \
    return {name(a.low), name(a.high)};   \
  }
#define PAIRED_2(name)                                 \
  template <Half T>                                    \
  static inline Pair<T> name(Pair<T> a, Pair<T> b) {   \
    return {name(a.low, b.low), name(a.high, b.high)}; \
  }
PAIRED_1(neg)
PAIRED_1(absolute)
PAIRED_1(saturate)
PAIRED_1(relu)
PAIRED_2(add)
PAIRED_2(sub)
PAIRED_2(mul)
PAIRED_2(least)
PAIRED_2(largest)
PAIRED_2(least_nan)
PAIRED_2(largest_nan)
template <Half T>
static inline Pair<T> fma_of(Pair<T> a, Pair<T> b, Pair<T> c) {
  return {fma_of(a.low, b.low, c.low), fma_of(a.high, b.high, c.high)};
}

// The approximate functions: the exact value, rounded. Hardware is within the manual's bounds of
// it.
#define APPROXIMATE(name, expression) \
  template <Real T>                   \
  static inline T name(T x) {         \
    return T(expression);             \
  }                                   \
  template <Half T>                   \
  static inline T name(T h) {         \
    const f32 x = wide(h);            \
    return T(f32(expression));        \
  }                                   \
  PAIRED_1(name)
APPROXIMATE(exp2_of, std::exp2(x))
APPROXIMATE(log2_of, std::log2(x))
APPROXIMATE(reciprocal, 1 / x)
APPROXIMATE(root, std::sqrt(x))
APPROXIMATE(reciprocal_root, 1 / std::sqrt(x))
APPROXIMATE(sine, std::sin(x))
APPROXIMATE(cosine, std::cos(x))
APPROXIMATE(hyperbolic_tangent, std::tanh(x))
