// How values lie in a stream: numbers as they are in memory, everything that has a length after its
// length in 64 bits. `tvm/support/serializer.h` is not in the wheel; this is what compiled bytecode
// needs of it, written for handglass.
#ifndef HANDGLASS_SUPPORT_SERIALIZER_H_
#define HANDGLASS_SUPPORT_SERIALIZER_H_

#include <tvm/ffi/c_api.h>
#include <tvm/ffi/container/array.h>
#include <tvm/ffi/string.h>
#include <tvm/support/io.h>

#include <algorithm>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

namespace tvm {
namespace support {

/* No stored length is believed beyond this many elements at once: a container grows as its elements
 * arrive, so that a damaged length ends at the end of the stream and not in 2^64 bytes of memory.
 */
constexpr uint64_t kReadAtOnce = 1 << 16;

template <typename T>
struct Serializer {
  static_assert(std::is_arithmetic_v<T> || std::is_enum_v<T>, "no rule to store this type");
  static constexpr bool enabled = true;

  static void Write(Stream* stream, const T& value) { stream->Write(&value, sizeof(T)); }
  static bool Read(Stream* stream, T* value) {
    return stream->Read(static_cast<void*>(value), sizeof(T)) == sizeof(T);
  }
};

template <>
struct Serializer<DLDataType> {
  static constexpr bool enabled = true;

  static void Write(Stream* stream, const DLDataType& type) {
    stream->Write(type.code);
    stream->Write(type.bits);
    stream->Write(type.lanes);
  }
  static bool Read(Stream* stream, DLDataType* type) {
    return stream->Read(&type->code) && stream->Read(&type->bits) && stream->Read(&type->lanes);
  }
};

template <>
struct Serializer<DLDevice> {
  static constexpr bool enabled = true;

  static void Write(Stream* stream, const DLDevice& device) {
    stream->Write(static_cast<int32_t>(device.device_type));
    stream->Write(device.device_id);
  }
  static bool Read(Stream* stream, DLDevice* device) {
    int32_t type = 0;
    if (!stream->Read(&type) || !stream->Read(&device->device_id)) return false;
    device->device_type = static_cast<DLDeviceType>(type);
    return true;
  }
};

template <typename T>
struct Serializer<std::vector<T>> {
  static constexpr bool enabled = true;

  static void Write(Stream* stream, const std::vector<T>& values) {
    stream->Write(static_cast<uint64_t>(values.size()));
    stream->WriteArray(values.data(), values.size());
  }
  static bool Read(Stream* stream, std::vector<T>* values) {
    uint64_t count = 0;
    if (!stream->Read(&count)) return false;
    values->clear();
    while (values->size() < count) {
      size_t known = values->size();
      values->resize(known + std::min<uint64_t>(count - known, kReadAtOnce));
      if (!stream->ReadArray(values->data() + known, values->size() - known)) return false;
    }
    return true;
  }
};

template <>
struct Serializer<std::string> {
  static constexpr bool enabled = true;

  static void Write(Stream* stream, const std::string& text) {
    stream->Write(static_cast<uint64_t>(text.size()));
    stream->Write(text.data(), text.size());
  }
  static bool Read(Stream* stream, std::string* text) {
    uint64_t size = 0;
    if (!stream->Read(&size)) return false;
    text->clear();
    while (text->size() < size) {
      size_t known = text->size();
      size_t step = std::min<uint64_t>(size - known, kReadAtOnce);
      text->resize(known + step);
      if (stream->Read(text->data() + known, step) != step) return false;
    }
    return true;
  }
};

template <>
struct Serializer<ffi::String> {
  static constexpr bool enabled = true;

  static void Write(Stream* stream, const ffi::String& text) {
    stream->Write(std::string(text.data(), text.size()));
  }
  static bool Read(Stream* stream, ffi::String* text) {
    std::string read;
    if (!stream->Read(&read)) return false;
    *text = ffi::String(std::move(read));
    return true;
  }
};

template <typename T>
struct Serializer<ffi::Array<T>> {
  static constexpr bool enabled = true;

  static void Write(Stream* stream, const ffi::Array<T>& values) {
    stream->Write(static_cast<uint64_t>(values.size()));
    for (const T& value : values) stream->Write(value);
  }
  static bool Read(Stream* stream, ffi::Array<T>* values) {
    uint64_t count = 0;
    if (!stream->Read(&count)) return false;
    *values = ffi::Array<T>();
    for (uint64_t i = 0; i < count; ++i) {
      T value{};
      if (!stream->Read(&value)) return false;
      values->push_back(value);
    }
    return true;
  }
};

}  // namespace support
}  // namespace tvm
#endif  // HANDGLASS_SUPPORT_SERIALIZER_H_
