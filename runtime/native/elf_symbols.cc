// The functions that a compiled library may call: TVM's C API, and those of the C library that code
// generation emits calls to. A library that needs any other name is not loaded.

#include <tvm/ffi/c_api.h>
#include <tvm/ffi/extra/c_env_api.h>
#include <tvm/runtime/c_backend_api.h>

#include <cmath>
#include <cstdlib>
#include <cstring>
#include <string_view>
#include <unordered_map>

#include "elf_library.h"

namespace handglass {
namespace {

template <typename Result, typename... Arguments>
void* Address(Result (*function)(Arguments...)) {
  return reinterpret_cast<void*>(function);
}

// The double and the float version (with the suffix f) of a function of the C library.
#define UNARY(name) \
  {#name, Address<double, double>(::name)}, { #name "f", Address<float, float>(::name##f) }
#define BINARY(name)                                   \
  {#name, Address<double, double, double>(::name)}, {  \
    #name "f", Address<float, float, float>(::name##f) \
  }
#define OURS(name) {#name, Address(::name)}

const std::unordered_map<std::string_view, void*>& Table() {
  static const std::unordered_map<std::string_view, void*> table = {
      OURS(TVMBackendAllocWorkspace),
      OURS(TVMBackendFreeWorkspace),
      OURS(TVMBackendParallelBarrier),
      OURS(TVMBackendParallelLaunch),
      OURS(TVMFFIAnyViewToOwnedAny),
      OURS(TVMFFIEnvModLookupFromImports),
      OURS(TVMFFIErrorMoveFromRaised),
      OURS(TVMFFIErrorSetRaised),
      OURS(TVMFFIErrorSetRaisedFromCStr),
      OURS(TVMFFIErrorSetRaisedFromCStrParts),
      OURS(TVMFFIFunctionCall),
      OURS(TVMFFIFunctionGetGlobal),
      OURS(TVMFFIHandleInitOnce),
      OURS(TVMFFIObjectDecRef),
      OURS(TVMFFIObjectIncRef),
      {"abort", Address(::abort)},
      {"memcmp", Address(::memcmp)},
      {"memcpy", Address(::memcpy)},
      {"memmove", Address(::memmove)},
      {"memset", Address(::memset)},
      UNARY(acos),
      UNARY(acosh),
      UNARY(asin),
      UNARY(asinh),
      UNARY(atan),
      UNARY(atanh),
      UNARY(cbrt),
      UNARY(ceil),
      UNARY(cos),
      UNARY(cosh),
      UNARY(erf),
      UNARY(exp),
      UNARY(exp10),
      UNARY(exp2),
      UNARY(expm1),
      UNARY(fabs),
      UNARY(floor),
      UNARY(log),
      UNARY(log10),
      UNARY(log1p),
      UNARY(log2),
      UNARY(nearbyint),
      UNARY(rint),
      UNARY(round),
      UNARY(sin),
      UNARY(sinh),
      UNARY(sqrt),
      UNARY(tan),
      UNARY(tanh),
      UNARY(trunc),
      BINARY(atan2),
      BINARY(copysign),
      BINARY(fmax),
      BINARY(fmin),
      BINARY(fmod),
      BINARY(hypot),
      BINARY(nextafter),
      BINARY(pow),
      {"fma", Address<double, double, double, double>(::fma)},
      {"fmaf", Address<float, float, float, float>(::fmaf)},
  };
  return table;
}

}  // namespace

void* LentSymbol(std::string_view name) {
  auto found = Table().find(name);
  return found == Table().end() ? nullptr : found->second;
}

}  // namespace handglass
