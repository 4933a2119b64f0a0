/* What all kernels share: bfloat16, tensor cores, reading past the caches, sums over a warp.

   No includes: NVRTC needs none, and the image has no CUDA headers. What is NVIDIA's own assembly
   stands here alone, so that the same kernels run on a CPU, where tests bring their own of it
   (ON_CPU). */
#pragma once

typedef unsigned short bf16;
typedef unsigned int u32;
typedef unsigned long long u64;

#define WARP 32
#define ALL_LANES 0xffffffffu
#define INLINE __device__ __forceinline__
/* A kernel NAME whose arguments are one struct, and whose code is `body`. */
#ifndef KERNEL
#define KERNEL(name, Arguments, threads, body) \
    extern "C" __global__ void __launch_bounds__(threads) name(const Arguments a) { body(a); }
#endif

INLINE float float_of(bf16 x) { return __uint_as_float((u32)x << 16); }

/* To the nearest, of two the even one; what is no number stays none. */
INLINE bf16 bf16_of(float x) {
    u32 bits = __float_as_uint(x);
    if ((bits & 0x7fffffffu) > 0x7f800000u) return (bf16)(bits >> 16 | 0x40u);
    return (bf16)((bits + 0x7fffu + (bits >> 16 & 1u)) >> 16);
}

INLINE float low(u32 pair) { return __uint_as_float(pair << 16); }
INLINE float high(u32 pair) { return __uint_as_float(pair & 0xffff0000u); }
INLINE u32 pair_of(float x, float y) { return (u32)bf16_of(x) | (u32)bf16_of(y) << 16; }

#ifndef ON_CPU
/* Sixteen bytes that this kernel reads once: past the first cache. */
INLINE uint4 read_once(const void *at) {
    uint4 x;
    asm("ld.global.nc.L1::no_allocate.v4.u32 {%0, %1, %2, %3}, [%4];"
        : "=r"(x.x), "=r"(x.y), "=r"(x.z), "=r"(x.w) : "l"(at));
    return x;
}

/* c [16, 8] += a [16, 16] b [16, 8]. Of a lane's numbers, with g = lane / 4 and t = lane % 4:
     a0, a1  rows g and g + 8, columns 2t and 2t + 1;  a2, a3  the same, columns 2t + 8, 2t + 9
     b0, b1  rows 2t, 2t + 1 and 2t + 8, 2t + 9, column g
     c       rows g (0, 1) and g + 8 (2, 3), columns 2t and 2t + 1 */
INLINE void multiply(float (&c)[4], u32 a0, u32 a1, u32 a2, u32 a3, u32 b0, u32 b1) {
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
        "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));
}

/* The sums of two pairs of bfloat16, rounded: x * 1 + y, for only sm_90 can add alone. */
INLINE u32 sum_of(u32 x, u32 y) {
    u32 sum;
    asm("fma.rn.bf16x2 %0, %1, %2, %3;" : "=r"(sum) : "r"(x), "r"(0x3f803f80u), "r"(y));
    return sum;
}

/* Where a kernel may begin before the one ahead of it has ended: waits for that, and for all that
   it wrote; and lets the next one begin. Nothing elsewhere. */
INLINE void wait_for_the_last() {
#if __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}
INLINE void let_the_next_begin() {
#if __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}
/* Waits for the first THREADS threads of the block alone: the others have left. */
template <int THREADS>
INLINE void barrier_of() {
    asm volatile("bar.sync 1, %0;" ::"n"(THREADS) : "memory");
}
#endif

INLINE float sum_over(float x, int lanes_apart, int below) {
    for (int apart = lanes_apart; apart < below; apart *= 2) {
        x += __shfl_xor_sync(ALL_LANES, x, apart);
    }
    return x;
}
