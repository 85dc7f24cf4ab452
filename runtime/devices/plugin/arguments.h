// The types of a kernel's arguments in a module, and the values of a call.
#pragma once

#include <dlpack/dlpack.h>
#include <tvm/ffi/c_api.h>

#include <cstring>

#include "bytes.h"

namespace handglass {

inline DLDataType ReadType(Bytes* bytes) {
  DLDataType type;
  type.code = bytes->Take<uint8_t>();
  type.bits = bytes->Take<uint8_t>();
  type.lanes = bytes->Take<uint16_t>();
  return type;
}

/* A scalar, converted to the declared type, in the low bytes of 8. */
inline void PutScalar(const TVMFFIAny& value, DLDataType type, char* out) {
  std::memset(out, 0, 8);
  if (type.code == kDLFloat) {
    const double number = value.type_index == kTVMFFIFloat ? value.v_float64
                                                           : static_cast<double>(value.v_int64);
    const auto single = static_cast<float>(number);
    if (type.bits == 32) std::memcpy(out, &single, 4);
    if (type.bits == 64) std::memcpy(out, &number, 8);
  } else {
    std::memcpy(out, &value.v_int64, type.bits == 64 ? 8 : 4);
  }
}

}  // namespace handglass
