"""What TVM's sources include of libcu++ (NVIDIA's C++ library, 20 MB), in a few declarations.

NVRTC gets them by name with every program; it has no C++ library of its own.
"""

INTEGERS = """#pragma once
typedef signed char int8_t;
typedef unsigned char uint8_t;
typedef short int16_t;
typedef unsigned short uint16_t;
typedef int int32_t;
typedef unsigned int uint32_t;
typedef long long int64_t;
typedef unsigned long long uint64_t;
typedef unsigned long uintptr_t;
namespace cuda { namespace std {
using ::int8_t; using ::int16_t; using ::int32_t; using ::int64_t;
using ::uint8_t; using ::uint16_t; using ::uint32_t; using ::uint64_t;
} }
"""

TRAITS = """#pragma once
namespace cuda { namespace std {
template <bool holds, class T = void> struct enable_if {};
template <class T> struct enable_if<true, T> { typedef T type; };
template <bool holds, class T, class F> struct conditional { typedef T type; };
template <class T, class F> struct conditional<false, T, F> { typedef F type; };
template <class A, class B> inline constexpr bool is_same_v = false;
template <class A> inline constexpr bool is_same_v<A, A> = true;
template <class A, class B> struct is_same { static constexpr bool value = is_same_v<A, B>; };
template <class T> struct is_floating_point {
  static constexpr bool value = is_same_v<T, float> || is_same_v<T, double>;
};
template <class T> struct is_integral {
  static constexpr bool value = !is_floating_point<T>::value;
};
template <class T> struct is_signed { static constexpr bool value = T(-1) < T(0); };
template <class T> struct is_unsigned { static constexpr bool value = !is_signed<T>::value; };
} }
"""

HEADERS = {
    "cuda/std/cstdint": INTEGERS,
    "cuda/std/type_traits": TRAITS,
    "cuda/std/limits": "#pragma once\n",
    "cuda.h": "#pragma once\n",  # the driver's interface, which device code does not call
}
"""Header -> its content."""
