/* Emulates AMX's tile registers; called by schedules/isa/amx_instructions.py under emulation.
 *
 * Eight tiles per thread. Conditions that raise a fault on a CPU are counted, with the first reason:
 * an instruction before the configuration, a tile that is not configured, mismatched shapes.
 * Results follow the pseudocode of the Intel SDM, vol. 2 (TDPBF16PS, TDPBSUD).
 */
#include <stdint.h>
#include <string.h>

enum { TILES = 8, ROWS = 16, BYTES = 64 };

typedef struct {
  int configured, rows[TILES], bytes[TILES];
  uint8_t data[TILES][ROWS][BYTES];
} State;

static _Thread_local State state;
static int errors, counts[5]; /* configured, released, loaded, stored, multiplied */
static const char *first_error = "";

static void fail(const char *reason) {
  if (__atomic_fetch_add(&errors, 1, __ATOMIC_RELAXED) == 0) first_error = reason;
}

static void count(int kind) { __atomic_fetch_add(&counts[kind], 1, __ATOMIC_RELAXED); }

static int usable(int tile) {
  if (!state.configured) return fail("a tile instruction before ldtilecfg"), 0;
  if (tile < 0 || tile >= TILES) return fail("there is no such tile"), 0;
  if (!state.rows[tile] || !state.bytes[tile]) return fail("a tile that is not configured"), 0;
  return 1;
}

int handglass_tile_errors(void) { return errors; }
const char *handglass_tile_first_error(void) { return first_error; }
int handglass_tile_count(int kind) { return counts[kind]; }
void handglass_tile_reset(void) { errors = 0, first_error = "", memset(counts, 0, sizeof counts); }

void handglass_emulated_ldtilecfg(const uint8_t *memory) {
  count(0);
  memset(&state, 0, sizeof state);
  if (memory[0] != 1 || memory[1] != 0) return fail("ldtilecfg: not palette 1, row 0");
  for (int t = 0; t < TILES; t++) {
    state.bytes[t] = memory[16 + 2 * t] | memory[17 + 2 * t] << 8;
    state.rows[t] = memory[48 + t];
    if (state.bytes[t] > BYTES || state.rows[t] > ROWS) return fail("ldtilecfg: tile too large");
  }
  for (int b = 2; b < 64; b++) /* reserved bytes, and tiles that palette 1 lacks */
    if (memory[b] && !(b >= 16 && b < 32) && !(b >= 48 && b < 56)) return fail("ldtilecfg: reserved");
  state.configured = 1;
}

void handglass_emulated_tilerelease(void) {
  count(1);
  memset(&state, 0, sizeof state);
}

void handglass_emulated_tileloadd64(int8_t t, const uint8_t *memory, int64_t stride) {
  count(2);
  if (!usable(t)) return;
  memset(state.data[t], 0, sizeof state.data[t]);
  for (int r = 0; r < state.rows[t]; r++)
    memcpy(state.data[t][r], memory + r * stride, state.bytes[t]);
}

void handglass_emulated_tilezero(int8_t t) {
  if (usable(t)) memset(state.data[t], 0, sizeof state.data[t]);
}

void handglass_emulated_tilestored64(int8_t t, uint8_t *memory, int64_t stride) {
  count(3);
  if (!usable(t)) return;
  for (int r = 0; r < state.rows[t]; r++)
    memcpy(memory + r * stride, state.data[t][r], state.bytes[t]);
}

static int fits(int c, int a, int b) {
  count(4);
  if (!usable(c) || !usable(a) || !usable(b)) return 0;
  if (c == a || c == b || a == b) return fail("one tile in two places"), 0;
  if (state.rows[c] != state.rows[a] || state.bytes[c] != state.bytes[b] ||
      state.bytes[a] != 4 * state.rows[b])
    return fail("shapes of tiles that do not fit"), 0;
  return 1;
}

static float widen(const uint8_t *place) {
  uint32_t bits = (uint32_t)(place[0] | place[1] << 8) << 16;
  float value;
  if (!(bits & 0x7F800000)) bits &= 0x80000000; /* denormals are zero */
  memcpy(&value, &bits, 4);
  return value;
}

void handglass_emulated_tdpbf16ps(int8_t c, int8_t a, int8_t b) {
  if (!fits(c, a, b)) return;
  for (int m = 0; m < state.rows[c]; m++)
    for (int n = 0; n < state.bytes[c] / 4; n++) {
      float even = 0, odd = 0, sum;
      for (int k = 0; k < state.bytes[a] / 4; k++) {
        even += widen(&state.data[a][m][4 * k]) * widen(&state.data[b][k][4 * n]);
        odd += widen(&state.data[a][m][4 * k + 2]) * widen(&state.data[b][k][4 * n + 2]);
      }
      memcpy(&sum, &state.data[c][m][4 * n], 4);
      sum += even + odd;
      memcpy(&state.data[c][m][4 * n], &sum, 4);
    }
}

void handglass_emulated_tdpbsud(int8_t c, int8_t a, int8_t b) { /* signed a, unsigned b */
  if (!fits(c, a, b)) return;
  for (int m = 0; m < state.rows[c]; m++)
    for (int n = 0; n < state.bytes[c] / 4; n++) {
      int32_t sum;
      memcpy(&sum, &state.data[c][m][4 * n], 4);
      for (int k = 0; k < state.bytes[a]; k++)
        sum += (int8_t)state.data[a][m][k] * state.data[b][k / 4][4 * n + k % 4];
      memcpy(&state.data[c][m][4 * n], &sum, 4);
    }
}
