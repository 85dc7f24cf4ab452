/* The thread pool that runs the parallel loops of compiled code, in place of TVM's.
 *
 * TVM's pool pins its threads to cores, gives every thread one equal part of a loop, and yields
 * hundreds of thousands of times before it sleeps. One other busy process then stops it: a part
 * waits for its core, and everything waits for the part. This pool does not pin. It cuts a loop into
 * more pieces than threads, and a thread that has finished its share takes pieces of the others.
 * Waiting spins briefly, then sleeps in the kernel (futex). A thread that was preempted within a
 * piece still holds up the loop. So the pool compares the time of its loops with what one thread
 * would have taken, and works alone for a while when that is less.
 *
 * The file is linked into every compiled library and into the native program. It includes no header,
 * because a cross compiler may have none. The functions of the C library come as pointers: imported
 * ones would tie a library to the version of the C library that it was linked with.
 */

#include "pool.h"

#ifdef __cplusplus /* g++ compiles a .c file as C++ */
#define WEAK extern "C" __attribute__((weak))
#else
#define WEAK extern __attribute__((weak))
#endif
#define ALIGNED __attribute__((aligned(64))) /* a cache line of its own */

typedef unsigned long long u64;
typedef unsigned int u32;

/* Weak: the native program does not lend all of them to a library, whose own pool it does not use. */
WEAK void TVMFFIErrorMoveFromRaised(void** error);
WEAK void TVMFFIErrorSetRaised(void* error);
WEAK int TVMFFIObjectDecRef(void* object);

#if defined(__x86_64__)
enum { FUTEX = 202, SIGNAL_MASK = 14 };
#define RELAX() __builtin_ia32_pause()
#elif defined(__aarch64__)
enum { FUTEX = 98, SIGNAL_MASK = 135 };
#define RELAX() __asm__ volatile("isb" ::: "memory") /* yield is a no-op on most cores */
#else
#error "the thread pool knows the system calls of x86-64 and aarch64 only"
#endif
enum { WAIT_PRIVATE = 128, WAKE_PRIVATE = 129, SET_MASK = 2, MONOTONIC = 1, THREAD_CPU = 3 };

/* SIGILL, SIGTRAP, SIGBUS, SIGFPE and SIGSEGV: the bit of signal n is n - 1. */
static const u64 FAULTS = 1 << 3 | 1 << 4 | 1 << 6 | 1 << 7 | 1 << 10;

enum { PIECES_PER_THREAD = 8, RELAXES_PER_LOOK = 32 };

/* Nanoseconds. A worker waits through the gaps between the loops of a decode step, 0.3 ms on average
 * at full size: waking it costs more. The launcher gives its core up sooner: the scheduler can then move a
 * preempted worker there. */
static const u64 WORKER_SPIN = 2000000, LAUNCHER_SPIN = 20000;
/* The time of loops after which they are compared with one thread. It takes the scheduler a few ticks
 * to move a worker that woke on the launcher's core to an idle one. */
static const u64 COMPARED = 16000000;
/* Time alone if one thread is as fast; it grows fourfold each time, and shrinks if several are faster. */
static const u64 SHORTEST_ALONE = 10000000, LONGEST_ALONE = 640000000;

typedef struct {
  u64 word ALIGNED; /* end << 32 | next: the pieces that nobody has taken yet */
} Share;

static struct {
  /* The loop. Valid while a piece of it is unfinished, and read only by owners of such a piece. */
  Parallel lambda ALIGNED;
  void* data;
  struct Environment environment;
  void* error; /* the first error that was raised, owned */
  int failed;

  u32 loop ALIGNED; /* counts loops; workers sleep on it */
  u32 sleepers;

  u32 unfinished ALIGNED; /* pieces; the launcher sleeps on it */
  u32 launcher_sleeps;
  u64 others; /* nanoseconds that the workers took for their pieces */

  int busy ALIGNED; /* a thread is launching */
  int wanted;       /* threads for the next loop, the launcher included; 0: one */
  int crew;         /* threads of the current loop */
  int started;      /* workers */
  u64 alone_until, alone;
  /* Of the loops compared so far: their time, the launcher's pieces, what the others' pieces would
   * have taken it, and its sleep; and its CPU time when the first of them began. */
  u64 together, own, others_alone, slept, began_cpu;

  struct System system;
  Share shares[MOST_THREADS];
} pool;

static u64 Read(int clock) {
  struct Time time;
  pool.system.clock_gettime(clock, &time);
  return (u64)time.seconds * 1000000000u + (u64)time.nanoseconds;
}

static u64 Now(void) { return Read(MONOTONIC); }

static void Sleep(u32* word, u32 value) { pool.system.syscall(FUTEX, word, WAIT_PRIVATE, value, 0, 0, 0); }

static void Wake(u32* word, int count) { pool.system.syscall(FUTEX, word, WAKE_PRIVATE, count, 0, 0, 0); }

