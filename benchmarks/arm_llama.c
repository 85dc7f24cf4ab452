/* llama.cpp's kernels with our calling convention: (weights, activations, k, y (m, n)). */
#include <stddef.h>
#include <stdint.h>

typedef struct { int32_t type; uint32_t zero; union { int64_t number; void *pointer; } v; } Any;
typedef struct {
    void *data; int32_t device[2]; int32_t ndim; uint8_t code, bits; uint16_t lanes;
    int64_t *shape, *strides; uint64_t offset;
} Tensor;

#define KERNEL(name)                                                                             \
    void ggml_##name(int k, float *y, size_t stride, const void *w, const void *x, int m, int n); \
    int __tvm_ffi_##name(void *self, const Any *args, int32_t count, Any *result) {              \
        const Tensor *w = args[0].v.pointer, *x = args[1].v.pointer, *y = args[3].v.pointer;     \
        int m = y->shape[0], n = y->shape[1];                                                    \
        ggml_##name(args[2].v.number, y->data, n, w->data, x->data, m, n);                       \
        return 0;                                                                                \
    }

KERNEL(gemv_q4_0_4x4_q8_0)
KERNEL(gemv_q4_0_4x8_q8_0)
KERNEL(gemm_q4_0_4x4_q8_0)
KERNEL(gemm_q4_0_4x8_q8_0)
