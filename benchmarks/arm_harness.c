/* Calls kernels of a TVM object file without TVM's libraries, whose functions are defined here.
 *
 * usage: harness (NAME ARGUMENTS RESULTS)... ARGUMENTS: int32 count, then per argument int32 kind: 0, an
 * int64; 1, a tensor: int32 dtype code, bits, ndim; int64 shape[ndim]; data. Tensors are written
 * back to RESULTS, all of them in order. KERNELS(X), the functions of the object, come from -D.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct { int32_t type; uint32_t zero; union { int64_t number; void *pointer; } v; } Any;
typedef struct {
    void *data; int32_t device[2]; int32_t ndim; uint8_t code, bits; uint16_t lanes;
    int64_t *shape, *strides; uint64_t offset;
} Tensor;
typedef int (*Kernel)(void *, const Any *, int32_t, Any *);
enum { INT = 1, TENSOR = 7, ALIGNMENT = 64 };

#define DECLARE(name) int __tvm_ffi_##name(void *, const Any *, int32_t, Any *);
#define ENTRY(name) {#name, __tvm_ffi_##name},
KERNELS(DECLARE)
static const struct { const char *name; Kernel call; } kernels[] = {KERNELS(ENTRY)};

/* --- runtime functions that kernels call; all tasks run sequentially --- */

static int launch(int (*task)(int, void *, void *), void *closure, int count) {
    struct { void *sync; int32_t count; } group = {0, 4}; /* as many as four cores would get */
    for (int i = 0; i < group.count; ++i)
        if (task(i, &group, closure)) return -1;
    return 0;
}
static void *take(int type, int id, uint64_t size, int code, int bits) {
    return aligned_alloc(ALIGNMENT, (size + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT);
}
static int give(int type, int id, void *memory) { free(memory); return 0; }

void TVMFFIErrorSetRaisedFromCStr(const char *kind, const char *message) {
    fprintf(stderr, "%s: %s\n", kind, message);
}
void TVMFFIErrorSetRaisedFromCStrParts(const char *kind, const char **parts, int32_t count) {
    fprintf(stderr, "%s: ", kind);
    for (int i = 0; i < count; ++i) fputs(parts[i] ? parts[i] : "", stderr);
    fputc('\n', stderr);
}
int TVMBackendParallelLaunch(void *task, void *closure, int count) { return launch(task, closure, count); }
void *TVMBackendAllocWorkspace(int t, int i, uint64_t n, int c, int b) { return take(t, i, n, c, b); }
int TVMBackendFreeWorkspace(int t, int i, void *p) { return give(t, i, p); }
void *__TVMBackendParallelLaunch = launch, *__TVMBackendAllocWorkspace = take;
void *__TVMBackendFreeWorkspace = give;
void *__TVMFFIErrorSetRaisedFromCStrParts = TVMFFIErrorSetRaisedFromCStrParts;
void *__TVMFFIErrorSetRaisedFromCStr = TVMFFIErrorSetRaisedFromCStr;
void *__tvm_ffi__library_ctx;

/* --- arguments --- */

static void need(void *to, size_t size, FILE *file) {
    if (size && fread(to, size, 1, file) != 1) { fprintf(stderr, "arguments end early\n"); exit(2); }
}
static int32_t word(FILE *file) { int32_t n; need(&n, 4, file); return n; }

static uint64_t bytes(const Tensor *t) {
    uint64_t n = t->bits / 8;
    for (int i = 0; i < t->ndim; ++i) n *= t->shape[i];
    return n;
}
static Tensor *tensor(FILE *file) {
    Tensor *t = calloc(1, sizeof *t);
    t->device[0] = 1, t->lanes = 1, t->code = word(file), t->bits = word(file), t->ndim = word(file);
    t->shape = malloc(8 * t->ndim), t->strides = malloc(8 * t->ndim);
    need(t->shape, 8 * t->ndim, file);
    int64_t stride = 1;
    for (int i = t->ndim - 1; i >= 0; --i) t->strides[i] = stride, stride *= t->shape[i];
    t->data = take(1, 0, bytes(t) + 1, 0, 0);
    need(t->data, bytes(t), file);
    return t;
}

static int call(const char *name, const char *arguments, const char *results) {
    FILE *in = fopen(arguments, "rb"), *out = fopen(results, "wb");
    if (!in || !out) { perror(arguments); return 2; }
    int count = word(in);
    Any *args = calloc(count, sizeof *args), result = {0};
    for (int i = 0; i < count; ++i)
        if (word(in)) args[i].type = TENSOR, args[i].v.pointer = tensor(in);
        else args[i].type = INT, need(&args[i].v.number, 8, in);
    size_t k = 0, all = sizeof kernels / sizeof *kernels;
    while (k < all && strcmp(kernels[k].name, name)) ++k;
    if (k == all) { fprintf(stderr, "no kernel %s\n", name); return 2; }
    if (kernels[k].call(0, args, count, &result)) return 1;
    for (int i = 0; i < count; ++i)
        if (args[i].type == TENSOR) {
            Tensor *t = args[i].v.pointer;
            fwrite(t->data, 1, bytes(t), out);
        }
    return fclose(in) | fclose(out);
}

int main(int argc, char **argv) {
    if (argc < 4 || argc % 3 != 1) { fprintf(stderr, "usage: NAME ARGUMENTS RESULTS ...\n"); return 2; }
    for (int i = 1; i < argc; i += 3)
        if (call(argv[i], argv[i + 1], argv[i + 2])) return 1;
    return 0;
}