/* Spins until *word is `value` (or, if `equal` is 0, is not); 0 after `limit` nanoseconds. */
static int Spin(const u32* word, u32 value, int equal, u64 limit) {
  u64 start = 0;
  for (;;) {
    for (int i = 0; i < RELAXES_PER_LOOK; ++i) {
      if ((__atomic_load_n(word, __ATOMIC_ACQUIRE) == value) == equal) return 1;
      RELAX();
    }
    u64 now = Now();
    if (start == 0) start = now;
    if (now - start > limit) return 0;
  }
}

static void KeepError(void) {
  void* error = 0;
  if (TVMFFIErrorMoveFromRaised) TVMFFIErrorMoveFromRaised(&error);
  void* none = 0;
  __atomic_store_n(&pool.failed, 1, __ATOMIC_RELAXED);
  if (error && !__atomic_compare_exchange_n(&pool.error, &none, error, 0, __ATOMIC_ACQ_REL,
                                            __ATOMIC_RELAXED)) {
    TVMFFIObjectDecRef(error);
  }
}

/* Takes the next piece of a share; returns its number, or -1 if the share is used up. */
static int TakePiece(Share* share) {
  u64 word = __atomic_load_n(&share->word, __ATOMIC_RELAXED);
  if ((u32)word >= (u32)(word >> 32)) return -1;
  word = __atomic_fetch_add(&share->word, 1, __ATOMIC_ACQ_REL);
  return (u32)word < (u32)(word >> 32) ? (int)(u32)word : -1;
}

/* Runs pieces of the current loop until all are taken: first the thread's own share. All belong to
 * one loop, since the next one begins only after they are finished. */
static u32 TakePieces(int self, int crew) {
  u32 taken = 0;
  for (int i = 0; i < crew; ++i) {
    Share* share = &pool.shares[(self + i) % crew];
    for (int piece; (piece = TakePiece(share)) >= 0; ++taken) {
      if (pool.lambda(piece, &pool.environment, pool.data)) KeepError();
    }
  }
  return taken;
}

static void Finish(u32 pieces) {
  if (pieces == 0 || __atomic_sub_fetch(&pool.unfinished, pieces, __ATOMIC_SEQ_CST)) return;
  if (__atomic_load_n(&pool.launcher_sleeps, __ATOMIC_SEQ_CST)) Wake(&pool.unfinished, 1);
}

static void* Work(void* index) {
  int self = (int)(long)index;
  u32 seen = 0;
  for (;;) {
    if (!Spin(&pool.loop, seen, 0, WORKER_SPIN)) {
      __atomic_add_fetch(&pool.sleepers, 1, __ATOMIC_SEQ_CST);
      while (__atomic_load_n(&pool.loop, __ATOMIC_SEQ_CST) == seen) Sleep(&pool.loop, seen);
      __atomic_sub_fetch(&pool.sleepers, 1, __ATOMIC_SEQ_CST);
    }
    seen = __atomic_load_n(&pool.loop, __ATOMIC_ACQUIRE);
    int crew = __atomic_load_n(&pool.crew, __ATOMIC_RELAXED);
    if (self >= crew) continue;
    u64 start = Now();
    u32 taken = TakePieces(self, crew);
    if (taken) __atomic_add_fetch(&pool.others, Now() - start, __ATOMIC_RELAXED);
    Finish(taken);
  }
  return 0;
}

/* Starts the missing workers, which inherit blocked signals: handlers run in the caller's threads.
 * Only faults are not blocked: they cannot be delayed, so the kernel would end the process without
 * calling their handlers.
 * Returns how many threads there are; fewer than wanted if the system refuses more. */
static int StartWorkers(int wanted) {
  u64 blocked = ~FAULTS, old = 0;
  if (pool.started + 1 >= wanted) return pool.started + 1;
  pool.system.syscall(SIGNAL_MASK, SET_MASK, &blocked, &old, sizeof(blocked));
  while (pool.started + 1 < wanted) {
    unsigned long thread;
    void* index = (void*)(long)(pool.started + 1);
    if (pool.system.pthread_create(&thread, 0, Work, index)) break;
    pool.system.pthread_detach(thread);
    ++pool.started;
  }
  pool.system.syscall(SIGNAL_MASK, SET_MASK, &old, 0, sizeof(old));
  return pool.started + 1;
}

static int RunAlone(Parallel lambda, void* data, int pieces) {
  struct Environment environment = {0, pieces > 0 ? pieces : 1};
  for (int i = 0; i < environment.num_task; ++i) {
    if (lambda(i, &environment, data)) return -1;
  }
  return 0;
}

static void SleepUntilFinished(void) {
  __atomic_store_n(&pool.launcher_sleeps, 1, __ATOMIC_SEQ_CST);
  u32 left;
  while ((left = __atomic_load_n(&pool.unfinished, __ATOMIC_SEQ_CST)) != 0) {
    Sleep(&pool.unfinished, left);
  }
  __atomic_store_n(&pool.launcher_sleeps, 0, __ATOMIC_RELAXED);
}

static void WaitForOthers(void) {
  if (Spin(&pool.unfinished, 0, 1, LAUNCHER_SPIN)) return;
  u64 start = Now();
  SleepUntilFinished();
  pool.slept += Now() - start;
}

static void BeginComparing(void) {
  pool.together = pool.own = pool.others_alone = pool.slept = 0;
  pool.began_cpu = Read(THREAD_CPU);
}

