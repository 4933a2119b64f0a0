#include "pool.h"

typedef struct {
    Pool *pool;
    int member;
} Place;

static void *stay(void *given) {
    Place place = *(Place *)given;
    free(given);
    Pool *pool = place.pool;
    for (int seen = 0;;) {
        int call;
        int looks = 0;
        while ((call = atomic_load(&pool->call)) == seen && looks < SPINS + YIELDS)
            pool_pause(looks++);
        if (call == seen) {
            pthread_mutex_lock(&pool->sleep);
            while ((call = atomic_load(&pool->call)) == seen)
                pthread_cond_wait(&pool->wake, &pool->sleep);
            pthread_mutex_unlock(&pool->sleep);
        }
        if (call < 0) return NULL;
        seen = call;
        pool->work(pool, place.member, pool->argument);
        pool_meet(pool);
    }
}

static void announce(Pool *pool, int call) {
    pthread_mutex_lock(&pool->sleep);
    atomic_store(&pool->call, call);
    pthread_cond_broadcast(&pool->wake);
    pthread_mutex_unlock(&pool->sleep);
}

/* A team of `members` threads, the caller counted; NULL where there is no memory for it. */
Pool *pool_open(int members) {
    Pool *pool = aligned_alloc(64, (sizeof(Pool) + 63) / 64 * 64);
    if (!pool) return NULL;
    *pool = (Pool){.members = 1};
    pthread_mutex_init(&pool->busy, NULL);
    pthread_mutex_init(&pool->sleep, NULL);
    pthread_cond_init(&pool->wake, NULL);
    for (; pool->members < members && pool->members < MOST_THREADS; pool->members++) {
        Place *place = malloc(sizeof *place);
        if (!place) break;
        *place = (Place){pool, pool->members};
        if (pthread_create(&pool->threads[pool->members], NULL, stay, place)) {
            free(place);
            break;
        }
    }
    return pool;
}

/* Send the team home and free it; nobody may be using it. */
void pool_close(Pool *pool) {
    announce(pool, -1);
    for (int member = 1; member < pool->members; member++)
        pthread_join(pool->threads[member], NULL);
    free(pool);
}

/* Run `work` on every member, the caller being member 0; back when all have ended. */
void pool_run(Pool *pool, Work work, void *argument) {
    pthread_mutex_lock(&pool->busy);
    pool->work = work;
    pool->argument = argument;
    atomic_store(&pool->next, 0);
    int call = atomic_load(&pool->call);
    if (pool->members > 1) announce(pool, call == 1 << 30 ? 1 : call + 1);
    work(pool, 0, argument);
    pool_meet(pool);
    pthread_mutex_unlock(&pool->busy);
}
