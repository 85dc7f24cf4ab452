// Bit operations of one lane, and the dot products of bytes.
#pragma once
#include "arithmetic.h"

// Shifts clamp their distance instead of wrapping it.
template <Integer T>
static inline T shift_left(T a, u32 n) {
  return n >= 8 * sizeof(T) ? T(0) : T(Unsigned<T>(a) << n);
}
template <Integer T>
static inline T shift_right(T a, u32 n) {
  const u32 most = 8 * sizeof(T) - 1;
  return n <= most ? T(a >> n) : std::is_signed_v<T> ? T(a >> most) : T(0);
}
static inline u32 funnel_left(u32 low, u32 high, u32 n) {
  return u32(((u64(high) << 32 | low) << n) >> 32);
}
static inline u32 funnel_right(u32 low, u32 high, u32 n) {
  return u32((u64(high) << 32 | low) >> n);
}

// Bit 4a + 2b + c of the table is the result for the bits a, b and c.
template <u32 table>
static inline u32 lop3(u32 a, u32 b, u32 c) {
  u32 found = 0;
  for (u32 row = 0; row < 8; row++)
    if (table >> row & 1) found |= (row & 4 ? a : ~a) & (row & 2 ? b : ~b) & (row & 1 ? c : ~c);
  return found;
}

static inline u32 permute(u32 a, u32 b, u32 selector) {
  const u64 both = u64(b) << 32 | a;
  u32 found = 0;
  for (u32 i = 0; i < 4; i++) {
    const u32 nibble = selector >> 4 * i & 15;
    const u32 byte = u8(both >> 8 * (nibble & 7));
    found |= (nibble & 8 ? (byte & 0x80 ? 0xffu : 0u) : byte) << 8 * i;
  }
  return found;
}

// Bits beyond the register are copies of the field's (or the register's) highest bit if signed.
template <Integer T>
static inline T extract(T a, u32 start, u32 length) {
  const u32 most = 8 * sizeof(T) - 1, at = start & 255, n = length & 255;
  if (n == 0) return 0;
  const u32 top = at + n - 1 < most ? at + n - 1 : most;
  const bool sign = std::is_signed_v<T> && (Unsigned<T>(a) >> top & 1);
  const T field = at > most ? T(0) : T(Unsigned<T>(a) >> at);
  const u32 held = at > most ? 0 : top - at + 1;
  const Unsigned<T> beyond = held > most ? 0 : ~Unsigned<T>(0) << held;
  return T((Unsigned<T>(field) & ~beyond) | (sign ? beyond : 0));
}
template <Integer T>
static inline T insert(T field, T into, u32 start, u32 length) {
  const u32 most = 8 * sizeof(T) - 1, at = start & 255, n = length & 255;
  if (n == 0 || at > most) return into;
  const T mask = T((n > most ? ~T(0) : (T(1) << n) - 1) << at);
  return T((into & ~mask) | (T(field << at) & mask));
}

static inline u32 ones(u32 a) { return u32(__builtin_popcount(a)); }
static inline u32 ones(u64 a) { return u32(__builtin_popcountll(a)); }
static inline u32 leading_zeros(u32 a) { return a ? u32(__builtin_clz(a)) : 32; }
static inline u32 leading_zeros(u64 a) { return a ? u32(__builtin_clzll(a)) : 64; }
template <Integer T>
static inline T reverse(T a) {
  T found = 0;
  for (u32 i = 0; i < 8 * sizeof(T); i++) found |= T((a >> i & 1) << (8 * sizeof(T) - 1 - i));
  return found;
}
// The position of the highest bit that is not the sign, ~0 if none.
template <Integer T>
static inline u32 find_bit(T a) {
  using U = std::conditional_t<sizeof(T) == 8, u64, u32>;
  const U v = a < 0 ? U(~a) : U(a);
  return v ? 8 * sizeof(T) - 1 - leading_zeros(v) : ~0u;
}

template <class A, class B>
static inline u32 dot4(u32 a, u32 b, u32 c) {
  for (u32 i = 0; i < 4; i++) c += u32(s32(A(a >> 8 * i)) * s32(B(b >> 8 * i)));
  return c;
}
// Two 16-bit elements of `a` with the lower or the higher two bytes of `b`.
template <class A, class B>
static inline u32 dot2(u32 a, u32 b, u32 c, u32 first_byte) {
  for (u32 i = 0; i < 2; i++) c += u32(s32(A(a >> 16 * i)) * s32(B(b >> 8 * (first_byte + i))));
  return c;
}
