// What an access costs: sectors of global memory, wavefronts of shared memory.
#include <algorithm>

#include "machine.h"

constexpr u32 SECTOR = 32, BANKS = 32, WORD = 4;

void count_global(Block& b, const u64 (&at)[32], u32 mask, u32 size) {
  u64 sectors[32];
  int n = 0;
  LANES (l)
    if (mask >> l & 1) sectors[n++] = at[l] / SECTOR;
  std::sort(sectors, sectors + n);
  b.counts.global_requests++;
  b.counts.global_sectors += u64(std::unique(sectors, sectors + n) - sectors);
  b.counts.global_bytes += u64(size) * u64(n);
}

// Distinct words on the bank that has most of them.
static u32 wavefronts(const u64 (&at)[32], u32 mask, u32 size) {
  u64 words[128];
  int n = 0;
  LANES (l)
    if (mask >> l & 1)
      for (u64 w = at[l] / WORD; w <= (at[l] + size - 1) / WORD; w++) words[n++] = w;
  std::sort(words, words + n);
  u32 on_bank[BANKS] = {}, most = 0;
  for (const u64 *end = std::unique(words, words + n), *w = words; w != end; w++)
    most = std::max(most, ++on_bank[*w % BANKS]);
  return most;
}

// Lanes go in groups that move at most 128 bytes at a time.
void count_shared(Block& b, const u64 (&at)[32], u32 mask, u32 size) {
  const u32 lanes = size <= WORD ? 32 : BANKS * WORD / whole(size);
  for (u32 first = 0; first < 32; first += lanes) {
    const u32 group = mask & (lanes == 32 ? ~0u : ((1u << lanes) - 1) << first);
    if (group == 0) continue;
    b.counts.shared_ideal++;
    b.counts.shared_wavefronts += wavefronts(at, group, size);
  }
}
