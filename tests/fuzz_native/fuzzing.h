// What the fuzz targets share: inputs as text, and calls that may only fail with known errors.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "errors.h"
#include "json.h"

namespace handglass {

inline std::string_view Input(const uint8_t* data, size_t size) {
  return {reinterpret_cast<const char*>(data), size};
}

/* Calls `work`. Any exception but an Error or a JsonError escapes, and libFuzzer reports it. */
template <typename Work>
void Try(Work&& work) {
  try {
    work();
  } catch (const Error&) {
  } catch (const JsonError&) {
  }
}

}  // namespace handglass
