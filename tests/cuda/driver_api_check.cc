// Compares driver_api.h with NVIDIA's cuda.h: it compiles only if they agree.
#include <cuda.h>

#include "driver_api.h"

#include <cstddef>
#include <type_traits>

namespace ours = handglass::cuda;

// Enumerations of the two headers are different types: their numbers are compared below.
template <typename Type, bool = std::is_enum<Type>::value>
struct PlainOf {
  using type = Type;
};
template <typename Type>
struct PlainOf<Type, true> {
  using type = unsigned int;
};
template <typename Type>
struct PlainOf<Type*, false> {
  using type = typename PlainOf<Type>::type*;
};
template <typename Type>
struct PlainOf<const Type, false> {
  using type = const typename PlainOf<Type>::type;
};
template <>
struct PlainOf<CUuuid, false> {
  using type = ours::CUuuid;
};
template <>
struct PlainOf<CUDA_KERNEL_NODE_PARAMS, false> {
  using type = ours::CUDA_KERNEL_NODE_PARAMS;
};
template <typename Result, typename... Parameters>
struct PlainOf<Result(Parameters...), false> {
  using type = typename PlainOf<Result>::type(typename PlainOf<Parameters>::type...);
};

template <typename Type>
using Plain = typename PlainOf<std::remove_pointer_t<Type>>::type;

static_assert(sizeof(ours::CUuuid) == sizeof(CUuuid), "CUuuid");
static_assert(sizeof(ours::CUDA_KERNEL_NODE_PARAMS) == sizeof(CUDA_KERNEL_NODE_PARAMS),
              "CUDA_KERNEL_NODE_PARAMS");
#define CHECK_FIELD(name)                                                                     \
  static_assert(offsetof(ours::CUDA_KERNEL_NODE_PARAMS, name) ==                              \
                        offsetof(CUDA_KERNEL_NODE_PARAMS, name) &&                            \
                    std::is_same<decltype(ours::CUDA_KERNEL_NODE_PARAMS::name),               \
                                 decltype(CUDA_KERNEL_NODE_PARAMS::name)>::value,             \
                #name);
CHECK_FIELD(func)
CHECK_FIELD(gridDimX)
CHECK_FIELD(gridDimY)
CHECK_FIELD(gridDimZ)
CHECK_FIELD(blockDimX)
CHECK_FIELD(blockDimY)
CHECK_FIELD(blockDimZ)
CHECK_FIELD(sharedMemBytes)
CHECK_FIELD(kernelParams)
CHECK_FIELD(extra)
CHECK_FIELD(kern)
CHECK_FIELD(ctx)

#define CHECK_FUNCTION(name, parameters)                                                       \
  static_assert(std::is_same<Plain<decltype(ours::Functions::name)>, Plain<decltype(&::name)>>:: \
                    value,                                                                     \
                #name);
HANDGLASS_CUDA_FUNCTIONS(CHECK_FUNCTION)

#define CHECK_VALUE(name) \
  static_assert(static_cast<long>(ours::name) == static_cast<long>(::name), #name);
