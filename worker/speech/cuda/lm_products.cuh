/* A layer's products, for lm.cu and lm_int8.cu: what both make kernels of, and what both share.

   Weights [outputs, inputs] lie in tiles of 16 outputs and 32 inputs, in the order in which lanes
   read and multiply them: [outputs / 16][inputs / 32][2][8][4][2][2][2]. Those are: the product of
   two; output g; quarter t of the inputs; pair; half of the outputs; input, which so is
   8t + 4 * product + 2 * pair and so on. The two halves of a tile are what a kernel needs together:
   the two channels that are rotated with each other, a gate and its up; else neighbours.

   In 8 bits a weight is a sign and seven bits, times a scale. There is one for each output and warp
   that shares its inputs: [outputs / 16][warps][16]. A lane has all of a tile in 16 bytes:
   [outputs / 16][inputs / 32][8][4][2][2][2][2], which are output g; quarter; product; pair; input;
   half of the outputs. The two halves' bytes have exchanged their signs. */
#pragma once
#include "device.cuh"

#define PAGE 64      /* positions of a page */
#define TILE 16      /* outputs that a warp computes */
#define CHUNK 32     /* inputs that it reads at a time */
#define MOST_WARPS 8 /* that share the inputs of a product; twice as many where these are many */
#define MOST_SUMS 8  /* that show each other their sums at a time */
#define TOKENS 8     /* columns of a tensor core's product */
#define INFINITE __uint_as_float(0x7f800000u)

/* Which tokens are computed. */
struct Tokens {
    const long long *count;     /* how many */
    const long long *rows;      /* of the page table; null: token i is row i */
    const long long *positions;
};

/* The sum of squares of a residual, in parts. */
struct Squares {
    float *parts; /* [tokens][number] */
    int number;   /* of parts: channels / 16 */
    float eps;
};

struct Residual {
    float *values;     /* [tokens][channels] */
    bf16 *weighted;    /* [tokens][channels], times the next norm's weight */
    const float *norm; /* that weight, [channels] */
    Squares squares;
};

struct Matrix {
    const void *weights;
    const float *scales; /* where they are in 8 bits */
    int inputs, outputs; /* multiples of 32 and 16 */
    int warps;           /* that share the inputs */
};

/* Keys and values of a layer: [pages][2][kv heads][PAGE][head size]. */
struct Pages {
    bf16 *keys_values;
    const int *table; /* [rows][pages of a row] */
    int pages_of_row;
    int kv_heads, head_size;
};

struct Project {
    Tokens tokens;
    Matrix matrix;
    const bf16 *x; /* [tokens][inputs], weighted */
    Squares squares;
    const float *bias;            /* in the order of the tiles */
    const float *cosines, *sines; /* [positions][head size / 2] */
    bf16 *queries;                /* [tokens][heads][head size] */
    Pages pages;
    int heads;
};

struct Add {
    Tokens tokens;
    Matrix matrix;
    const bf16 *x;
    Residual residual;
};

struct Gate {
    Tokens tokens;
    Matrix matrix;
    const bf16 *x;
    Squares squares;
    bf16 *out; /* [tokens][outputs / 2] */
};

/* Products */

/* Weights that are multiplied as they lie. */
struct Bfloat16 {
    static constexpr bool SCALED = false;
    static constexpr int READS = 2; /* of 16 bytes: a lane's of a chunk */
    INLINE static uint4 product(const uint4 (&read)[READS], int which) { return read[which]; }
};

/* Weights in 8 bits, which become bfloat16 of the same value. */
struct Int8 {
    static constexpr bool SCALED = true;
    static constexpr int READS = 1;
    INLINE static uint4 product(const uint4 (&read)[READS], int which) {
        const u32 one = which ? read[0].z : read[0].x, other = which ? read[0].w : read[0].y;
        return uint4{pair(one), pair(swapped(one)), pair(other), pair(swapped(other))};
    }
    /* Of each half of a word the sign and the seven lowest bits. They are those of a bfloat16 of
       the same sign from 128 on, of which 128 is taken away. */
    INLINE static u32 pair(u32 word) {
        return sum_of((word & 0x807f807fu) | 0x43004300u, (~word & 0x80008000u) | 0x43004300u);
    }
    INLINE static u32 swapped(u32 word) { return __byte_perm(word, 0, 0x2301); }
};

