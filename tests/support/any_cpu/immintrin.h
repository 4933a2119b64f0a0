/* Intel's functions that worker/speech/native uses, in plain C: so that the kernels can be tested
   where the CPU has none of them. Slow, and exact but for the last bits of sums. */
#ifndef ANY_CPU_H
#define ANY_CPU_H

/* All that the kernels include, before the words below mean something else. */
#include <errno.h>
#include <math.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* `__asm__ volatile(...)`, which holds a value in a register, does nothing. */
#define __asm__
#define volatile(...) ((void)0)

#define ANY static __attribute__((noinline, unused))
#define EACH(n) for (int i = 0; i < (n); i++)

typedef float __m512 __attribute__((vector_size(64)));
typedef double __m512d __attribute__((vector_size(64)));
typedef int32_t __m512i __attribute__((vector_size(64)));
typedef uint16_t __m512bh __attribute__((vector_size(64)));
typedef uint16_t __m256i __attribute__((vector_size(32)));
typedef uint16_t __m256bh __attribute__((vector_size(32)));
typedef int8_t __m128i __attribute__((vector_size(16)));
typedef uint16_t __mmask16;
typedef uint32_t u32x16 __attribute__((vector_size(64)));

#define _MM_HINT_T0 0
#define _CMP_GT_OQ 0
#define _mm_prefetch(place, hint) ((void)(place))
#define _mm_pause() ((void)0)

ANY uint32_t bits_of(float x) { uint32_t bits; memcpy(&bits, &x, 4); return bits; }
ANY float of_bits(uint32_t bits) { float x; memcpy(&x, &bits, 4); return x; }

/* float16 */
ANY float from_half(uint16_t half) {
    uint32_t sign = (uint32_t)(half & 0x8000) << 16, rest = half & 0x7fff;
    if (rest >= 0x7c00) return of_bits(sign | 0x7f800000 | (rest & 0x3ff) << 13);
    float x = of_bits(rest << 13) * 0x1p112f; /* the exponents' difference; subnormals too */
    return of_bits(sign | bits_of(x));
}
ANY uint16_t to_half(float x) {
    uint32_t sign = bits_of(x) >> 16 & 0x8000, rest = bits_of(x) & 0x7fffffff;
    if (rest > 0x7f800000) return (uint16_t)(sign | 0x7e00);
    if (rest >= 0x477ff000) return (uint16_t)(sign | 0x7c00);
    if (rest < 0x38800000) return (uint16_t)(sign | (uint32_t)rintf(of_bits(rest) * 0x1p24f));
    return (uint16_t)(sign | (rest - 0x38000000 + 0xfff + (rest >> 13 & 1)) >> 13);
}

/* Memory */
#define LOAD(name, type) ANY type name(const void *from) { type v; memcpy(&v, from, sizeof v); return v; }
#define STORE(name, type) ANY void name(void *to, type v) { memcpy(to, &v, sizeof v); }
LOAD(_mm512_loadu_ps, __m512)
LOAD(_mm512_load_si512, __m512i)
LOAD(_mm512_loadu_si512, __m512i)
LOAD(_mm256_loadu_si256, __m256i)
STORE(_mm512_storeu_ps, __m512)
STORE(_mm512_storeu_si512, __m512i)
STORE(_mm256_storeu_si256, __m256i)
STORE(_mm_storeu_si128, __m128i)

/* Arithmetic */
ANY __m512 _mm512_setzero_ps(void) { return (__m512){0}; }
ANY __m512 _mm512_set1_ps(float x) { return (__m512){0} + x; }
ANY __m512i _mm512_set1_epi32(int32_t x) { return (__m512i){0} + x; }
ANY __m512 _mm512_add_ps(__m512 a, __m512 b) { return a + b; }
ANY __m512 _mm512_sub_ps(__m512 a, __m512 b) { return a - b; }
ANY __m512 _mm512_mul_ps(__m512 a, __m512 b) { return a * b; }
ANY __m512 _mm512_div_ps(__m512 a, __m512 b) { return a / b; }
ANY __m512 _mm512_fmadd_ps(__m512 a, __m512 b, __m512 c) { return a * b + c; }
ANY __m512 _mm512_fnmadd_ps(__m512 a, __m512 b, __m512 c) { return c - a * b; }
ANY __m512i _mm512_add_epi32(__m512i a, __m512i b) { return a + b; }
ANY __m512i _mm512_and_si512(__m512i a, __m512i b) { return a & b; }
ANY __m512i _mm512_xor_si512(__m512i a, __m512i b) { return a ^ b; }
ANY __m512i _mm512_slli_epi32(__m512i a, int by) { return (__m512i)((u32x16)a << by); }
ANY __m512 _mm512_abs_ps(__m512 a) { return (__m512)((u32x16)a & 0x7fffffffu); }
ANY __m512 _mm512_max_ps(__m512 a, __m512 b) { EACH(16) a[i] = a[i] > b[i] ? a[i] : b[i]; return a; }
ANY __m512 nearest(__m512 a) { EACH(16) a[i] = rintf(a[i]); return a; }
#define _mm512_roundscale_ps(a, to_nearest) nearest(a)
ANY __m512 _mm512_scalef_ps(__m512 a, __m512 n) {
    EACH(16) a[i] = n[i] < -1000 ? 0 : ldexpf(a[i], (int)n[i]);
    return a;
}
ANY float _mm512_reduce_max_ps(__m512 a) { float y = a[0]; EACH(16) y = a[i] > y ? a[i] : y; return y; }
ANY float _mm512_reduce_add_ps(__m512 a) { float y = 0; EACH(16) y += a[i]; return y; }
ANY int32_t _mm512_reduce_add_epi32(__m512i a) { int32_t y = 0; EACH(16) y += a[i]; return y; }
ANY float _mm512_cvtss_f32(__m512 a) { return a[0]; }

