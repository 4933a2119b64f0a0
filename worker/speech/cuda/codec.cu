/* What stands between two convolutions of the codec's wave generator, in one kernel.

     x    = made + bias + residual
     y    = x + sin(alpha x)^2 / (alpha + 1e-9)      the snake; zero where nobody's position is

   Upstream rounds after each operation; here x is rounded once, where it is kept, and y once.
   All tensors are bfloat16; channels and positions are multiples of eight, of which a thread
   computes one.

     snake_rows      tensors [channels][positions]: a thread has positions of one channel
     snake_columns   tensors [positions][channels]: a thread has channels of one position */
#include "device.cuh"

#define THREADS 256
#define EIGHT 8

struct Snake {
    const uint4 *made;
    const bf16 *bias, *alpha;   /* [channels] */
    const uint4 *residual;      /* null: nothing is added */
    const unsigned char *valid; /* [positions / rate]: whether a token's positions are somebody's */
    uint4 *total;               /* x; null: it is not kept */
    uint4 *out;                 /* y */
    int channels, positions, rate;
};

INLINE void widen(uint4 eight, float (&x)[EIGHT]) {
    x[0] = low(eight.x), x[1] = high(eight.x), x[2] = low(eight.y), x[3] = high(eight.y);
    x[4] = low(eight.z), x[5] = high(eight.z), x[6] = low(eight.w), x[7] = high(eight.w);
}

INLINE uint4 narrow(const float (&x)[EIGHT]) {
    uint4 eight;
    eight.x = pair_of(x[0], x[1]), eight.y = pair_of(x[2], x[3]);
    eight.z = pair_of(x[4], x[5]), eight.w = pair_of(x[6], x[7]);
    return eight;
}

INLINE void add_eight(uint4 eight, float (&x)[EIGHT]) {
    float more[EIGHT];
    widen(eight, more);
    for (int i = 0; i < EIGHT; i++) x[i] += more[i];
}

/* sin^2 has the period pi: what is left of the angle lies within pi / 2. */
INLINE float snake(float x, float alpha) {
    const float halves = alpha * x * 0.318309886183790672f;
    const float sine = sinf((halves - rintf(halves)) * 3.14159265358979324f);
    return x + sine * sine / (alpha + 1e-9f);
}

INLINE void rows(const Snake &a) {
    const int first = (blockIdx.x * THREADS + threadIdx.x) * EIGHT, channel = blockIdx.y;
    if (first >= a.positions) return;
    const long long at = ((long long)channel * a.positions + first) / EIGHT;
    const float bias = float_of(a.bias[channel]), alpha = float_of(a.alpha[channel]);
    float x[EIGHT];
    widen(a.made[at], x);
    for (int i = 0; i < EIGHT; i++) x[i] += bias;
    if (a.residual) add_eight(a.residual[at], x);
    if (a.total) a.total[at] = narrow(x);
    for (int i = 0; i < EIGHT; i++) x[i] = a.valid[(first + i) / a.rate] ? snake(x[i], alpha) : 0;
    a.out[at] = narrow(x);
}

INLINE void columns(const Snake &a) {
    const long long at = (long long)blockIdx.x * THREADS + threadIdx.x;
    const int eights = a.channels / EIGHT;
    const long long position = at / eights;
    if (position >= a.positions) return;
    const int eight = (int)(at % eights);
    float x[EIGHT], alpha[EIGHT];
    widen(a.made[at], x);
    add_eight(((const uint4 *)a.bias)[eight], x);
    if (a.residual) add_eight(a.residual[at], x);
    if (a.total) a.total[at] = narrow(x);
    widen(((const uint4 *)a.alpha)[eight], alpha);
    const bool somebodys = a.valid[position / a.rate];
    for (int i = 0; i < EIGHT; i++) x[i] = somebodys ? snake(x[i], alpha[i]) : 0;
    a.out[at] = narrow(x);
}

KERNEL(snake_rows, Snake, THREADS, rows)
KERNEL(snake_columns, Snake, THREADS, columns)
