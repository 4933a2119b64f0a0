/* CUDA C's words for a C++ compiler, so that kernels run on a CPU: slowly, one thread at a time.

   A block's threads are fibers of one thread. A fiber runs until it needs the others: at a barrier
   of its block, or where the lanes of its warp exchange numbers. Blocks run one after the other,
   so that what is shared within a block may be static, and what blocks add up needs no locks. */
#pragma once
#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define ON_CPU
#define __device__
#define __forceinline__ inline __attribute__((always_inline))
#define __shared__ static
#define KERNEL(name, Arguments, threads, body) \
    extern "C" void name(const void *arguments) { body(*(const Arguments *)arguments); } \
    extern "C" const size_t name##_size = sizeof(Arguments);

struct Place {
    unsigned x, y, z;
};
struct uint4 {
    unsigned x, y, z, w;
};
struct uint2 {
    unsigned x, y;
};
extern Place threadIdx, blockIdx, blockDim, gridDim;

/* Waits for all threads of the block, or of the warp, that still run. */
void block_barrier();
void warp_barrier();

/* That this thread has waited for the kernel before, which here has ended long since. */
void wait_noted();

/* What a lane shows the others of its warp: two places, used by turns, for a lane may come to the
   next exchange before others have read this one. Gives those of all lanes. */
typedef uint32_t Shown[8];
Shown *show(const uint32_t *numbers, int count);

static inline void __syncthreads() { block_barrier(); }
static inline void __syncwarp() { warp_barrier(); }
static inline void __threadfence() {}

static inline unsigned __float_as_uint(float x) {
    unsigned bits;
    memcpy(&bits, &x, 4);
    return bits;
}
static inline float __uint_as_float(unsigned bits) {
    float x;
    memcpy(&x, &bits, 4);
    return x;
}
static inline float rsqrtf(float x) { return 1 / sqrtf(x); }
static inline int min(int x, int y) { return x < y ? x : y; }
static inline long long min(long long x, long long y) { return x < y ? x : y; }
static inline long long max(long long x, long long y) { return x > y ? x : y; }
static inline unsigned max(unsigned x, unsigned y) { return x < y ? y : x; }
static inline unsigned long long min(unsigned long long x, unsigned long long y) {
    return x < y ? x : y;
}
static inline int __popc(unsigned x) { return __builtin_popcount(x); }
static inline int __ffs(unsigned x) { return __builtin_ffs((int)x); }
static inline unsigned __byte_perm(unsigned x, unsigned y, unsigned selected) {
    const uint64_t bytes = (uint64_t)y << 32 | x;
    unsigned out = 0;
    for (int i = 0; i < 4; i++) {
        out |= (unsigned)(bytes >> 8 * (selected >> 4 * i & 7) & 0xff) << 8 * i;
    }
    return out;
}
static inline float __ldcg(const float *at) { return *at; }
static inline unsigned atomicAdd(unsigned *at, unsigned x) {
    const unsigned before = *at;
    *at += x;
    return before;
}
static inline int atomicAdd(int *at, int x) {
    const int before = *at;
    *at += x;
    return before;
}

static inline unsigned atomicMax(unsigned *at, unsigned x) {
    const unsigned before = *at;
    *at = x > before ? x : before;
    return before;
}

static inline float __shfl_xor_sync(unsigned, float x, int apart) {
    const uint32_t bits = __float_as_uint(x);
    return __uint_as_float(show(&bits, 1)[(threadIdx.x % 32) ^ apart][0]);
}
static inline unsigned long long __shfl_xor_sync(unsigned, unsigned long long x, int apart) {
    const uint32_t halves[2] = {(uint32_t)x, (uint32_t)(x >> 32)};
    const uint32_t *theirs = show(halves, 2)[(threadIdx.x % 32) ^ apart];
    return (unsigned long long)theirs[1] << 32 | theirs[0];
}
static inline int __reduce_add_sync(unsigned, int x) {
    const uint32_t bits = (uint32_t)x;
    Shown *all = show(&bits, 1);
    int sum = 0;
    for (int lane = 0; lane < 32; lane++) sum += (int)all[lane][0];
    return sum;
}
static inline unsigned __ballot_sync(unsigned, bool x) {
    const uint32_t bits = x;
    Shown *all = show(&bits, 1);
    unsigned ballot = 0;
    for (int lane = 0; lane < 32; lane++) ballot |= all[lane][0] << lane;
    return ballot;
}

/* What device.cuh has in NVIDIA's assembly. */
static inline uint4 read_once(const void *at) { return *(const uint4 *)at; }
static inline void wait_for_the_last() { wait_noted(); }
static inline void let_the_next_begin() {}
template <int THREADS> static inline void barrier_of() { block_barrier(); }
static inline float shim_half(uint32_t pair, int which) {
    return __uint_as_float(which ? pair & 0xffff0000u : pair << 16);
}
static inline uint32_t shim_rounded(float x) {
    const uint32_t bits = __float_as_uint(x);
    return (bits + 0x7fffu + (bits >> 16 & 1u)) >> 16;
}
static inline uint32_t sum_of(uint32_t x, uint32_t y) {
    return shim_rounded(shim_half(x, 0) + shim_half(y, 0))
        | shim_rounded(shim_half(x, 1) + shim_half(y, 1)) << 16;
}
static inline void multiply(float (&c)[4], uint32_t a0, uint32_t a1, uint32_t a2, uint32_t a3,
                            uint32_t b0, uint32_t b1) {
    const uint32_t mine[6] = {a0, a1, a2, a3, b0, b1};
    Shown *all = show(mine, 6);
    const int lane = threadIdx.x % 32, g = lane / 4, t = lane % 4;
    for (int i = 0; i < 4; i++) {
        const int low = i / 2, column = 2 * t + i % 2;
        float sum = 0;
        for (int k = 0; k < 16; k++) {
            const int quarter = k % 8 / 2, high = k / 8;
            sum += shim_half(all[g * 4 + quarter][2 * high + low], k % 2)
                * shim_half(all[column * 4 + quarter][4 + high], k % 2);
        }
        c[i] += sum;
    }
}
