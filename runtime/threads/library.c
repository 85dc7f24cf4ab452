/* What a compiled library exports of its thread pool, as functions of tvm_ffi's calling convention:
 *
 *   handglass_pool_start(pthread_create, pthread_detach, clock_gettime, syscall) -> int
 *                                    starts this library's pool with the addresses of functions of
 *                                    the C library; returns that of HandglassParallelLaunch
 *   handglass_pool_use(launch)       the parallel loops of this library run in the pool at `launch`
 *   handglass_pool_threads(count)    sets the threads of this library's pool
 *   handglass_pool_forget()          to be called in the child of a fork
 *
 * A process uses the pool of the first library for all others (runtime/execution/thread_pool.py).
 */

#include "pool.h"

#ifdef __cplusplus /* g++ compiles a .c file as C++ */
#define EXTERN extern "C"
#else
#define EXTERN extern
#endif
#define FUNCTION EXTERN __attribute__((visibility("default"))) int

struct Any { /* TVMFFIAny with an integer */
  int type_index;
  unsigned int zero_padding;
  long long value;
};
enum { INTEGER = 1 };

/* Where the code of this library looks its launcher up; absent if it has no parallel loop. */
EXTERN __attribute__((weak)) void* __TVMBackendParallelLaunch;

FUNCTION __tvm_ffi_handglass_pool_start(void* self, const struct Any* arguments, int count,
                                        struct Any* result) {
  (void)self;
  union {
    struct System functions;
    long long addresses[4];
  } system;
  if (count != 4) return -1;
  for (int i = 0; i < 4; ++i) system.addresses[i] = arguments[i].value;
  HandglassStartPool(&system.functions);
  result->type_index = INTEGER;
  result->value = (long long)HandglassParallelLaunch;
  return 0;
}

FUNCTION __tvm_ffi_handglass_pool_use(void* self, const struct Any* arguments, int count,
                                      struct Any* result) {
  (void)self, (void)result;
  if (count == 1 && &__TVMBackendParallelLaunch) {
    __TVMBackendParallelLaunch = (void*)arguments[0].value;
  }
  return 0;
}

FUNCTION __tvm_ffi_handglass_pool_threads(void* self, const struct Any* arguments, int count,
                                          struct Any* result) {
  (void)self, (void)result;
  if (count == 1) HandglassSetThreads((int)arguments[0].value);
  return 0;
}

FUNCTION __tvm_ffi_handglass_pool_forget(void* self, const struct Any* arguments, int count,
                                         struct Any* result) {
  (void)self, (void)arguments, (void)count, (void)result;
  HandglassForgetThreads();
  return 0;
}