/* A lane's part of some chunks of weights. */
template <typename Kind, int AHEAD>
struct Weights {
    uint4 reads[AHEAD][Kind::READS];

    /* Reads those of batch `batch` of a tile, of which this warp has every `warps`th chunk. */
    INLINE void read(const Matrix &m, int tile, int batch, int i) {
        const int lane = threadIdx.x % WARP, warp = threadIdx.x / WARP;
        const int chunk = warp + (batch * AHEAD + i) * m.warps, chunks = m.inputs / CHUNK;
        if (chunk >= chunks) return;
        const bf16 *at = (const bf16 *)m.weights /* 8 of these are 16 bytes */
            + ((size_t)tile * chunks + chunk) * (Kind::READS * WARP * 8) + lane * 8;
#pragma unroll
        for (int k = 0; k < Kind::READS; k++) reads[i][k] = read_once(at + k * WARP * 8);
    }
};

/* Multiplies tiles of outputs, this block's every `gridDim.x`th, with 8 * N tokens from `first` on,
   and calls `use(tile, token, output g, output g + 8, lane)` once for each token and pair: g is
   lane / 4, the token what lane % 4 adds, and all lanes of a warp are there. `begin` is called once
   the first weights are on their way and what was launched before has ended: it says whether there
   is anything to do. AHEAD chunks of weights are on their way at a time. */
template <typename Kind, int N, int AHEAD, typename Begin, typename Use>
INLINE void multiply_tiles(const Matrix &m, const bf16 *x, int first, Begin begin, Use use) {
    __shared__ float shared[MOST_SUMS][N][2][2][WARP];
    const int lane = threadIdx.x % WARP, warp = threadIdx.x / WARP;
    const int chunks = m.inputs / CHUNK, warps = m.warps, tiles = m.outputs / TILE;
    const int batches = (chunks + AHEAD * warps - 1) / (AHEAD * warps);
    const bf16 *columns = x + (size_t)(first + lane / 4) * m.inputs + lane % 4 * 8;
    int tile = blockIdx.x;
    Weights<Kind, AHEAD> a;
    let_the_next_begin();
#pragma unroll
    for (int i = 0; i < AHEAD; i++) a.read(m, tile, 0, i);
    wait_for_the_last();
    uint4 b[AHEAD][N];
    auto read_columns = [&](int batch) {
#pragma unroll
        for (int i = 0; i < AHEAD; i++) {
            const int chunk = warp + (batch * AHEAD + i) * warps;
#pragma unroll
            for (int n = 0; n < N; n++) {
                if (chunk < chunks) {
                    b[i][n] = *(const uint4 *)(columns + (size_t)n * TOKENS * m.inputs
                                               + chunk * CHUNK);
                }
            }
        }
    };
    read_columns(0);
    if (!begin()) return;
    for (; tile < tiles; tile += gridDim.x) {
        float sums[N][4] = {}, scale = 1, other_scale = 1;
        if (Kind::SCALED) { /* here, so that it is there when the sums are */
            const float *mine = m.scales + ((size_t)tile * warps + warp) * TILE + lane / 4;
            scale = mine[0];
            other_scale = mine[8];
        }
        for (int batch = 0; batch < batches; batch++) {
            /* Where one batch is all, its columns stay for all tiles. */
            if (batches > 1 && (batch > 0 || tile != blockIdx.x)) read_columns(batch);
            const bool more = batch + 1 < batches;
            const int next = more ? tile : tile + gridDim.x, next_batch = more ? batch + 1 : 0;
#pragma unroll
            for (int i = 0; i < AHEAD; i++) {
                if (warp + (batch * AHEAD + i) * warps < chunks) {
#pragma unroll
                    for (int n = 0; n < N; n++) {
                        const uint4 w = Kind::product(a.reads[i], 0);
                        multiply(sums[n], w.x, w.y, w.z, w.w, b[i][n].x, b[i][n].y);
                    }
#pragma unroll
                    for (int n = 0; n < N; n++) {
                        const uint4 w = Kind::product(a.reads[i], 1);
                        multiply(sums[n], w.x, w.y, w.z, w.w, b[i][n].z, b[i][n].w);
                    }
                }
                if (next < tiles) a.read(m, next, next_batch, i);
            }
        }
        if (Kind::SCALED) {
#pragma unroll
            for (int n = 0; n < N; n++) {
#pragma unroll
                for (int c = 0; c < 4; c++) sums[n][c] *= c / 2 ? other_scale : scale;
            }
        }
        auto show = [&](int place) {
#pragma unroll
            for (int n = 0; n < N; n++) {
#pragma unroll
                for (int c = 0; c < 4; c++) shared[place][n][c % 2][c / 2][lane] = sums[n][c];
            }
        };
        if (warps > MOST_SUMS) {
            if (warp >= MOST_SUMS) show(warp - MOST_SUMS);
            __syncthreads();
            if (warp + MOST_SUMS < warps) {
#pragma unroll
                for (int n = 0; n < N; n++) {
#pragma unroll
                    for (int c = 0; c < 4; c++) sums[n][c] += shared[warp][n][c % 2][c / 2][lane];
                }
            }
            __syncthreads();
        }
        if (warp < MOST_SUMS) show(warp);
        __syncthreads();
        for (int i = warp; i < 2 * N; i += warps) {
            float one = 0, other = 0;
#pragma unroll
            for (int w = 0; w < MOST_SUMS; w++) {
                if (w < warps) {
                    one += shared[w][i / 2][i % 2][0][lane];
                    other += shared[w][i / 2][i % 2][1][lane];
                }
            }
            use(tile, i / 2 * TOKENS + lane % 4 * 2 + i % 2, one, other, lane);
        }
        if (tile + gridDim.x < tiles) __syncthreads();
    }
}

