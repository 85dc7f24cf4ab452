// A block of warps, what its kernels call, and what is counted and checked while they run.
#pragma once
#include <map>
#include <string>
#include <vector>

#include "bits.h"
#include "convert.h"

struct Block;
struct Warp;
// An instruction for the lanes of a mask, with the numbers in its slots. False if the step ends.
using Form = bool (*)(Warp&, u32 mask, const u64*);

struct Range {
  u64 begin, end;
};
struct Instruction {
  Form form;
  const u64* operands;
};
// A basic block: its instructions, the line of the PTX where it begins, and how many it has; some
// do nothing here.
struct Step {
  u32 begin, end, line, count;
};
struct Kernel {
  std::string name;
  std::vector<Step> steps;
  std::vector<Instruction> uses;
  std::vector<u64> operands;
  std::vector<size_t> first_operands;  // of each use
  u32 register_bytes, shared_bytes, local_bytes, param_bytes;
  u32 granule;  // bytes of shared memory that one shadow describes: the kernel's smallest access
  u32 accesses;
  std::vector<u8> constants;  // of the module
  u64 data;                   // where they begin
  std::vector<Range> data_ranges;
  std::map<u32, std::string> texts;  // instructions that may fail, by line
  std::vector<u32> layout;           // of the parameters, for the caller
};

// In this order in the caller's array.
struct Counts {
  u64 instructions, global_requests, global_sectors, global_bytes, shared_ideal, shared_wavefronts;
  u64 mma, barriers, divergent, copies;
};

enum Use : u32 { READ, WRITE, ATOMIC };
enum Mode : u32 { LATE = 1, UNINITIALISED_ALLOWED = 2 };

constexpr size_t MESSAGE_BYTES = 512;  // of the caller

// Windows of generic addresses, far from those of the host.
constexpr u64 SHARED_WINDOW = 0x7000000000000000ull, LOCAL_WINDOW = 0x7100000000000000ull;

struct Group {
  u32 pc, mask;
};
// Lanes that wait for others of their warp, and how many of it lived then.
struct Parked {
  u32 pc, mask, live, line;
  const char* what;
};
struct Copy {
  u64 from;
  u32 to, size, filled, lane, group, line;
};
struct Warp {
  Block* block;
  u32 id, live;
  u32 tid[3][32];
  u8* registers;
  u32 on_mask, on[32];  // all ones for the lanes of a step
  std::vector<u8> local;
  std::vector<Group> groups;  // lanes by where they are
  std::vector<Parked> parked;
  u32 entered;               // instructions of the step that runs
  u32 steps;                 // basic blocks since the warp began
  std::vector<Copy> copies;  // of cp.async, not landed
  u32 committed[32];          // groups of copies, per lane
  std::vector<u32> clock;     // what this warp knows of the others, and its own time
  s32 waiting = -1;           // at which barrier

  void enter(u32 mask, u32 instructions);
  void go(u32 pc, u32 mask);
  void leave(u32 mask) { live &= ~mask; }
};
struct Barrier {
  u32 arrived = 0, expected = 0, line = 0;
  std::vector<u32> clock;
};
// Per granule of shared memory. Readers are those since the last write.
struct Shadow {
  u32 serial, clock, readers;
  u8 writer, written, atomic, copying;
};
struct Block {
  const Kernel* kernel;
  u32 ctaid[3], nctaid[3], ntid[3], mode, dynamic;
  const u8* params;
  u8* shared;
  u64 shared_bytes;
  std::vector<Range> ranges;  // of memory that kernels may touch, sorted
  std::vector<Range> last;    // by access: where it was before
  std::vector<Shadow> shadows;
  std::vector<u32> read_times;  // [granule][warp]
  u32 serial = 0, warp_count;
  std::vector<Warp> warps;
  Barrier barriers[16];
  Counts counts{};
  bool counting;
};

[[noreturn]] void fail(u32 line, const char* what, u64 detail);

// Bytes of the access of which so many are used: a power of two.
inline u32 whole(u32 used) {
  u32 size = 1;
  while (size < used) size *= 2;
  return size;
}

// Addresses of a warp's access become host addresses. Bounds, alignment, races, counts.
void reach_global(Warp& w, u64 (&at)[32], u32 mask, u32 size, Use use, u32 line, u32 access);
void reach_shared(Warp& w, u64 (&at)[32], u32 mask, u32 size, Use use, u32 line);
void reach_local(Warp& w, u64 (&at)[32], u32 mask, u32 size, u32 line);
void reach_generic(Warp& w, u64 (&at)[32], u32 mask, u32 size, Use use, u32 line, u32 access);
void reach_param(Warp& w, u64 (&at)[32], u32 mask, u32 size, u32 line);

void touch(Warp& w, u64 at, u32 size, Use use, u32 line);
void count_global(Block& b, const u64 (&at)[32], u32 mask, u32 size);
void count_shared(Block& b, const u64 (&at)[32], u32 mask, u32 size);

void issue_copies(Warp& w, u64 (&to)[32], u64 (&from)[32], const u32 (&filled)[32], u32 mask,
                  u32 size, u32 line, u32 access);
void commit_copies(Warp& w, u32 mask);
void wait_copies(Warp& w, u32 mask, u32 groups_left, bool uncommitted_too);

void arrive(Warp& w, u32 barrier, u32 threads, bool wait, u32 mask, u32 line);
bool finish_barriers(Block& b);

// A collective for the lanes `named`, as far as they have not left the kernel: `mask` of those in
// `step` execute it. If others are elsewhere and the step begins with the collective, `begins`, its
// lanes wait for them at the step's `pc`, and the result is false. `stray` lanes are not named.
struct Meeting {
  u32 named, stray, mask, step, pc, line;
  bool begins;
  const char* what;
};
bool meet(Warp& w, const Meeting& meeting);
void load_matrices(Warp& w, u64 (&rows)[32], u32 count, bool transposed, u32 (*out)[32],
                   u32 line);

template <class T>
static inline T* lanes_at(Warp& w, u64 offset) {
  return static_cast<T*>(__builtin_assume_aligned(w.registers + offset, 64));
}

inline void Warp::enter(u32 mask, u32 instructions) {
  entered = instructions;
  block->counts.instructions += instructions;
  if (mask != ~0u) block->counts.divergent += instructions;
}
static inline void lanes_of(u32 mask, u32 (&on)[32]) {
  LANES (l) on[l] = 0 - (mask >> l & 1);
}
static inline u32 mask_of(const u32 (&predicate)[32]) {
  u32 mask = 0;
  LANES (l) mask |= (predicate[l] & 1) << l;
  return mask;
}
