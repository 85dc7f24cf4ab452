// Warps in lockstep: lanes apart run lowest address first, and join where they meet.
#include <algorithm>
#include <utility>

#include "machine.h"

// Lanes that others wait for take these with them.
void Warp::go(u32 pc, u32 mask) {
  if (mask == 0) return;
  for (size_t i = 0; i < parked.size(); i++) {
    if (parked[i].pc != pc) continue;
    mask |= parked[i].mask;
    parked.erase(parked.begin() + s64(i));
    break;
  }
  for (Group& g : groups)
    if (g.pc == pc) {
      g.mask |= mask;
      return;
    }
  groups.push_back({pc, mask});
}

// Nobody else runs: lanes that wait go on only if those that they waited for have left.
static void release(Warp& w) {
  const std::vector<Parked> waiting = std::move(w.parked);
  w.parked.clear();
  for (const Parked& p : waiting) {
    if (p.live == w.live) fail(p.line, p.what, p.mask);
    w.go(p.pc, p.mask);
  }
}

// Basic blocks that a warp may run: a kernel of a model runs a few thousand, and MOST take seconds.
constexpr u32 MOST = 1u << 24;

// A step that no other follows ends the warp's lanes.
static void run_step(Warp& w, const Kernel& kernel, const Group& group) {
  if (group.pc == kernel.steps.size()) return w.leave(group.mask);
  const Step& step = kernel.steps[group.pc];
  if (w.on_mask != group.mask) lanes_of(w.on_mask = group.mask, w.on);
  w.enter(group.mask, step.count);
  for (u32 i = step.begin; i < step.end; i++)
    if (!kernel.uses[i].form(w, group.mask, kernel.uses[i].operands)) return;
  w.go(group.pc + 1, group.mask);
}

// Until the warp waits at a barrier or its lanes have left.
static void run(Warp& w) {
  while (w.waiting < 0) {
    if (w.groups.empty()) release(w);
    if (w.groups.empty()) return;
    const auto first = std::min_element(w.groups.begin(), w.groups.end(),
                                        [](const Group& a, const Group& b) { return a.pc < b.pc; });
    const Group group = *first;
    *first = w.groups.back();
    w.groups.pop_back();
    const Kernel& kernel = *w.block->kernel;
    if (++w.steps > MOST) fail(kernel.steps[group.pc].line, "a loop without an end", MOST);
    run_step(w, kernel, group);
  }
}

bool meet(Warp& w, const Meeting& m) {
  if (m.stray) fail(m.line, "lanes execute a collective whose mask does not name them", m.stray);
  const u32 missing = m.named & w.live & ~m.mask;
  if (m.mask == 0 || missing == 0) return true;
  if (!m.begins || (missing & m.step)) fail(m.line, m.what, m.mask);
  w.block->counts.instructions -= w.entered;
  w.block->counts.divergent -= w.entered;
  w.parked.push_back({m.pc, m.step, w.live, m.line, m.what});
  return false;
}

void load_matrices(Warp& w, u64 (&rows)[32], u32 count, bool transposed, u32 (*out)[32],
                   u32 line) {
  reach_shared(w, rows, count == 4 ? ~0u : (1u << 8 * count) - 1, 16, READ, line);
  for (u32 i = 0; i < count; i++) {
    const auto element = [&](u32 row, u32 column) {
      return reinterpret_cast<const u16*>(rows[8 * i + row])[column];
    };
    LANES (l) {
      const u32 a = u32(l) / 4, b = 2 * (u32(l) & 3);
      out[i][l] = transposed ? element(b, a) | u32(element(b + 1, a)) << 16
                             : element(a, b) | u32(element(a, b + 1)) << 16;
    }
  }
}

static void join(std::vector<u32>& into, const std::vector<u32>& from) {
  for (size_t i = 0; i < into.size(); i++) into[i] = std::max(into[i], from[i]);
}

static u32 warps_alive(const Block& b) {
  return u32(
      std::count_if(b.warps.begin(), b.warps.end(), [](const Warp& w) { return w.live != 0; }));
}

// `threads` 0 is the whole block. Waiting warps go on when finish_barriers finds all of them.
void arrive(Warp& w, u32 barrier, u32 threads, bool wait, u32 mask, u32 line) {
  if (barrier >= 16 || threads % 32)
    fail(line, "no such barrier, or no multiple of 32 threads", barrier);
  Barrier& b = w.block->barriers[barrier];
  if (b.arrived == 0) b = Barrier{0, threads, line, std::vector<u32>(w.clock.size(), 0)};
  if (b.expected != threads) fail(line, "threads disagree on the count of a barrier", threads);
  if (threads == 0 && b.line != line)
    fail(line, "warps of a block wait at different barriers: divergent barrier", b.line);
  b.arrived++;
  join(b.clock, w.clock);
  if (wait)
    w.waiting = s32(barrier);
  else
    w.clock[w.id]++;
}

static bool complete(const Block& b, const Barrier& barrier) {
  if (barrier.expected && barrier.arrived > barrier.expected / 32)
    fail(barrier.line, "more threads at a barrier than its count", barrier.arrived * 32);
  return barrier.arrived &&
         barrier.arrived == (barrier.expected ? barrier.expected / 32 : warps_alive(b));
}

bool finish_barriers(Block& b) {
  bool found = false;
  for (s32 i = 0; i < 16; i++) {
    if (!complete(b, b.barriers[i])) continue;
    for (Warp& w : b.warps)
      if (w.waiting == i) {
        join(w.clock, b.barriers[i].clock);
        w.clock[w.id]++;
        w.waiting = -1;
      }
    b.barriers[i].arrived = 0;
    b.counts.barriers++;
    found = true;
  }
  return found;
}

// Warps take turns between barriers, forwards and backwards, so that none is always first.
void run_warps(Block& b) {
  for (bool backwards = false;; backwards = !backwards) {
    for (u32 i = 0; i < b.warp_count; i++) run(b.warps[backwards ? b.warp_count - 1 - i : i]);
    if (finish_barriers(b)) continue;
    for (const Warp& w : b.warps)
      if (w.waiting >= 0)
        fail(b.barriers[w.waiting].line, "a barrier that not all threads reach", u64(w.waiting));
    return;
  }
}
