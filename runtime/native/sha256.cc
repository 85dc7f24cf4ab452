#include "sha256.h"

#include <sys/random.h>

#include <algorithm>
#include <bit>
#include <cstring>

#include "errors.h"
#include "sha256_rounds.h"

namespace handglass {
namespace {

constexpr size_t kBlock = 64;

uint32_t BigEndian(const uint8_t* bytes) {
  return uint32_t{bytes[0]} << 24 | bytes[1] << 16 | bytes[2] << 8 | bytes[3];
}

/* FIPS 180-4, section 6.2.2, for each block. */
void CompressPlainly(uint32_t* state, const uint8_t* blocks, size_t count) {
  for (; count > 0; --count, blocks += kBlock) {
    uint32_t w[64];
    for (int t = 0; t < 16; ++t) w[t] = BigEndian(blocks + 4 * t);
    for (int t = 16; t < 64; ++t) {
      uint32_t early = w[t - 15], late = w[t - 2];
      w[t] = w[t - 16] + (std::rotr(early, 7) ^ std::rotr(early, 18) ^ early >> 3) + w[t - 7] +
             (std::rotr(late, 17) ^ std::rotr(late, 19) ^ late >> 10);
    }
    uint32_t a = state[0], b = state[1], c = state[2], d = state[3];
    uint32_t e = state[4], f = state[5], g = state[6], h = state[7];
    for (int t = 0; t < 64; ++t) {
      uint32_t sum = std::rotr(e, 6) ^ std::rotr(e, 11) ^ std::rotr(e, 25);
      uint32_t first = h + sum + ((e & f) ^ (~e & g)) + kSha256Rounds[t] + w[t];
      uint32_t second =
          (std::rotr(a, 2) ^ std::rotr(a, 13) ^ std::rotr(a, 22)) + ((a & b) ^ (a & c) ^ (b & c));
      h = g, g = f, f = e, e = d + first, d = c, c = b, b = a, a = first + second;
    }
    state[0] += a, state[1] += b, state[2] += c, state[3] += d;
    state[4] += e, state[5] += f, state[6] += g, state[7] += h;
  }
}

void Compress(uint32_t* state, const uint8_t* blocks, size_t count) {
  static const auto compress = HasSha256Instructions() ? CompressByInstructions : CompressPlainly;
  compress(state, blocks, count);
}

}  // namespace

void Sha256::Update(const void* data, size_t size) {
  const auto* bytes = static_cast<const uint8_t*>(data);
  size_ += size;
  if (held_ > 0) {
    size_t count = std::min(size, kBlock - held_);
    std::memcpy(block_.data() + held_, bytes, count);
    held_ += count, bytes += count, size -= count;
    if (held_ < kBlock) return;
    Compress(state_.data(), block_.data(), 1);
  }
  Compress(state_.data(), bytes, size / kBlock);
  held_ = size % kBlock;
  if (held_ > 0) std::memcpy(block_.data(), bytes + size - held_, held_);
}

Sha256::Digest Sha256::Finish() {
  uint64_t bits = size_ * 8;
  uint8_t tail[kBlock + 8] = {0x80};
  size_t zeros = (kBlock + 55 - held_) % kBlock;
  for (int i = 0; i < 8; ++i) tail[1 + zeros + i] = bits >> (56 - 8 * i);
  Update(tail, 1 + zeros + 8);
  Digest digest;
  for (size_t i = 0; i < digest.size(); ++i) digest[i] = state_[i / 4] >> (24 - i % 4 * 8);
  return digest;
}

std::string Hex(const uint8_t* data, size_t size) {
  std::string text;
  for (size_t i = 0; i < size; ++i) {
    text += "0123456789abcdef"[data[i] >> 4];
    text += "0123456789abcdef"[data[i] & 15];
  }
  return text;
}

std::string Sha256Hex(const void* data, size_t size) {
  Sha256 hash;
  hash.Update(data, size);
  Sha256::Digest digest = hash.Finish();
  return Hex(digest.data(), digest.size());
}

std::string HmacHex(std::string_view key, std::string_view message) {
  uint8_t inner[kBlock] = {}, outer[kBlock];
  if (key.size() > kBlock) {
    Sha256 hash;
    hash.Update(key);
    Sha256::Digest digest = hash.Finish();
    std::copy(digest.begin(), digest.end(), inner);
  } else {
    std::copy(key.begin(), key.end(), inner);
  }
  for (size_t i = 0; i < kBlock; ++i) {
    outer[i] = inner[i] ^ 0x5c;
    inner[i] ^= 0x36;
  }
  Sha256 first, second;
  first.Update(inner, kBlock);
  first.Update(message);
  Sha256::Digest digest = first.Finish();
  second.Update(outer, kBlock);
  second.Update(digest.data(), digest.size());
  digest = second.Finish();
  return Hex(digest.data(), digest.size());
}

bool EqualInConstantTime(std::string_view a, std::string_view b) {
  if (a.size() != b.size()) return false;
  volatile uint8_t difference = 0;
  for (size_t i = 0; i < a.size(); ++i) difference = difference | (a[i] ^ b[i]);
  return difference == 0;
}

bool IsHash(std::string_view text) {
  auto is_digit = [](char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'); };
  return text.size() == 64 && std::all_of(text.begin(), text.end(), is_digit);
}

std::string FreshNonce() {
  uint8_t bytes[32];
  if (getrandom(bytes, sizeof(bytes), 0) != sizeof(bytes)) {
    throw DeviceError("cannot get random numbers for a handshake from the kernel");
  }
  return Hex(bytes, sizeof(bytes));
}

}  // namespace handglass