#define PARTS 14 /* of a sum that a lane reads at a time: all of 896 channels' */

/* The norm's factors of the 8 * N tokens from `first` on; each block makes its own. */
template <int N>
INLINE void factors(const Squares &s, int channels, int first, float *out) {
    for (int i = threadIdx.x; i < N * TOKENS * 4; i += blockDim.x) {
        const float *parts = s.parts + (size_t)(first + i / 4) * s.number;
        float sum = 0;
        for (int part = i % 4; part < s.number; part += 4 * PARTS) {
            float some[PARTS]; /* all on their way at the same time */
#pragma unroll
            for (int k = 0; k < PARTS; k++) {
                some[k] = part + 4 * k < s.number ? parts[part + 4 * k] : 0;
            }
#pragma unroll
            for (int k = 0; k < PARTS; k++) sum += some[k];
        }
        sum = sum_over(sum, 1, 4);
        out[i / 4] = rsqrtf(sum / channels + s.eps);
    }
}

INLINE int row_of(const Tokens &tokens, int token) {
    return tokens.rows ? (int)tokens.rows[token] : token;
}

INLINE bf16 *page_of(const Pages &p, int row, long long position, int which, int head) {
    const int page = p.table[(size_t)row * p.pages_of_row + position / PAGE];
    return p.keys_values
        + (((size_t)page * 2 + which) * p.kv_heads + head) * PAGE * p.head_size
        + position % PAGE * p.head_size;
}

