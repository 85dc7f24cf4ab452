/* The thread pool of compiled code (pool.c). */

#ifndef HANDGLASS_THREADS_POOL_H_
#define HANDGLASS_THREADS_POOL_H_

#ifdef __cplusplus
extern "C" {
#endif

enum { MOST_THREADS = 256 };

/* TVMParallelGroupEnv: what a piece of a loop reads. No piece of ours waits at a barrier. */
struct Environment {
  void* sync_handle;
  int num_task; /* pieces */
};

/* FTVMParallelLambda: runs piece `task_id` of a loop; not 0 if it raised an error. */
typedef int (*Parallel)(int task_id, struct Environment* environment, void* data);

struct Time { /* timespec of the two 64-bit architectures */
  long seconds, nanoseconds;
};

/* Functions of the C library. */
struct System {
  int (*pthread_create)(unsigned long* thread, const void* attributes, void* (*run)(void*), void*);
  int (*pthread_detach)(unsigned long thread);
  int (*clock_gettime)(int clock, struct Time* time);
  long (*syscall)(long number, ...);
};

/* To be called first; without it there is one thread. */
void HandglassStartPool(const struct System* system);

/* TVMBackendParallelLaunch: runs all pieces of a loop. `pieces`: 0 leaves the number to the pool.
 * Returns 0, or -1 with the first error of a piece raised. */
int HandglassParallelLaunch(Parallel lambda, void* data, int pieces);

/* Sets the number of threads, 1 to MOST_THREADS; workers start with the next loop. */
void HandglassSetThreads(int threads);

/* To be called in the child of a fork, which has none of its parent's workers. */
void HandglassForgetThreads(void);

#ifdef __cplusplus
}
#endif

#endif  // HANDGLASS_THREADS_POOL_H_
