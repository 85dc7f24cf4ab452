// SHA-256 (FIPS 180-4) and HMAC with it (RFC 2104), and the hexadecimal text of both.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace handglass {

class Sha256 {
 public:
  using Digest = std::array<uint8_t, 32>;

  void Update(const void* data, size_t size);
  void Update(std::string_view text) { Update(text.data(), text.size()); }
  Digest Finish();

 private:
  std::array<uint32_t, 8> state_ = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                                    0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
  std::array<uint8_t, 64> block_;
  size_t held_ = 0;  // bytes in the block
  uint64_t size_ = 0;
};

std::string Hex(const uint8_t* data, size_t size);

std::string Sha256Hex(const void* data, size_t size);

std::string HmacHex(std::string_view key, std::string_view message);

/* Compares in constant time, so that timing does not reveal the first difference. */
bool EqualInConstantTime(std::string_view a, std::string_view b);

/* 64 lower-case hexadecimal digits, the format of hashes, nonces and proofs. */
bool IsHash(std::string_view text);

/* 64 random hexadecimal digits, from the kernel. */
std::string FreshNonce();

}  // namespace handglass
