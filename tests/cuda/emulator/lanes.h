// Types of registers and loops over the lanes of a warp.
#pragma once
#include <cstdint>
#include <cstring>
#include <type_traits>

using u8 = uint8_t;
using u16 = uint16_t;
using u32 = uint32_t;
using u64 = uint64_t;
using s8 = int8_t;
using s16 = int16_t;
using s32 = int32_t;
using s64 = int64_t;
using f16 = _Float16;
using f32 = float;
using f64 = double;

// Registers are arrays of 32 lanes; g++ makes vector instructions of these loops.
#define LANES(l) for (int l = 0; l < 32; l++)
// Where no lane reads what another one writes.
#define EACH_LANE(l) _Pragma("GCC ivdep") LANES (l)

template <class To, class From>
static inline To as(From from) {
  static_assert(sizeof(To) == sizeof(From));
  return __builtin_bit_cast(To, from);
}

// A register's content without its type.
static inline u8 bits(u8 v) { return v; }
static inline u16 bits(u16 v) { return v; }
static inline u32 bits(u32 v) { return v; }
static inline u64 bits(u64 v) { return v; }
static inline u8 bits(s8 v) { return u8(v); }
static inline u16 bits(s16 v) { return u16(v); }
static inline u32 bits(s32 v) { return u32(v); }
static inline u64 bits(s64 v) { return u64(v); }
static inline u16 bits(f16 v) { return as<u16>(v); }
static inline u32 bits(f32 v) { return as<u32>(v); }
static inline u64 bits(f64 v) { return as<u64>(v); }

// The upper half of a float, rounded to the nearest, ties to even. PTX has one NaN: 0x7fff.
struct bf16 {
  u16 word;
  bf16() = default;
  explicit bf16(f32 x) {
    const u32 b = as<u32>(x);
    word = x != x ? 0x7fff : u16((b + 0x7fff + (b >> 16 & 1)) >> 16);
  }
  operator f32() const { return as<f32>(u32(word) << 16); }
};
static inline u16 bits(bf16 v) { return v.word; }

template <class T>
struct Pair {
  T low, high;
};
using f16x2 = Pair<f16>;
using bf16x2 = Pair<bf16>;
template <class T>
static inline u32 bits(Pair<T> v) {
  return as<u32>(v);
}

template <class T>
constexpr bool is_half = std::is_same_v<T, f16> || std::is_same_v<T, bf16>;
template <class T>
concept Half = is_half<T>;
template <class T>
concept Real = std::is_same_v<T, f32> || std::is_same_v<T, f64>;
template <class T>
concept Integer = std::is_integral_v<T>;

// What a half is computed in; a single f32 operation on halves, rounded again, is exact.
template <class T>
struct WideOf {
  using type = T;
};
template <>
struct WideOf<f16> {
  using type = f32;
};
template <>
struct WideOf<bf16> {
  using type = f32;
};
template <class T>
using Wide = typename WideOf<T>::type;

template <class T>
static inline Wide<T> wide(T v) {
  return Wide<T>(v);
}