/* Whether one thread would have been as fast in the loops compared. It would not have shared its core:
 * time for which the launcher was preempted does not count. */
static int OneIsFaster(void) {
  u64 used = Read(THREAD_CPU) - pool.began_cpu + pool.slept;
  u64 preempted = pool.together > used ? pool.together - used : 0;
  u64 own = pool.own > preempted ? pool.own - preempted : 0;
  if (own < pool.own / 4) own = pool.own / 4; /* another thread launched: its clock is another */
  double alone = (double)own * (1 + (double)pool.others_alone / (double)(pool.own + 1));
  return (double)pool.together > 0.95 * alone;
}

/* Decides after some milliseconds of loops whether the next ones run alone. The time of a preempted
 * worker says nothing: at most that of as many pieces of the launcher counts. */
static void Compare(u64 start, u64 own_end, u32 taken, u32 pieces) {
  u64 end = Now(), own = own_end - start;
  u64 others = __atomic_load_n(&pool.others, __ATOMIC_RELAXED);
  u64 most = own * (pieces - taken) / (taken ? taken : 1);
  pool.together += end - start;
  pool.own += own;
  pool.others_alone += others < most ? others : most;
  if (pool.together < COMPARED) return;
  if (OneIsFaster()) {
    if (end - pool.alone_until > 4 * pool.alone) pool.alone = SHORTEST_ALONE; /* it was calm */
    pool.alone_until = end + pool.alone;
    pool.alone = pool.alone < LONGEST_ALONE / 4 ? 4 * pool.alone : LONGEST_ALONE;
  } else if (pool.alone > SHORTEST_ALONE) {
    pool.alone -= pool.alone / 4;
  }
  pool.together = 0;
}

static void Publish(Parallel lambda, void* data, int pieces, int threads) {
  pool.lambda = lambda;
  pool.data = data;
  pool.environment = (struct Environment){0, pieces};
  pool.failed = 0;
  __atomic_store_n(&pool.others, 0, __ATOMIC_RELAXED);
  __atomic_store_n(&pool.crew, threads, __ATOMIC_RELAXED);
  __atomic_store_n(&pool.unfinished, (u32)pieces, __ATOMIC_RELAXED);
  for (int i = 0; i < threads; ++i) {
    u64 first = (u64)pieces * (u64)i / (u64)threads;
    u64 end = (u64)pieces * (u64)(i + 1) / (u64)threads;
    __atomic_store_n(&pool.shares[i].word, end << 32 | first, __ATOMIC_RELEASE);
  }
  __atomic_add_fetch(&pool.loop, 1, __ATOMIC_SEQ_CST);
  if (__atomic_load_n(&pool.sleepers, __ATOMIC_SEQ_CST)) Wake(&pool.loop, threads - 1);
}

static int RaiseError(void) {
  void* error = __atomic_exchange_n(&pool.error, 0, __ATOMIC_ACQ_REL);
  if (error && TVMFFIErrorSetRaised) {
    TVMFFIErrorSetRaised(error);
    TVMFFIObjectDecRef(error);
  }
  return -1;
}

int HandglassParallelLaunch(Parallel lambda, void* data, int pieces) {
  int threads = __atomic_load_n(&pool.wanted, __ATOMIC_RELAXED);
  if (threads < 2 || pieces == 1) return RunAlone(lambda, data, pieces);
  /* A second thread that launches, or a loop within a piece, does its work itself. */
  if (__atomic_exchange_n(&pool.busy, 1, __ATOMIC_ACQUIRE)) return RunAlone(lambda, data, pieces);
  u64 start = Now();
  int result;
  threads = StartWorkers(threads);
  if (threads < 2 || start < pool.alone_until) {
    result = RunAlone(lambda, data, pieces);
  } else {
    if (pool.together == 0) BeginComparing();
    if (pieces <= 0) pieces = threads * PIECES_PER_THREAD;
    Publish(lambda, data, pieces, threads);
    u32 taken = TakePieces(0, threads);
    u64 own_end = Now();
    Finish(taken);
    WaitForOthers();
    Compare(start, own_end, taken, (u32)pieces);
    result = pool.failed ? RaiseError() : 0;
  }
  __atomic_store_n(&pool.busy, 0, __ATOMIC_RELEASE);
  return result;
}

void HandglassStartPool(const struct System* system) {
  pool.system = *system;
  pool.alone = SHORTEST_ALONE;
}

void HandglassSetThreads(int threads) {
  if (threads < 1 || !pool.system.pthread_create) threads = 1;
  if (threads > MOST_THREADS) threads = MOST_THREADS;
  __atomic_store_n(&pool.wanted, threads, __ATOMIC_RELAXED);
}

void HandglassForgetThreads(void) {
  pool.started = pool.busy = 0;
  pool.sleepers = pool.launcher_sleeps = pool.unfinished = 0;
  pool.alone = SHORTEST_ALONE;
  pool.alone_until = pool.together = 0;
  pool.error = 0;
  for (int i = 0; i < MOST_THREADS; ++i) pool.shares[i].word = 0; /* of a loop of the parent */
}
