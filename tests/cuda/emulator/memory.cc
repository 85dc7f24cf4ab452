// Memory as a kernel sees it: who may be reached, and races between warps on shared memory.
#include <algorithm>
#include <stdexcept>
#include <string>

#include "machine.h"

// launch() adds the instruction's text and the block.
[[noreturn]] void fail(u32 line, const char* what, u64 detail) {
  char number[40];
  snprintf(number, sizeof number, " (0x%llx)", static_cast<unsigned long long>(detail));
  throw std::runtime_error("line " + std::to_string(line) + ": " + what + number);
}

static void aligned(const u64 (&at)[32], u32 mask, u32 used, u32 line) {
  const u32 size = whole(used);
  u64 low = 0;
  LANES (l) low |= mask >> l & 1 ? at[l] & (size - 1) : 0;
  if (low == 0) return;
  LANES (l)
    if ((mask >> l & 1) && at[l] % size) fail(line, "misaligned address", at[l]);
}

// The range of allocated memory that has all of [at, at + size).
static Range range_of(const Block& b, u64 at, u32 size, u32 line) {
  auto next = std::upper_bound(b.ranges.begin(), b.ranges.end(), at,
                               [](u64 a, const Range& r) { return a < r.begin; });
  if (next == b.ranges.begin() || at + size > std::prev(next)->end)
    fail(line, "global access outside every buffer", at);
  return *std::prev(next);
}

void reach_global(Warp& w, u64 (&at)[32], u32 mask, u32 size, Use, u32 line, u32 access) {
  Block& b = *w.block;
  aligned(at, mask, size, line);
  u64 low = ~u64(0), high = 0;
  LANES (l) low = std::min(low, mask >> l & 1 ? at[l] : ~u64(0));
  LANES (l) high = std::max(high, mask >> l & 1 ? at[l] : u64(0));
  Range& last = b.last[access];
  if (low < last.begin || high + size > last.end)
    LANES (l)
      if (mask >> l & 1) last = range_of(b, at[l], size, line);
  if (b.counting) count_global(b, at, mask, size);
}

// One granule of shared memory: what this warp does must be ordered after what others did.
static void order(Warp& w, Block& b, u64 granule, Use use, u32 line) {
  Shadow& s = b.shadows[granule];
  u32* times = &b.read_times[granule * b.warp_count];
  if (s.serial != b.serial) s = Shadow{b.serial, 0, 0, 0, 0, 0, 0};
  if (s.copying)
    fail(line, "shared memory is used before the wait for its cp.async",
         granule * b.kernel->granule);
  const bool ordered = !s.written || s.writer == w.id || s.clock <= w.clock[s.writer];
  if (use == READ) {
    if (!s.written && !(b.mode & UNINITIALISED_ALLOWED))
      fail(line, "read of uninitialised shared memory", granule * b.kernel->granule);
    if (!ordered)
      fail(line, "race: read of shared memory that another warp wrote, without a barrier",
           granule * b.kernel->granule);
    s.readers |= 1u << w.id;
    times[w.id] = w.clock[w.id];
    return;
  }
  if (!ordered && !(use == ATOMIC && s.atomic))
    fail(line, "race: write of shared memory that another warp wrote, without a barrier",
         granule * b.kernel->granule);
  for (u32 others = s.readers & ~(1u << w.id); others; others &= others - 1) {
    const u32 reader = u32(__builtin_ctz(others));
    if (times[reader] > w.clock[reader])
      fail(line, "race: write of shared memory that another warp reads, without a barrier",
           granule * b.kernel->granule);
  }
  s = Shadow{b.serial, w.clock[w.id], 0, u8(w.id), 1, use == ATOMIC, 0};
}

void touch(Warp& w, u64 at, u32 size, Use use, u32 line) {
  Block& b = *w.block;
  const u32 granule = b.kernel->granule;
  for (u64 g = at / granule; g <= (at + size - 1) / granule; g++) order(w, b, g, use, line);
}

void reach_shared(Warp& w, u64 (&at)[32], u32 mask, u32 size, Use use, u32 line) {
  Block& b = *w.block;
  LANES (l) at[l] -= at[l] >= SHARED_WINDOW ? SHARED_WINDOW : 0;
  aligned(at, mask, size, line);
  for (int l = 0; l < 32; l++) {
    if (!(mask >> l & 1)) continue;
    if (at[l] + size > b.shared_bytes) fail(line, "shared access out of bounds", at[l]);
    if (l == 0 || !(mask >> (l - 1) & 1) || at[l] != at[l - 1]) touch(w, at[l], size, use, line);
  }
  if (b.counting) count_shared(b, at, mask, size);
  LANES (l) at[l] += u64(b.shared);
}

void reach_local(Warp& w, u64 (&at)[32], u32 mask, u32 size, u32 line) {
  const u64 bytes = w.block->kernel->local_bytes;
  LANES (l) at[l] -= at[l] >= LOCAL_WINDOW ? LOCAL_WINDOW : 0;
  aligned(at, mask, size, line);
  LANES (l)
    if ((mask >> l & 1) && at[l] + size > bytes) fail(line, "local access out of bounds", at[l]);
  LANES (l) at[l] += u64(w.local.data()) + bytes * l;
}

void reach_generic(Warp& w, u64 (&at)[32], u32 mask, u32 size, Use use, u32 line, u32 access) {
  u32 shared = 0, local = 0;
  LANES (l)
    if (mask >> l & 1) {
      local |= u32(at[l] >= LOCAL_WINDOW) << l;
      shared |= u32(at[l] >= SHARED_WINDOW && at[l] < LOCAL_WINDOW) << l;
    }
  u64 found[3][32];
  const u32 masks[3] = {mask & ~shared & ~local, shared, local};
  for (auto& copy : found) memcpy(copy, at, sizeof at);
  if (masks[0]) reach_global(w, found[0], masks[0], size, use, line, access);
  if (shared) reach_shared(w, found[1], shared, size, use, line);
  if (local) reach_local(w, found[2], local, size, line);
  for (int space = 0; space < 3; space++)
    LANES (l)
      if (masks[space] >> l & 1) at[l] = found[space][l];
}

void reach_param(Warp& w, u64 (&at)[32], u32 mask, u32 size, u32 line) {
  const Block& b = *w.block;
  const u64 begin = u64(b.params);
  LANES (l)
    if ((mask >> l & 1) && (at[l] < begin || at[l] + size > begin + b.kernel->param_bytes))
      fail(line, "read outside the kernel's parameters", at[l]);
}
