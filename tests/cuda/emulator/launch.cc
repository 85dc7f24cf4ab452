// A launch: blocks one after another, each with memory of its own that starts as NaN.
#include <algorithm>
#include <cstdio>
#include <stdexcept>
#include <string>

#include "machine.h"

void run_warps(Block& b);

static void place_threads(Warp& w, const u32 (&ntid)[3]) {
  const u32 threads = ntid[0] * ntid[1] * ntid[2];
  w.live = 0;
  LANES (l) {
    const u32 t = w.id * 32 + u32(l);
    w.live |= u32(t < threads) << l;
    w.tid[0][l] = t % ntid[0];
    w.tid[1][l] = t / ntid[0] % ntid[1];
    w.tid[2][l] = t / ntid[0] / ntid[1];
  }
}

// Time goes on from block to block: what an earlier one did is never a race.
static void start_warp(Warp& w, Block& b) {
  place_threads(w, b.ntid);
  w.waiting = -1, w.steps = 0, w.on_mask = 0;
  memset(w.on, 0, sizeof w.on);
  w.groups.assign(1, Group{0, w.live});
  w.parked.clear();
  w.copies.clear();
  memset(w.committed, 0, sizeof w.committed);
  std::fill(w.local.begin(), w.local.end(), 0xff);
}

static void run_block(Block& b, u32 x, u32 y, u32 z) {
  b.ctaid[0] = x, b.ctaid[1] = y, b.ctaid[2] = z;
  b.serial++;
  memset(b.shared, 0xff, b.shared_bytes);
  for (Barrier& barrier : b.barriers) barrier.arrived = 0;
  for (Warp& w : b.warps) start_warp(w, b);
  run_warps(b);
}

static std::vector<Range> ranges_of(const Kernel& k, const u8* params, const u64* table,
                                    u32 count) {
  std::vector<Range> found = k.data_ranges;
  for (u32 i = 0; i < count; i++) found.push_back({table[2 * i], table[2 * i] + table[2 * i + 1]});
  found.push_back({u64(params), u64(params) + k.param_bytes});
  std::sort(found.begin(), found.end(),
            [](const Range& a, const Range& b) { return a.begin < b.begin; });
  return found;
}

template <class T>
static T* cache_line(std::vector<u8>& memory, u64 bytes) {
  memory.assign(bytes + 64, 0);
  return reinterpret_cast<T*>((u64(memory.data()) + 63) & ~63ull);
}

// Everything of a launch that its blocks use one after another.
struct Launched {
  Block block{};
  std::vector<u8> shared;
  std::vector<std::vector<u8>> registers;

  void add_warps(const Kernel& k) {
    block.warps.resize(block.warp_count);
    registers.resize(block.warp_count);
    for (u32 i = 0; i < block.warp_count; i++) {
      Warp& w = block.warps[i];
      w.block = &block, w.id = i;
      w.registers = cache_line<u8>(registers[i], k.register_bytes);
      w.local.resize(32ull * k.local_bytes);
      w.clock.assign(block.warp_count, 0);
      w.clock[i] = 1;
    }
  }
  void add_shared(const Kernel& k, u32 dynamic) {
    block.dynamic = dynamic;
    block.shared_bytes = k.shared_bytes + dynamic;
    block.shared = cache_line<u8>(shared, block.shared_bytes + 1024);
    block.shadows.assign(block.shared_bytes / k.granule + 1, Shadow{});
    block.read_times.assign(block.shadows.size() * block.warp_count, 0);
  }
};

static void run_grid(Block& b) {
  for (u32 z = 0; z < b.nctaid[2]; z++)
    for (u32 y = 0; y < b.nctaid[1]; y++)
      for (u32 x = 0; x < b.nctaid[0]; x++) run_block(b, x, y, z);
}

static const char* text_of(const Kernel& k, const char* message) {
  const auto found = k.texts.find(u32(strtoul(message + strlen("line "), nullptr, 10)));
  return found == k.texts.end() ? "" : found->second.c_str();
}

static void describe(char* message, const Block& b, const char* what) {
  snprintf(message, MESSAGE_BYTES, "%s, block (%u, %u, %u), %s: %s", b.kernel->name.c_str(),
           b.ctaid[0], b.ctaid[1], b.ctaid[2], what, text_of(*b.kernel, what));
}

// `table`: the begin and size of each buffer. Nothing is counted without an array for it.
extern "C" int launch_kernel(const Kernel* kernel, const u32* grid, const u32* block, u32 dynamic,
                             const u8* params, const u64* table, u32 count, u32 mode,
                             u64* statistics, char* message) {
  const Kernel& k = *kernel;
  Launched launched;
  Block& b = launched.block;
  b.kernel = &k, b.params = params, b.mode = mode, b.counting = statistics != nullptr;
  memcpy(b.nctaid, grid, sizeof b.nctaid);
  memcpy(b.ntid, block, sizeof b.ntid);
  b.warp_count = (block[0] * block[1] * block[2] + 31) / 32;
  b.ranges = ranges_of(k, params, table, count);
  b.last.assign(k.accesses, Range{~0ull, 0});
  launched.add_warps(k);
  launched.add_shared(k, dynamic);
  try {
    run_grid(b);
  } catch (const std::exception& e) {
    describe(message, b, e.what());
    return 1;
  }
  if (statistics) memcpy(statistics, &b.counts, sizeof b.counts);
  return 0;
}