/* Products of four pairs of bytes, the first unsigned; of two pairs of bfloat16. */
ANY __m512i _mm512_dpbusd_epi32(__m512i sums, __m512i a, __m512i b) {
    for (int byte = 0; byte < 4; byte++)
        sums += (__m512i)((u32x16)a >> (8 * byte) & 0xff) * ((__m512i)((u32x16)b << (24 - 8 * byte)) >> 24);
    return sums;
}
ANY __m512 _mm512_dpbf16_ps(__m512 sums, __m512bh a, __m512bh b) {
    sums += (__m512)((u32x16)a & 0xffff0000u) * (__m512)((u32x16)b & 0xffff0000u);
    return sums + (__m512)((u32x16)a << 16) * (__m512)((u32x16)b << 16);
}

/* Kinds */
ANY __m512 _mm512_cvtepi32_ps(__m512i a) { __m512 y; EACH(16) y[i] = (float)a[i]; return y; }
ANY __m512i _mm512_cvtps_epi32(__m512 a) { __m512i y; EACH(16) y[i] = (int32_t)rintf(a[i]); return y; }
ANY __m128i _mm512_cvtepi32_epi8(__m512i a) { __m128i y; EACH(16) y[i] = (int8_t)a[i]; return y; }
ANY __m512i _mm512_cvtepu16_epi32(__m256i a) { __m512i y; EACH(16) y[i] = a[i]; return y; }
ANY __m512 _mm512_cvtph_ps(__m256i a) { __m512 y; EACH(16) y[i] = from_half(a[i]); return y; }
ANY __m256i halves_of(__m512 a) { __m256i y; EACH(16) y[i] = to_half(a[i]); return y; }
#define _mm512_cvtps_ph(a, to_nearest) halves_of(a)
ANY __m256bh _mm512_cvtneps_pbh(__m512 a) {
    __m256bh y;
    EACH(16) y[i] = (uint16_t)((bits_of(a[i]) + 0x7fff + (bits_of(a[i]) >> 16 & 1)) >> 16);
    return y;
}
ANY __m512 _mm512_castpd_ps(__m512d a) { return (__m512)a; }
ANY __m512d _mm512_castps_pd(__m512 a) { return (__m512d)a; }
ANY __m512 _mm512_castsi512_ps(__m512i a) { return (__m512)a; }

/* Masks */
ANY __mmask16 greater(__m512 a, __m512 b) {
    unsigned mask = 0;
    EACH(16) mask |= (unsigned)(a[i] > b[i]) << i;
    return (__mmask16)mask;
}
#define _mm512_cmp_ps_mask(a, b, is_greater) greater(a, b)
ANY __m512 _mm512_mask_blend_ps(__mmask16 mask, __m512 a, __m512 b) {
    EACH(16) if (mask >> i & 1) a[i] = b[i];
    return a;
}
ANY __m512 _mm512_mask_mov_ps(__m512 a, __mmask16 mask, __m512 b) { return _mm512_mask_blend_ps(mask, a, b); }
ANY __m512 _mm512_maskz_div_ps(__mmask16 mask, __m512 a, __m512 b) {
    EACH(16) a[i] = mask >> i & 1 ? a[i] / b[i] : 0;
    return a;
}

/* Lanes: in each quarter of 128 bits, and whole quarters. */
ANY __m512 _mm512_unpacklo_ps(__m512 a, __m512 b) {
    __m512 y;
    EACH(16) y[i] = (i & 1 ? b : a)[(i & 12) + (i & 3) / 2];
    return y;
}
ANY __m512 _mm512_unpackhi_ps(__m512 a, __m512 b) {
    __m512 y;
    EACH(16) y[i] = (i & 1 ? b : a)[(i & 12) + 2 + (i & 3) / 2];
    return y;
}
ANY __m512d _mm512_unpacklo_pd(__m512d a, __m512d b) {
    EACH(8) if (i & 1) a[i] = b[i - 1];
    return a;
}
ANY __m512d _mm512_unpackhi_pd(__m512d a, __m512d b) {
    EACH(8) a[i] = i & 1 ? b[i] : a[i + 1];
    return a;
}
ANY __m512 _mm512_shuffle_f32x4(__m512 a, __m512 b, int which) {
    __m512 y;
    EACH(16) y[i] = (i < 8 ? a : b)[(which >> (i / 4 * 2) & 3) * 4 + i % 4];
    return y;
}

#endif
