/* What stands between two convolutions of the codec's wave generator, in one kernel.

     x    = made + bias + residual
     y    = x + sin(alpha x)^2 / (alpha + 1e-9)      the snake; zero where nobody's position is

   Upstream rounds after each operation; here x is rounded once, where it is kept, and y once.
   All tensors are bfloat16. `rate` positions belong to a token, whose byte in `valid` says whether
   they are somebody's. `residual` and `total`, where x is kept, may be null.

     snake_rows      tensors [channels][positions]: a thread has 8 positions of one channel
     snake_columns   tensors [positions][channels]: a thread has 8 channels of one position */

typedef unsigned short bf16;
typedef unsigned int u32;

static __device__ __forceinline__ float low(u32 pair) { return __uint_as_float(pair << 16); }
static __device__ __forceinline__ float high(u32 pair) {
    return __uint_as_float(pair & 0xffff0000u);
}
static __device__ __forceinline__ float wide(bf16 x) { return __uint_as_float((u32)x << 16); }

/* To the nearest, of two the even one; what is no number stays none. */
static __device__ __forceinline__ u32 narrow(float x) {
    const u32 bits = __float_as_uint(x);
    if ((bits & 0x7fffffffu) > 0x7f800000u) return bits >> 16 | 0x40u;
    return (bits + 0x7fffu + (bits >> 16 & 1u)) >> 16;
}
static __device__ __forceinline__ u32 pair(float x, float y) { return narrow(x) | narrow(y) << 16; }

/* sin^2 has the period pi: what is left of it lies within pi / 2. */
static __device__ __forceinline__ float snake(float x, float alpha) {
    const float turns = alpha * x * 0.318309886183790672f;
    const float sine = sinf((turns - rintf(turns)) * 3.14159265358979324f);
    return x + sine * sine / (alpha + 1e-9f);
}

static __device__ __forceinline__ void widen(uint4 v, float *x) {
    x[0] = low(v.x), x[1] = high(v.x), x[2] = low(v.y), x[3] = high(v.y);
    x[4] = low(v.z), x[5] = high(v.z), x[6] = low(v.w), x[7] = high(v.w);
}
static __device__ __forceinline__ uint4 packed(const float *x) {
    uint4 v;
    v.x = pair(x[0], x[1]), v.y = pair(x[2], x[3]);
    v.z = pair(x[4], x[5]), v.w = pair(x[6], x[7]);
    return v;
}

extern "C" __global__ void __launch_bounds__(256)
snake_rows(const uint4 *made, const bf16 *bias, const uint4 *residual, const bf16 *alpha,
           const unsigned char *valid, uint4 *total, uint4 *out, int channels, int eights,
           int rate) {
    const int eight = blockIdx.x * blockDim.x + threadIdx.x, channel = blockIdx.y;
    if (eight >= eights || channel >= channels) return;
    const long long at = (long long)channel * eights + eight;
    const float shift = wide(bias[channel]), turn = wide(alpha[channel]);
    float x[8], more[8];
    widen(made[at], x);
    for (int i = 0; i < 8; i++) x[i] += shift;
    if (residual) {
        widen(residual[at], more);
        for (int i = 0; i < 8; i++) x[i] += more[i];
    }
    if (total) total[at] = packed(x);
    for (int i = 0; i < 8; i++) x[i] = valid[(8 * eight + i) / rate] ? snake(x[i], turn) : 0.0f;
    out[at] = packed(x);
}

extern "C" __global__ void __launch_bounds__(256)
snake_columns(const uint4 *made, const uint4 *bias, const uint4 *residual, const uint4 *alpha,
              const unsigned char *valid, uint4 *total, uint4 *out, int eights, int positions,
              int rate) {
    const long long at = (long long)blockIdx.x * blockDim.x + threadIdx.x;
    if (at >= (long long)eights * positions) return;
    const int position = (int)(at / eights), eight = (int)(at % eights);
    float x[8], more[8];
    widen(made[at], x);
    widen(bias[eight], more);
    for (int i = 0; i < 8; i++) x[i] += more[i];
    if (residual) {
        widen(residual[at], more);
        for (int i = 0; i < 8; i++) x[i] += more[i];
    }
    if (total) total[at] = packed(x);
    widen(alpha[eight], more);
    const bool somebodys = valid[position / rate];
    for (int i = 0; i < 8; i++) x[i] = somebodys ? snake(x[i], more[i]) : 0.0f;
    out[at] = packed(x);
}