/* Writes the residual of one channel pair's warp: both channels of a tile, of the token. */
INLINE void write_residual(const Residual &r, int channels, size_t token, int tile, int channel,
                           float one, float other, bool real, int lane) {
    float squares = one * one + other * other;
    squares = sum_over(squares, 4, WARP);
    if (!real) return;
    const size_t place = token * channels + channel;
    r.values[place] = one;
    r.values[place + 8] = other;
    r.weighted[place] = bf16_of(one * r.norm[channel]);
    r.weighted[place + 8] = bf16_of(other * r.norm[channel + 8]);
    if (lane / 4 == 0) r.squares.parts[token * r.squares.number + tile] = squares;
}

template <int N, typename Kind = Bfloat16>
INLINE void project(const Project &a) {
    __shared__ float factor[N * TOKENS];
    const int first = blockIdx.y * N * TOKENS;
    int count = 0;
    auto begin = [&] {
        count = (int)*a.tokens.count;
        if (first >= count) return false;
        factors<N>(a.squares, a.matrix.inputs, first, factor);
        return true;
    };
    const int tiles_of_head = a.pages.head_size / TILE, half = a.pages.head_size / 2;
    const int kv = a.pages.kv_heads;
    auto use = [&](int tile, int place, float one, float other, int lane) {
        const int token = first + place, head = tile / tiles_of_head;
        if (token >= count) return;
        const int pair = tile % tiles_of_head * 8 + lane / 4;
        one = one * factor[place] + a.bias[tile * TILE + lane / 4];
        other = other * factor[place] + a.bias[tile * TILE + lane / 4 + 8];
        const long long position = a.tokens.positions[token];
        if (head < a.heads + kv) {
            const float cosine = a.cosines[position * half + pair];
            const float sine = a.sines[position * half + pair];
            const float turned = one * cosine - other * sine;
            other = other * cosine + one * sine;
            one = turned;
        }
        bf16 *out;
        if (head < a.heads) {
            out = a.queries + ((size_t)token * a.heads + head) * a.pages.head_size;
        } else {
            const int which = head >= a.heads + kv;
            out = page_of(a.pages, row_of(a.tokens, token), position, which,
                          head - a.heads - which * kv);
        }
        out[pair] = bf16_of(one);
        out[pair + half] = bf16_of(other);
    };
    multiply_tiles<Kind, N, 4>(a.matrix, a.x, first, begin, use);
}

/* Chunks on their way in the product whose inputs are many: what registers N leaves for it. */
template <int N>
__device__ constexpr int ahead() {
    return N == 1 ? 5 : N == 2 ? 4 : N == 4 ? 3 : 2;
}

template <int N, typename Kind = Bfloat16>
INLINE void add(const Add &a) {
    const int first = blockIdx.y * N * TOKENS;
    int count = 0;
    auto begin = [&] {
        count = (int)*a.tokens.count;
        return first < count;
    };
    const int channels = a.matrix.outputs;
    auto use = [&](int tile, int place, float one, float other, int lane) {
        const size_t token = first + place;
        const bool real = token < count;
        const int channel = tile * TILE + lane / 4;
        if (real) {
            one += a.residual.values[token * channels + channel];
            other += a.residual.values[token * channels + channel + 8];
        }
        write_residual(a.residual, channels, token, tile, channel, one, other, real, lane);
    };
    multiply_tiles<Kind, N, ahead<N>()>(a.matrix, a.x, first, begin, use);
}

template <int N, typename Kind = Bfloat16>
INLINE void gate(const Gate &a) {
    __shared__ float factor[N * TOKENS];
    const int first = blockIdx.y * N * TOKENS;
    int count = 0;
    auto begin = [&] {
        count = (int)*a.tokens.count;
        if (first >= count) return false;
        factors<N>(a.squares, a.matrix.inputs, first, factor);
        return true;
    };
    auto use = [&](int tile, int place, float one, float other, int lane) {
        const size_t token = first + place;
        if (token >= count) return;
        one *= factor[place];
        other *= factor[place];
        const float out = one / (1 + expf(-one)) * other;
        a.out[token * (a.matrix.outputs / 2) + tile * 8 + lane / 4] = bf16_of(out);
    };
    multiply_tiles<Kind, N, 4>(a.matrix, a.x, first, begin, use);
}

