// cp.async: data that arrive in shared memory at the wait at the latest, or at once.
#include <algorithm>

#include "machine.h"

static void land(Warp& w, const Copy& c) {
  Block& b = *w.block;
  for (u64 g = c.to / b.kernel->granule; g <= (c.to + c.size - 1) / b.kernel->granule; g++)
    b.shadows[g].copying = 0;
  touch(w, c.to, c.size, WRITE, c.line);
  memset(b.shared + c.to, 0, c.size);
  memcpy(b.shared + c.to, reinterpret_cast<const void*>(c.from), c.filled);
}

// Bytes beyond `filled` become zero; a lane that fills nothing reads nothing.
void issue_copies(Warp& w, u64 (&to)[32], u64 (&from)[32], const u32 (&filled)[32], u32 mask,
                  u32 size, u32 line, u32 access) {
  Block& b = *w.block;
  u32 reads = 0;
  LANES (l)
    if (mask >> l & 1) {
      if (filled[l] > size) fail(line, "cp.async reads more than it copies", filled[l]);
      reads |= u32(filled[l] > 0) << l;
    }
  if (reads) reach_global(w, from, reads, size, READ, line, access);
  reach_shared(w, to, mask, size, WRITE, line);
  b.counts.copies++;
  for (u32 l = 0; l < 32; l++) {
    if (!(mask >> l & 1)) continue;
    const Copy c{from[l], u32(to[l] - u64(b.shared)), size, filled[l], l, w.committed[l], line};
    if (!(b.mode & LATE)) {
      land(w, c);
      continue;
    }
    for (u64 g = c.to / b.kernel->granule; g <= (c.to + size - 1) / b.kernel->granule; g++)
      b.shadows[g].copying = 1;
    w.copies.push_back(c);
  }
}

void commit_copies(Warp& w, u32 mask) {
  LANES (l) w.committed[l] += mask >> l & 1;
}

void wait_copies(Warp& w, u32 mask, u32 groups_left, bool uncommitted_too) {
  const auto arrives = [&](const Copy& c) {
    const u32 done = w.committed[c.lane];
    return (mask >> c.lane & 1) && (uncommitted_too || c.group + groups_left < done);
  };
  for (const Copy& c : w.copies)
    if (arrives(c)) land(w, c);
  w.copies.erase(std::remove_if(w.copies.begin(), w.copies.end(), arrives), w.copies.end());
}
