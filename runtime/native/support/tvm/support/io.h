// Bytes in and out, as TVM's runtime sources ask for them: `tvm/support/io.h` is not in the wheel.
// Written for handglass from how those sources use it.
#ifndef HANDGLASS_SUPPORT_IO_H_
#define HANDGLASS_SUPPORT_IO_H_

#include <cstddef>
#include <cstdint>

// What is stored is little endian, and so is every machine that we build for.
static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__);
#define TVM_FFI_IO_NO_ENDIAN_SWAP 1

namespace tvm {
namespace support {

template <typename T>
struct Serializer;

/* A source or a sink of bytes. Typed values go through `Serializer`. */
class Stream {
 public:
  virtual ~Stream() = default;

  /* At most `size` bytes into `data`; how many there were. */
  virtual size_t Read(void* data, size_t size) = 0;

  /* All of `size` bytes; how many were taken. */
  virtual size_t Write(const void* data, size_t size) = 0;

  template <typename T>
  void Write(const T& value) {
    Serializer<T>::Write(this, value);
  }

  /* False at the end of the bytes; `value` may then hold anything. */
  template <typename T>
  bool Read(T* value) {
    return Serializer<T>::Read(this, value);
  }

  template <typename T>
  void WriteArray(const T* values, size_t count) {
    for (size_t i = 0; i < count; ++i) Write(values[i]);
  }

  template <typename T>
  bool ReadArray(T* values, size_t count) {
    for (size_t i = 0; i < count; ++i) {
      if (!Read(values + i)) return false;
    }
    return true;
  }
};

}  // namespace support
}  // namespace tvm
#endif  // HANDGLASS_SUPPORT_IO_H_
