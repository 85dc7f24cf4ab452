/* QEMU plug-in (API version 1): counts executions of each instruction of a user-mode program.
 *
 * qemu-aarch64 -plugin ./plugin.so,out=FILE program ...: writes a line "HEX COUNT" per address.
 * Debian ships no header, so the functions in use are declared here, as in qemu-plugin.h of 7.2.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef uint64_t plugin_id;
struct tb;
struct insn;
typedef void (*translated)(plugin_id, struct tb *);
typedef void (*exiting)(plugin_id, void *);
enum { INLINE_ADD_U64 = 0, SLOTS = 1 << 20 };

size_t qemu_plugin_tb_n_insns(const struct tb *);
struct insn *qemu_plugin_tb_get_insn(const struct tb *, size_t);
uint64_t qemu_plugin_insn_vaddr(const struct insn *);
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

__attribute__((visibility("default")))
int qemu_plugin_install(plugin_id id, const void *info, int argc, char **argv) {
    if (argc != 1 || strncmp(argv[0], "out=", 4)) { fprintf(stderr, "usage: out=FILE\n"); return -1; }
    qemu_plugin_register_vcpu_tb_trans_cb(id, translate);
    qemu_plugin_register_atexit_cb(id, finish, strdup(argv[0] + 4));
    return 0;
}
