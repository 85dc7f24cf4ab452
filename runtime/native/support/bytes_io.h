// Streams over memory, as TVM's runtime sources ask for them ("../support/bytes_io.h" is not in the
// wheel). Written for handglass.
#ifndef HANDGLASS_SUPPORT_BYTES_IO_H_
#define HANDGLASS_SUPPORT_BYTES_IO_H_

#include <tvm/ffi/string.h>
#include <tvm/support/io.h>
#include <tvm/support/serializer.h>

#include <algorithm>
#include <cstring>
#include <string>

namespace tvm {
namespace support {

/* Reads bytes owned by the caller. */
class BytesInStream : public Stream {
 public:
  using Stream::Read;
  using Stream::Write;

  explicit BytesInStream(const ffi::Bytes& bytes) : BytesInStream(bytes.data(), bytes.size()) {}
  explicit BytesInStream(const std::string& bytes) : BytesInStream(bytes.data(), bytes.size()) {}
  BytesInStream(const char* data, size_t size) : data_(data), left_(size) {}

  size_t Read(void* data, size_t size) override {
    size_t count = std::min(size, left_);
    if (count != 0) std::memcpy(data, data_, count);
    data_ += count;
    left_ -= count;
    return count;
  }
  size_t Write(const void*, size_t) override { return 0; }

 private:
  const char* data_;
  size_t left_;
};

/* Appends to a string owned by the caller. */
class BytesOutStream : public Stream {
 public:
  using Stream::Read;
  using Stream::Write;

  explicit BytesOutStream(std::string* bytes) : bytes_(bytes) {}

  size_t Read(void*, size_t) override { return 0; }
  size_t Write(const void* data, size_t size) override {
    bytes_->append(static_cast<const char*>(data), size);
    return size;
  }

 private:
  std::string* bytes_;
};

}  // namespace support
}  // namespace tvm
#endif  // HANDGLASS_SUPPORT_BYTES_IO_H_
