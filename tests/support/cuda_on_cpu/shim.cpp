/* Runs the threads of a block as fibers; see shim.h. */
#include "shim.h"

#include <stdlib.h>
#include <sys/mman.h>
#include <ucontext.h>

#define MOST_THREADS 1024
#define STACK (64 * 1024)

Place threadIdx, blockIdx, blockDim, gridDim;
/* Threads of the last kernel that ended without having waited for the one before it. */
extern "C" {
unsigned long long ended_unwaited;
}

typedef void (*Body)(const void *);
enum State { READY, AT_BLOCK, AT_WARP, DONE };

static ucontext_t scheduler, fibers[MOST_THREADS];
static State state[MOST_THREADS];
static int exchanges[MOST_THREADS]; /* that a fiber has come to */
static bool waited[MOST_THREADS];   /* for the kernel before */
static Shown shown[MOST_THREADS / 32][2][32];
static char *stacks;
static unsigned current;
static Body body;
static const void *arguments;

#if defined(__x86_64__)
/* swapcontext asks the system for its signals each time: too slow for thousands of exchanges. */
static void *own_stack[MOST_THREADS], *scheduler_stack;
extern "C" void switch_stacks(void **from, void *to);
__asm__(
    ".globl switch_stacks\n"
    "switch_stacks:\n"
    "  push %rbp\n  push %rbx\n  push %r12\n  push %r13\n  push %r14\n  push %r15\n"
    "  mov %rsp, (%rdi)\n"
    "  mov %rsi, %rsp\n"
    "  pop %r15\n  pop %r14\n  pop %r13\n  pop %r12\n  pop %rbx\n  pop %rbp\n"
    "  ret\n");
#define SWITCH_IN(i) switch_stacks(&scheduler_stack, own_stack[i])
#define SWITCH_OUT(i) switch_stacks(&own_stack[i], scheduler_stack)
#else
#define SWITCH_IN(i) swapcontext(&scheduler, &fibers[i])
#define SWITCH_OUT(i) swapcontext(&fibers[i], &scheduler)
#endif

static void leave(State now) {
    const unsigned me = current;
    state[me] = now;
    SWITCH_OUT(me);
}

static void begin() {
    body(arguments);
    for (;;) leave(DONE);
}

void block_barrier() { leave(AT_BLOCK); }
void warp_barrier() { leave(AT_WARP); }
void wait_noted() { waited[current] = true; }

Shown *show(const uint32_t *numbers, int count) {
    Shown *all = shown[threadIdx.x / 32][exchanges[threadIdx.x]++ % 2];
    memcpy(all[threadIdx.x % 32], numbers, count * sizeof *numbers);
    warp_barrier();
    return all;
}

/* Lets those go on that wait in `at` and are all of `from`..`to` that still run. */
static bool let_go(unsigned from, unsigned to, State at) {
    bool any = false;
    for (unsigned i = from; i < to; i++) {
        if (state[i] != at && state[i] != DONE) return false;
        any |= state[i] == at;
    }
    for (unsigned i = from; i < to; i++) {
        if (state[i] == at) state[i] = READY;
    }
    return any;
}

static void prepare(unsigned i) {
    char *stack = stacks + (size_t)i * STACK;
#if defined(__x86_64__)
    void **top = (void **)(stack + STACK);
    *--top = 0; /* where a call would have left its return address: keeps the stack aligned */
    *--top = (void *)begin;
    for (int saved = 0; saved < 6; saved++) *--top = 0;
    own_stack[i] = top;
#else
    getcontext(&fibers[i]);
    fibers[i].uc_stack.ss_sp = stack;
    fibers[i].uc_stack.ss_size = STACK;
    makecontext(&fibers[i], begin, 0);
#endif
    state[i] = READY;
    exchanges[i] = 0;
    waited[i] = false;
}

/* 0, or -1 where the threads wait for each other for ever: not all come to the same barrier. */
static int run_block(unsigned threads) {
    for (unsigned i = 0; i < threads; i++) prepare(i);
    for (;;) {
        bool ran = false;
        for (unsigned warp = 0; warp < threads; warp += 32) {
            const unsigned end = warp + 32 < threads ? warp + 32 : threads;
            do {
                for (unsigned i = warp; i < end; i++) {
                    if (state[i] != READY) continue;
                    current = i;
                    threadIdx.x = i;
                    SWITCH_IN(i);
                    ran = true;
                }
            } while (let_go(warp, end, AT_WARP));
        }
        bool done = true;
        for (unsigned i = 0; i < threads; i++) done &= state[i] == DONE;
        if (done) {
            for (unsigned i = 0; i < threads; i++) ended_unwaited += !waited[i];
            return 0;
        }
        if (!let_go(0, threads, AT_BLOCK) && !ran) return -1;
    }
}

extern "C" int run(Body kernel, const void *its_arguments, unsigned x, unsigned y, unsigned z,
                   unsigned threads) {
    if (threads > MOST_THREADS) return -1;
    if (!stacks) {
        stacks = (char *)mmap(0, (size_t)MOST_THREADS * STACK, PROT_READ | PROT_WRITE,
                              MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (stacks == MAP_FAILED) return -1;
    }
    ended_unwaited = 0;
    body = kernel;
    arguments = its_arguments;
    blockDim = {threads, 1, 1};
    gridDim = {x, y, z};
    for (blockIdx.z = 0; blockIdx.z < z; blockIdx.z++) {
        for (blockIdx.y = 0; blockIdx.y < y; blockIdx.y++) {
            for (blockIdx.x = 0; blockIdx.x < x; blockIdx.x++) {
                if (run_block(threads)) return -1;
            }
        }
    }
    return 0;
}
