// cvt: roundings, saturation and the narrow formats.
#pragma once
#include "arithmetic.h"

enum class Round { nearest, zero, down, up, away };

template <Round mode, Real T>
static inline T integral(T x) {
  if constexpr (mode == Round::nearest) return std::nearbyint(x);
  if constexpr (mode == Round::zero) return std::trunc(x);
  if constexpr (mode == Round::down) return std::floor(x);
  if constexpr (mode == Round::up) return std::ceil(x);
  return std::round(x);
}
template <Round mode, Half T>
static inline T integral(T x) { return T(integral<mode>(wide(x))); }

// To an integer: out of range is the nearest that there is, NaN is 0.
template <class D, Round mode, class S>
static inline D to_integer(S from) {
  const f64 x = f64(integral<mode>(wide(from)));
  constexpr f64 low = f64(std::is_signed_v<D> ? Unsigned<D>(1) << (8 * sizeof(D) - 1) : 0);
  constexpr f64 limit = std::is_signed_v<D> ? low : 2 * f64(Unsigned<D>(1) << (8 * sizeof(D) - 1));
  constexpr D most = std::is_signed_v<D> ? D((Unsigned<D>(1) << (8 * sizeof(D) - 1)) - 1) : D(~Unsigned<D>(0));
  return x != x ? D(0) : x <= -low ? D(-low) : x >= limit ? most : D(x);
}

template <class D, Integer S>
static inline D integer_saturated(S from) {
  constexpr bool sign = std::is_signed_v<D>;
  constexpr Unsigned<D> half = Unsigned<D>(1) << (8 * sizeof(D) - 1);
  constexpr __int128 low = sign ? -__int128(half) : 0, high = sign ? __int128(half) - 1 : 2 * __int128(half) - 1;
  const __int128 x = from;
  return D(x < low ? low : x > high ? high : x);
}

// A value with `precision` bits, whose unit is at least 2^lowest; overflow as the mode says.
template <Round mode>
static inline f64 rounded(f64 x, int precision, int lowest, f64 largest_value) {
  if (x == 0 || x != x || std::isinf(x)) return x;
  const int unit = std::ilogb(x) - precision + 1;
  const f64 scale = std::ldexp(1.0, unit < lowest ? lowest : unit);
  const f64 y = integral<mode>(x / scale) * scale;
  if (std::fabs(y) <= largest_value) return y;
  const bool away_from_zero = mode == Round::nearest || mode == Round::away || (mode == Round::up) == (x > 0);
  return std::copysign(away_from_zero && mode != Round::zero ? INFINITY : largest_value, x);
}

// To a floating-point type, from a floating-point one or an integer.
template <class D, Round mode, class S>
static inline D to_real(S from) {
  constexpr bool nearest = mode == Round::nearest;
  if constexpr (std::is_same_v<D, f64>) return f64(wide(from));
  else if constexpr (std::is_same_v<D, f32>)
    return nearest ? f32(wide(from)) : f32(rounded<mode>(f64(wide(from)), 24, -149, 0x1.fffffep127));
  else if constexpr (nearest && (std::is_same_v<S, f32> || is_half<S>)) return D(wide(from));
  else if constexpr (nearest) return D(to_odd(f64(from)));
  else if constexpr (std::is_same_v<D, f16>)
    return f16(f32(rounded<mode>(f64(wide(from)), 11, -24, 65504)));
  else return bf16(f32(rounded<mode>(f64(wide(from)), 8, -133, 0x1.fep127)));
}
template <Round mode>
static inline f32 to_tf32(f32 x) { return f32(rounded<mode>(x, 11, -136, 0x1.ffcp127)); }

// A sum whose lost bits are remembered in the last one kept, so that any rounding of it is right.
static inline f64 odd_sum(f64 a, f64 b) {
  const f64 sum = a + b, part = sum - a, lost = (a - (sum - part)) + (b - part);
  const u64 word = as<u64>(sum);
  const bool exact = !std::isfinite(sum) || lost == 0 || (word & 1);
  return exact ? sum : as<f64>((lost > 0) == (sum > 0) ? word + 1 : word - 1);
}
template <Round mode>
static inline f32 directed(f64 x) {
  const f32 y = f32(x);
  const bool inwards = mode == Round::zero;
  if (f64(y) > x && (mode == Round::down || (inwards && x > 0))) return std::nextafterf(y, -INFINITY);
  if (f64(y) < x && (mode == Round::up || (inwards && x < 0))) return std::nextafterf(y, INFINITY);
  return y;
}
// f32 arithmetic that does not round to the nearest. The product of two f32 is exact in f64.
template <Round mode>
static inline f32 add_directed(f32 a, f32 b) { return directed<mode>(odd_sum(a, b)); }
template <Round mode>
static inline f32 sub_directed(f32 a, f32 b) { return directed<mode>(odd_sum(a, -f64(b))); }
template <Round mode>
static inline f32 mul_directed(f32 a, f32 b) { return directed<mode>(f64(a) * b); }
template <Round mode>
static inline f32 fma_of_directed(f32 a, f32 b, f32 c) { return directed<mode>(odd_sum(f64(a) * b, c)); }
