// Base64 (RFC 4648) over another stream: `tensor.cc` keeps tensors in JSON so. The header is not in
// the wheel. Nothing of ours calls it, but it does what it says.
#ifndef HANDGLASS_SUPPORT_BASE64_H_
#define HANDGLASS_SUPPORT_BASE64_H_

#include <tvm/support/io.h>
#include <tvm/support/serializer.h>

#include <cstring>

namespace tvm {
namespace support {

constexpr char kBase64Digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/* Bytes written here reach `target` as text; `Finish` writes the last group. */
class Base64OutStream : public Stream {
 public:
  using Stream::Read;
  using Stream::Write;

  explicit Base64OutStream(Stream* target) : target_(target) {}

  size_t Read(void*, size_t) override { return 0; }
  size_t Write(const void* data, size_t size) override {
    const auto* bytes = static_cast<const unsigned char*>(data);
    for (size_t i = 0; i < size; ++i) {
      group_ = group_ << 8 | bytes[i];
      if (++held_ == 3) Flush();
    }
    return size;
  }
  void Finish() {
    if (held_ != 0) Flush();
  }

 private:
  void Flush() {
    uint32_t bits = group_ << 8 * (3 - held_);
    char text[4] = {'=', '=', '=', '='};
    for (int i = 0; i <= held_; ++i) text[i] = kBase64Digits[bits >> (18 - 6 * i) & 63];
    target_->Write(text, sizeof(text));
    group_ = 0;
    held_ = 0;
  }

  Stream* target_;
  uint32_t group_ = 0;
  int held_ = 0;  // bytes in the group
};

/* Bytes read from here were text in `source`; ends at padding or at the first other character. */
class Base64InStream : public Stream {
 public:
  using Stream::Read;
  using Stream::Write;

  explicit Base64InStream(Stream* source) : source_(source) {}

  void InitPosition() {}
  size_t Write(const void*, size_t) override { return 0; }
  size_t Read(void* data, size_t size) override {
    auto* bytes = static_cast<unsigned char*>(data);
    size_t count = 0;
    while (count < size && Fill()) {
      bits_ -= 8;
      bytes[count++] = group_ >> bits_ & 255;
    }
    return count;
  }

 private:
  /* Digits until there are eight bits. */
  bool Fill() {
    while (bits_ < 8) {
      char digit = 0;
      if (source_->Read(static_cast<void*>(&digit), 1) != 1 || digit == 0) return false;
      const char* found = std::strchr(kBase64Digits, digit);
      if (found == nullptr) return false;
      group_ = group_ << 6 | static_cast<uint32_t>(found - kBase64Digits);
      bits_ += 6;
    }
    return true;
  }

  Stream* source_;
  uint32_t group_ = 0;
  int bits_ = 0;
};

}  // namespace support
}  // namespace tvm
#endif  // HANDGLASS_SUPPORT_BASE64_H_
