/* A team of threads that runs one function together, and the little that it needs to do so. */
#ifndef POOL_H
#define POOL_H

#include <immintrin.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>

#define MOST_THREADS 64
/* Waits are short, but for a core that two members share: then one waits for the other to get it. */
#define SPINS 100 /* a microsecond or two: a member that waits longer lets others run */
#define YIELDS 50 /* and one that waits for work so often, sleeps */

typedef struct Pool Pool;
typedef void (*Work)(Pool *pool, int member, void *argument);

struct Pool {
    int members;
    pthread_t threads[MOST_THREADS];
    pthread_mutex_t busy;  /* one call at a time */
    pthread_mutex_t sleep; /* guards `call` for those that sleep */
    pthread_cond_t wake;
    atomic_int call; /* counts the calls; negative: go home */
    atomic_int arrived, round;
    _Alignas(64) atomic_long next; /* the first piece of work that nobody has taken */
    Work work;
    void *argument;
};

/* Pass the time between two looks at what is waited for, the number of looks so far given. */
static inline void pool_pause(int looks) {
    if (looks < SPINS)
        _mm_pause();
    else
        sched_yield();
}

/* Wait until all members are here. `next` is 0 again afterwards. */
static inline void pool_meet(Pool *pool) {
    int round = atomic_load_explicit(&pool->round, memory_order_acquire);
    if (atomic_fetch_add(&pool->arrived, 1) == pool->members - 1) {
        atomic_store(&pool->next, 0);
        atomic_store(&pool->arrived, 0);
        atomic_store_explicit(&pool->round, round + 1, memory_order_release);
        return;
    }
    for (int looks = 0; atomic_load_explicit(&pool->round, memory_order_acquire) == round; looks++)
        pool_pause(looks);
}

/* The next piece of `count`, or -1 when all are taken. */
static inline long pool_take(Pool *pool, long count) {
    long piece = atomic_fetch_add_explicit(&pool->next, 1, memory_order_relaxed);
    return piece < count ? piece : -1;
}

void pool_run(Pool *pool, Work work, void *argument);

#endif
