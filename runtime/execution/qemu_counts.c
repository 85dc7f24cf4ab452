/* QEMU plug-in (API version 1): counts the instructions that a user-mode program executes.
 *
 *   cc -O2 -shared -fPIC qemu_counts.c -o qemu_counts.so
 *   qemu-aarch64 -plugin ./qemu_counts.so,out=FILE program ...: each instruction; at exit, a line
 *     "HEX COUNT" per address.
 *   qemu-aarch64 -plugin ./qemu_counts.so,counter=FILE program ...: those in a range of addresses, as
 *     long as the program runs. FILE holds three integers of 64 bits: the first address, the number
 *     of bytes, the count. The program maps it and writes them (instruction_counter.py).
 *
 * Debian ships no header, so the functions in use are declared here, as in qemu-plugin.h of 7.2.
 */
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

typedef uint64_t plugin_id;
struct tb;
struct insn;
typedef void (*translated)(plugin_id, struct tb *);
typedef void (*exiting)(plugin_id, void *);
typedef void (*executed)(unsigned vcpu, void *);
enum { INLINE_ADD_U64 = 0, NO_REGISTERS = 0, SLOTS = 1 << 20 };

size_t qemu_plugin_tb_n_insns(const struct tb *);
struct insn *qemu_plugin_tb_get_insn(const struct tb *, size_t);
uint64_t qemu_plugin_insn_vaddr(const struct insn *);
uint64_t qemu_plugin_tb_vaddr(const struct tb *);
void qemu_plugin_register_vcpu_tb_exec_cb(struct tb *, executed, int flags, void *);
void qemu_plugin_register_vcpu_tb_trans_cb(plugin_id, translated);
void qemu_plugin_register_vcpu_insn_exec_inline(struct insn *, int op, void *counter, uint64_t add);
void qemu_plugin_register_atexit_cb(plugin_id, exiting, void *);

__attribute__((visibility("default"))) int qemu_plugin_version = 1;

/* An address may be translated more than once. Slots must not move: generated code adds to them. */
static struct { uint64_t address, count; } slots[SLOTS];

static uint64_t *counter(uint64_t address) {
    for (uint64_t n = 0, at = address / 4 % SLOTS; n < SLOTS; ++n, at = (at + 1) % SLOTS) {
        if (!slots[at].address) slots[at].address = address;
        if (slots[at].address == address) return &slots[at].count;
    }
    fprintf(stderr, "more than %d instructions\n", SLOTS);
    exit(2);
}

static void translate(plugin_id id, struct tb *tb) {
    for (size_t i = 0, n = qemu_plugin_tb_n_insns(tb); i < n; ++i) {
        struct insn *insn = qemu_plugin_tb_get_insn(tb, i);
        uint64_t *count = counter(qemu_plugin_insn_vaddr(insn));
        qemu_plugin_register_vcpu_insn_exec_inline(insn, INLINE_ADD_U64, count, 1);
    }
}

static void finish(plugin_id id, void *path) {
    FILE *out = fopen(path, "w");
    if (!out) { perror(path); exit(2); }
    for (int i = 0; i < SLOTS; ++i)
        if (slots[i].count) fprintf(out, "%" PRIx64 " %" PRIu64 "\n", slots[i].address, slots[i].count);
    fclose(out);
}

/* Shared with the program and with its forks. */
static volatile struct { uint64_t start, size, count; } *range;
struct piece { uint64_t start, instructions; };

static void count(unsigned vcpu, void *given) {
    const struct piece *piece = given;
    if (piece->start - range->start < range->size)
        __atomic_fetch_add(&range->count, piece->instructions, __ATOMIC_RELAXED);
}

static void watch(plugin_id id, struct tb *tb) {
    struct piece *piece = malloc(sizeof *piece); /* kept: translated code may run at any time */
    if (!piece) exit(2);
    *piece = (struct piece){qemu_plugin_tb_vaddr(tb), qemu_plugin_tb_n_insns(tb)};
    qemu_plugin_register_vcpu_tb_exec_cb(tb, count, NO_REGISTERS, piece);
}

static int share(const char *path) {
    int file = open(path, O_RDWR | O_CREAT, 0600);
    if (file < 0 || ftruncate(file, sizeof *range)) { perror(path); return -1; }
    range = mmap(NULL, sizeof *range, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    if (range == MAP_FAILED) { perror(path); return -1; }
    return close(file);
}

__attribute__((visibility("default")))
int qemu_plugin_install(plugin_id id, const void *info, int argc, char **argv) {
    if (argc == 1 && !strncmp(argv[0], "counter=", 8)) {
        qemu_plugin_register_vcpu_tb_trans_cb(id, watch);
        return share(argv[0] + 8);
    }
    if (argc != 1 || strncmp(argv[0], "out=", 4)) {
        fprintf(stderr, "usage: out=FILE or counter=FILE\n");
        return -1;
    }
    qemu_plugin_register_vcpu_tb_trans_cb(id, translate);
    qemu_plugin_register_atexit_cb(id, finish, strdup(argv[0] + 4));
    return 0;
}
