/* Runs the thread pool (runtime/threads/pool.c): pool_driver CASE THREADS LOOPS.
 *
 * Every case checks that each piece of each loop ran exactly once, and that it ended before the
 * launch returned. Prints "ok" and a summary. Exit code 1: a check failed.
 */

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "pool.h"

enum { MOST_PIECES = 8 * MOST_THREADS };

typedef struct {
  int runs[MOST_PIECES];
  int pieces; /* as the environment says */
  int nested; /* runs of the loop within a piece */
  int work;   /* additions of a piece */
} Loop;

static void Check(int holds, const char* what) {
  if (holds) return;
  printf("failed: %s\n", what);
  fflush(stdout);
  _exit(1);
}

static int Piece(int piece, struct Environment* environment, void* data) {
  Loop* loop = (Loop*)data;
  Check(piece >= 0 && piece < environment->num_task, "number of the piece");
  Check(environment->num_task <= MOST_PIECES, "number of pieces");
  volatile int sum = 0;
  for (int i = 0; i < loop->work; ++i) sum += i;
  __atomic_add_fetch(&loop->runs[piece], 1, __ATOMIC_RELAXED);
  __atomic_store_n(&loop->pieces, environment->num_task, __ATOMIC_RELAXED);
  return 0;
}

static void CheckOnce(const Loop* loop, int asked) {
  Check(asked == 0 || loop->pieces == asked, "pieces as asked");
  for (int i = 0; i < MOST_PIECES; ++i) Check(loop->runs[i] == (i < loop->pieces), "once each");
}

static void Run(int asked, int work) {
  Loop loop;
  memset(&loop, 0, sizeof(loop));
  loop.work = work;
  Check(HandglassParallelLaunch(Piece, &loop, asked) == 0, "result");
  CheckOnce(&loop, asked);
}

static void RunMany(int loops, unsigned seed) {
  for (int i = 0; i < loops; ++i) {
    int asked = rand_r(&seed) % 4 == 0 ? 1 + (int)(rand_r(&seed) % 100) : 0;
    Run(asked, rand_r(&seed) % 8 == 0 ? (int)(rand_r(&seed) % 20000) : (int)(rand_r(&seed) % 50));
    if (i % 1000 == 999) usleep(500); /* the workers fall asleep */
  }
}

static void* RunInThread(void* loops) {
  RunMany((int)(long)loops, (unsigned)(size_t)pthread_self());
  return 0;
}

static void RunInFourThreads(int loops) {
  pthread_t threads[4];
  for (int i = 0; i < 4; ++i) pthread_create(&threads[i], 0, RunInThread, (void*)(long)loops);
  for (int i = 0; i < 4; ++i) pthread_join(threads[i], 0);
}

static int Nested(int piece, struct Environment* environment, void* data) {
  (void)piece, (void)environment, (void)data;
  Run(7, 10);
  return 0;
}

static int Failing(int piece, struct Environment* environment, void* data) {
  __atomic_add_fetch((int*)data, 1, __ATOMIC_RELAXED);
  return piece == environment->num_task - 1 ? -1 : 0;
}

static void RunFailing(int loops) {
  for (int i = 0; i < loops; ++i) {
    int runs = 0;
    Check(HandglassParallelLaunch(Failing, &runs, 0) == -1, "the error arrives");
    Run(0, 10); /* and does not stay */
  }
}

static void RunForks(int loops) {
  for (int i = 0; i < loops; ++i) {
    Run(0, 100);
    pid_t child = fork();
    if (child == 0) {
      HandglassForgetThreads();
      RunMany(50, (unsigned)i);
      _exit(0);
    }
    int status = 1;
    Check(waitpid(child, &status, 0) == child && status == 0, "the child");
  }
}

static void Resize(int loops, int threads) {
  for (int i = 0; i < loops; ++i) {
    HandglassSetThreads(1 + i % threads);
    Run(0, 200);
  }
}

static pthread_t launcher;

/* Counts the pieces of workers. In a worker a fault, which cannot be delayed, must find its handler;
 * a blocked one ends the process. */
static int Masked(int piece, struct Environment* environment, void* data) {
  static const int faults[] = {SIGILL, SIGTRAP, SIGBUS, SIGFPE, SIGSEGV};
  volatile int sum = 0;
  (void)piece, (void)environment;
  for (int i = 0; i < 20000; ++i) sum += i;
  if (pthread_equal(pthread_self(), launcher)) return 0;
  sigset_t blocked;
  pthread_sigmask(SIG_SETMASK, 0, &blocked);
  for (int i = 0; i < 5; ++i) Check(!sigismember(&blocked, faults[i]), "faults are delivered");
  Check(sigismember(&blocked, SIGINT) && sigismember(&blocked, SIGCHLD), "others are blocked");
  __atomic_add_fetch((int*)data, 1, __ATOMIC_RELAXED);
  return 0;
}

static void RunMasked(int loops, int threads) {
  int taken = 0;
  launcher = pthread_self();
  for (int i = 0; i < loops; ++i) HandglassParallelLaunch(Masked, &taken, 0);
  Check(taken > 0 || threads == 1, "workers take pieces");
}

int main(int count, char** arguments) {
  Check(count == 4, "usage");
  int threads = atoi(arguments[2]), loops = atoi(arguments[3]);
  struct System system = {(int (*)(unsigned long*, const void*, void* (*)(void*), void*))pthread_create,
                          pthread_detach, (int (*)(int, struct Time*))clock_gettime, syscall};
  HandglassStartPool(&system);
  HandglassSetThreads(threads);
  const char* name = arguments[1];
  if (!strcmp(name, "many")) RunMany(loops, 7);
  if (!strcmp(name, "concurrent")) RunInFourThreads(loops);
  if (!strcmp(name, "errors")) RunFailing(loops);
  if (!strcmp(name, "forks")) RunForks(loops);
  if (!strcmp(name, "resized")) Resize(loops, threads);
  if (!strcmp(name, "signals")) RunMasked(loops, threads);
  if (!strcmp(name, "nested")) {
    for (int i = 0; i < loops; ++i) Check(HandglassParallelLaunch(Nested, 0, 0) == 0, "nested");
  }
  printf("ok\n");
  return 0;
}
