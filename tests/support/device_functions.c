// Functions for a device to run: one that scales, in four variants, and several that fail.
// Compiled by tests/support/device_library.py against tvm_ffi's public header.
#include <math.h>
#include <stdlib.h>
#include <tvm/ffi/c_api.h>

enum { RIGHT, WRONG, NOT_A_NUMBER, WRITES_INPUT };
#ifndef VARIANT
#define VARIANT RIGHT
#endif

#define FUNCTION(name) \
  int __tvm_ffi_##name(void *self, const TVMFFIAny *args, int32_t count, TVMFFIAny *result)

// A tensor is an object header followed by a DLTensor.
static float *data(TVMFFIAny argument) {
  DLTensor *tensor = (DLTensor *)((char *)argument.v_obj + sizeof(TVMFFIObject));
  return (float *)((char *)tensor->data + tensor->byte_offset);
}

static int64_t size(TVMFFIAny argument) {
  return ((DLTensor *)((char *)argument.v_obj + sizeof(TVMFFIObject)))->shape[0];
}

// x (n,) f32, y (n,) f32, k: y = k x
FUNCTION(scale) {
  float *x = data(args[0]), *y = data(args[1]);
  for (int64_t i = 0; i < size(args[0]); ++i) y[i] = x[i] * (float)args[2].v_int64;
  if (VARIANT == WRONG) y[0] += 1;
  if (VARIANT == NOT_A_NUMBER) y[0] = NAN;
  if (VARIANT == WRITES_INPUT) x[0] += 1;
  return 0;
}

// x (n,) f32: counts its calls in x[0]
FUNCTION(count) {
  data(args[0])[0] += 1;
  return 0;
}

FUNCTION(refuse) {
  TVMFFIErrorSetRaisedFromCStr("ValueError", "x must be longer\nand more");
  return -1;
}

FUNCTION(touch_null) {
  *(volatile int *)0 = 1;
  return 0;
}

FUNCTION(loop) {
  for (;;) __asm__ volatile("");
}

FUNCTION(illegal) {
#if defined(__x86_64__)
  __asm__ volatile("ud2");
#else
  __asm__ volatile(".inst 0x00000000");  // UDF
#endif
  return 0;
}

FUNCTION(leave) { exit(3); }
