/* A Qwen2 decoder in bfloat16 for GPUs with tensor cores (sm_80 and later): five kernels a layer.

     embed            a token's vector becomes its residual
     project          norm, queries, keys and values, rotation; keys and values into their pages
     attend           attention of each token to all positions up to its own, keys shared out
     add              a product that is added to the residual: attention's output, and `down`
     gate             norm, gate and up, SiLU and product
     finish           the last norm
     score            the output matrix, cut to the tokens of a head
     draw             top-k, top-p and the draw; the row moves on to the token drawn

   A token is a row of a batch that has come to some position, or one of a prompt's: kernels do not
   tell them apart. They are given as `rows` (of the page table; its own number where null) and
   `positions`. `count` of them, which lies on the device, are computed; the rest is left alone.

   A token's numbers never depend on what else is in the batch, nor on how many tokens a kernel was
   made for: weights are a tensor core's rows and tokens its columns, and each sum has one order.

   Numbers: the residual is float32. What is multiplied is bfloat16, sums are float32. A norm is
   taken apart: whoever writes the residual writes it times the norm's weight, as bfloat16, and of
   each 16 channels the sum of squares; the norm's divisor, one for a token, comes after the
   product. Cosines and sines are float32.

   Weights [outputs, inputs] lie in tiles of 16 outputs and 32 inputs, in the order in which lanes
   read and multiply them: [outputs / 16][inputs / 32][2][8][4][2][2][2]. Those are: the product of
   two; output g; quarter t of the inputs; pair; half of the outputs; input, which so is
   8t + 4 * product + 2 * pair and so on. The two halves of a tile are what a kernel needs together:
   the two channels that are rotated with each other, a gate and its up; else neighbours. */
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
    const bf16 *weights;
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

struct Embed {
    Tokens tokens;
    const long long *ids;
    const bf16 *table; /* [vocabulary][channels] */
    Residual residual;
    int channels;
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

struct Attend {
    Tokens tokens;
    const bf16 *queries;
    Pages pages;
    bf16 *out;       /* [tokens][heads][head size] */
    float *partial;  /* [tokens][kv heads][splits][MOST_SHARING][head size + 2] */
    u32 *arrived;    /* [tokens][kv heads], zeros before and after */
    int heads, splits;
    float scale;
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

struct Finish {
    Tokens tokens;
    const long long *which; /* of the residual's tokens; null: all */
    const bf16 *weighted;
    Squares squares;
    bf16 *out; /* [count][channels] */
    int channels;
};

struct Score {
    Tokens tokens;
    Matrix matrix;
    const bf16 *x;
    float *logits; /* [tokens][outputs] */
};

struct Draw {
    Tokens tokens;
    const float *logits; /* [tokens][stride] */
    int stride, candidates, end; /* end: the place of the token that ends an answer, or -1 */
    const long long *names;      /* [candidates]: their token ids */
    const long long *places;     /* rows of the batch; null: token i is row i */
    const unsigned char *speaking; /* [rows]: whose draw counts; null: all */
    const float *temperature, *top_p;
    const long long *top_k; /* MOST_CANDIDATES at most */
    const double *uniforms; /* [rows][positions] */
    long long *ids, *at, *drawn;
    const long long *end_from;
    long long positions;
    long long *out; /* [tokens]: the token ids drawn, -1 where the logits are no numbers */
};

/* Products */

/* A lane's part of some chunks of weights. */
template <int AHEAD>
struct Weights {
    uint4 products[AHEAD][2];

    /* Reads those of batch `batch` of a tile, of which this warp has every `warps`th chunk. */
    INLINE void read(const Matrix &m, int tile, int batch, int i) {
        const int lane = threadIdx.x % WARP, warp = threadIdx.x / WARP;
        const int chunk = warp + (batch * AHEAD + i) * m.warps, chunks = m.inputs / CHUNK;
        if (chunk >= chunks) return;
        const bf16 *at = m.weights + ((size_t)tile * chunks + chunk) * TILE * CHUNK + lane * 8;
        products[i][0] = read_once(at);
        products[i][1] = read_once(at + 8 * CHUNK);
    }
};

/* Multiplies tiles of outputs, this block's every `gridDim.x`th, with 8 * N tokens from `first` on,
   and calls `use(tile, token, output g, output g + 8, lane)` once for each token and pair: g is
   lane / 4, the token what lane % 4 adds, and all lanes of a warp are there. `begin` is called once
   the first weights are on their way and what was launched before has ended: it says whether there
   is anything to do. AHEAD chunks of weights are on their way at a time. */
template <int N, int AHEAD, typename Begin, typename Use>
INLINE void multiply_tiles(const Matrix &m, const bf16 *x, int first, Begin begin, Use use) {
    __shared__ float shared[MOST_SUMS][N][2][2][WARP];
    const int lane = threadIdx.x % WARP, warp = threadIdx.x / WARP;
    const int chunks = m.inputs / CHUNK, warps = m.warps, tiles = m.outputs / TILE;
    const int batches = (chunks + AHEAD * warps - 1) / (AHEAD * warps);
    const bf16 *columns = x + (size_t)(first + lane / 4) * m.inputs + lane % 4 * 8;
    int tile = blockIdx.x;
    Weights<AHEAD> a;
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
        float sums[N][4] = {};
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
                        const uint4 w = a.products[i][0];
                        multiply(sums[n], w.x, w.y, w.z, w.w, b[i][n].x, b[i][n].y);
                    }
#pragma unroll
                    for (int n = 0; n < N; n++) {
                        const uint4 w = a.products[i][1];
                        multiply(sums[n], w.x, w.y, w.z, w.w, b[i][n].z, b[i][n].w);
                    }
                }
                if (next < tiles) a.read(m, next, next_batch, i);
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

INLINE void embed(const Embed &a) {
    let_the_next_begin();
    wait_for_the_last();
    const int token = blockIdx.x;
    if (token >= *a.tokens.count) return;
    const bf16 *from = a.table + (size_t)a.ids[token] * a.channels;
    for (int tile = threadIdx.x; tile < a.channels / TILE; tile += blockDim.x) {
        float squares = 0;
        for (int channel = tile * TILE; channel < (tile + 1) * TILE; channel++) {
            const float x = float_of(from[channel]);
            const size_t place = (size_t)token * a.channels + channel;
            a.residual.values[place] = x;
            a.residual.weighted[place] = bf16_of(x * a.residual.norm[channel]);
            squares += x * x;
        }
        a.residual.squares.parts[(size_t)token * a.residual.squares.number + tile] = squares;
    }
}

template <int N>
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
    multiply_tiles<N, 4>(a.matrix, a.x, first, begin, use);
}

/* Chunks on their way in the product whose inputs are many: what registers N leaves for it. */
template <int N>
__device__ constexpr int ahead() {
    return N == 1 ? 5 : N == 2 ? 4 : N == 4 ? 3 : 2;
}

template <int N>
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
    multiply_tiles<N, ahead<N>()>(a.matrix, a.x, first, begin, use);
}

template <int N>
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
    multiply_tiles<N, 4>(a.matrix, a.x, first, begin, use);
}

INLINE void finish(const Finish &a) {
    __shared__ float factor;
    let_the_next_begin();
    wait_for_the_last();
    const int place = blockIdx.x;
    if (place >= *a.tokens.count) return;
    const size_t token = a.which ? a.which[place] : place;
    if (threadIdx.x < WARP) {
        float sum = 0;
        for (int part = threadIdx.x; part < a.squares.number; part += WARP) {
            sum += a.squares.parts[token * a.squares.number + part];
        }
        sum = sum_over(sum, 1, WARP);
        if (threadIdx.x == 0) factor = rsqrtf(sum / a.channels + a.squares.eps);
    }
    __syncthreads();
    for (int i = threadIdx.x; i < a.channels; i += blockDim.x) {
        a.out[(size_t)place * a.channels + i] =
            bf16_of(float_of(a.weighted[token * a.channels + i]) * factor);
    }
}

template <int N>
INLINE void score(const Score &a) {
    const int first = blockIdx.y * N * TOKENS;
    int count = 0;
    auto begin = [&] {
        count = (int)*a.tokens.count;
        return first < count;
    };
    auto use = [&](int tile, int place, float one, float other, int lane) {
        const size_t token = first + place;
        if (token >= count) return;
        float *out = a.logits + token * a.matrix.outputs + tile * TILE + lane / 4;
        out[0] = one;
        out[8] = other;
    };
    multiply_tiles<N, 4>(a.matrix, a.x, first, begin, use);
}

/* Attention */

#define ATTEND_WARPS 4
#define MOST_SPLITS 8
#define KEYS 32        /* positions that a warp takes at a time, all of one page */
#define MOST_SHARING 8 /* queries that share a key */

/* What a warp has found of the queries that share a key. */
template <int D>
struct Found {
    float most[MOST_SHARING], total[MOST_SHARING], out[MOST_SHARING][D];
};

/* Reads W pairs of neighbouring channels. */
template <int W>
INLINE void read_pairs(const bf16 *at, u32 (&out)[W]) {
    if (W == 2) {
        const uint2 two = *(const uint2 *)at;
        out[0] = two.x;
        out[1] = two.y;
        return;
    }
#pragma unroll
    for (int i = 0; i + 3 < W; i += 4) {
        const uint4 four = *(const uint4 *)(at + 2 * i);
        out[i] = four.x;
        out[i + 1] = four.y;
        out[i + 2] = four.z;
        out[i + 3] = four.w;
    }
}

/* Queries of one token that share keys: `splits` blocks take its positions by turns, KEYS at a
   time, and the warps of each by turns again. What they find is put together in one order, by the
   block that comes last: so only the position decides how. D channels of a head.

   Queries are a tensor core's rows, of which at least eight stay empty. Of scores and weights a
   lane has those of query g = lane / 4 and of keys 2t, 2t + 1, with t = lane % 4, of each eight. Of
   values it reads channels D / 8 * g and so on, so that a product's column g is one of these. */
template <int D>
INLINE void attend(const Attend &a) {
    constexpr int UNITS = D / CHUNK, OWN = D / 8; /* of channels: of queries, a lane's of values */
    __shared__ Found<D> found[ATTEND_WARPS];
    __shared__ bool last;
    let_the_next_begin();
    wait_for_the_last();
    const int split = blockIdx.x, kv_head = blockIdx.y, token = blockIdx.z;
    const long long count = *a.tokens.count, position = a.tokens.positions[token];
    if (token >= count) return;
    const int lane = threadIdx.x % WARP, warp = threadIdx.x / WARP, g = lane / 4, t = lane % 4;
    const int row = row_of(a.tokens, token), sharing = a.heads / a.pages.kv_heads;
    const int parts = (int)(position / KEYS) + 1;
    const int active = min(a.splits, (parts + ATTEND_WARPS - 1) / ATTEND_WARPS);
    if (split >= active) return;

    const size_t queries = ((size_t)token * a.heads + kv_head * sharing) * D;
    uint4 query[UNITS];
#pragma unroll
    for (int u = 0; u < UNITS; u++) {
        query[u] = g < sharing
            ? *(const uint4 *)(a.queries + queries + g * D + u * CHUNK + t * 8)
            : uint4{0, 0, 0, 0};
    }
    float most = -INFINITE, total = 0, out[OWN][4] = {};
    for (int part = split * ATTEND_WARPS + warp; part < parts; part += active * ATTEND_WARPS) {
        const long long begin = (long long)part * KEYS;
        const bf16 *keys = page_of(a.pages, row, begin, 0, kv_head);
        const bf16 *values = page_of(a.pages, row, begin, 1, kv_head);
        uint4 key[KEYS / 8][UNITS];
#pragma unroll
        for (int j = 0; j < KEYS / 8; j++) {
#pragma unroll
            for (int u = 0; u < UNITS; u++) {
                key[j][u] = *(const uint4 *)(keys + (j * 8 + g) * D + u * CHUNK + t * 8);
            }
        }
        /* What lies past the token's position is another's, or nobody's: maybe no numbers. */
        u32 value[KEYS / 8][2][OWN / 2];
#pragma unroll
        for (int j = 0; j < KEYS / 8; j++) {
#pragma unroll
            for (int i = 0; i < 2; i++) {
                const int at = j * 8 + 2 * t + i;
                if (begin + at <= position) {
                    read_pairs(values + at * D + g * OWN, value[j][i]);
                } else {
#pragma unroll
                    for (int k = 0; k < OWN / 2; k++) value[j][i][k] = 0;
                }
            }
        }
        float score[KEYS / 8][4], now = most;
#pragma unroll
        for (int j = 0; j < KEYS / 8; j++) {
#pragma unroll
            for (int i = 0; i < 4; i++) score[j][i] = 0;
#pragma unroll
            for (int u = 0; u < UNITS; u++) {
                multiply(score[j], query[u].x, 0, query[u].y, 0, key[j][u].x, key[j][u].y);
                multiply(score[j], query[u].z, 0, query[u].w, 0, key[j][u].z, key[j][u].w);
            }
#pragma unroll
            for (int i = 0; i < 2; i++) {
                const bool there = begin + j * 8 + 2 * t + i <= position;
                score[j][i] = there ? score[j][i] * a.scale : -INFINITE;
                now = fmaxf(now, score[j][i]);
            }
        }
        now = fmaxf(now, __shfl_xor_sync(ALL_LANES, now, 1));
        now = fmaxf(now, __shfl_xor_sync(ALL_LANES, now, 2));
        const float kept = expf(most - now);
        most = now;
        total *= kept;
#pragma unroll
        for (int i = 0; i < OWN; i++) {
            out[i][0] *= kept;
            out[i][1] *= kept;
        }
        u32 weight[KEYS / 8];
#pragma unroll
        for (int j = 0; j < KEYS / 8; j++) {
            weight[j] = pair_of(expf(score[j][0] - now), expf(score[j][1] - now));
            total += low(weight[j]) + high(weight[j]); /* as they weigh, rounded */
        }
#pragma unroll
        for (int j = 0; j < KEYS / 8; j += 2) {
#pragma unroll
            for (int k = 0; k < OWN / 2; k++) {
                const u32 b0 = value[j][0][k], b1 = value[j][1][k];
                const u32 c0 = value[j + 1][0][k], c1 = value[j + 1][1][k];
                multiply(out[2 * k], weight[j], 0, weight[j + 1], 0,
                         (b0 & 0xffffu) | b1 << 16, (c0 & 0xffffu) | c1 << 16);
                multiply(out[2 * k + 1], weight[j], 0, weight[j + 1], 0,
                         b0 >> 16 | (b1 & 0xffff0000u), c0 >> 16 | (c1 & 0xffff0000u));
            }
        }
    }
    total = sum_over(total, 1, 4);
    if (t == 0) {
        found[warp].most[g] = most;
        found[warp].total[g] = total;
    }
#pragma unroll
    for (int i = 0; i < OWN; i++) {
        found[warp].out[g][OWN * 2 * t + i] = out[i][0];
        found[warp].out[g][OWN * (2 * t + 1) + i] = out[i][1];
    }
    __syncthreads();

    const size_t place = (size_t)token * a.pages.kv_heads + kv_head;
    float *partial = a.partial + place * a.splits * MOST_SHARING * (D + 2);
    for (int i = threadIdx.x; i < sharing * D; i += ATTEND_WARPS * WARP) {
        const int query_of = i / D, d = i % D;
        float top = -INFINITE, sum = 0, x = 0;
#pragma unroll
        for (int w = 0; w < ATTEND_WARPS; w++) top = fmaxf(top, found[w].most[query_of]);
#pragma unroll
        for (int w = 0; w < ATTEND_WARPS; w++) {
            /* A warp that had no positions has found minus infinity, and weighs nothing. */
            const float share = expf(found[w].most[query_of] - top);
            sum += found[w].total[query_of] * share;
            x += found[w].out[query_of][d] * share;
        }
        if (active == 1) {
            a.out[queries + i] = bf16_of(x / sum);
        } else {
            float *mine = partial + (split * MOST_SHARING + query_of) * (D + 2);
            mine[d] = x;
            if (d == 0) {
                mine[D] = top;
                mine[D + 1] = sum;
            }
        }
    }
    if (active == 1) return;
    __threadfence();
    __syncthreads();
    if (threadIdx.x == 0) last = atomicAdd(&a.arrived[place], 1u) == active - 1;
    __syncthreads();
    if (!last) return;
    __threadfence();
    for (int i = threadIdx.x; i < sharing * D; i += ATTEND_WARPS * WARP) {
        const int query_of = i / D, d = i % D;
        const float *theirs = partial + query_of * (D + 2);
        float x[MOST_SPLITS], tops[MOST_SPLITS], totals[MOST_SPLITS], top = -INFINITE, sum = 0, y = 0;
#pragma unroll
        for (int s = 0; s < MOST_SPLITS; s++) {
            const bool there = s < active;
            const float *one = theirs + (there ? s : 0) * MOST_SHARING * (D + 2);
            x[s] = __ldcg(one + d);
            tops[s] = there ? __ldcg(one + D) : -INFINITE;
            totals[s] = __ldcg(one + D + 1);
            top = fmaxf(top, tops[s]);
        }
#pragma unroll
        for (int s = 0; s < MOST_SPLITS; s++) {
            const float share = expf(tops[s] - top);
            sum += totals[s] * share;
            y += x[s] * share;
        }
        a.out[queries + i] = bf16_of(y / sum);
    }
    if (threadIdx.x == 0) a.arrived[place] = 0;
}

/* Draws */

#define DRAW_THREADS 1024
#define MOST_CANDIDATES 64
#define OWN_LOGITS 9 /* that a thread keeps at hand: enough for a head of 9,216 tokens */

/* A number's bits, in an order that integers have; 0 is less than each. */
INLINE u32 ordered(float x) {
    const u32 bits = __float_as_uint(x);
    return bits & 0x80000000u ? ~bits : bits | 0x80000000u;
}
INLINE bool no_number(u32 key) { return key > 0xff800000u || (key > 0 && key < 0x007fffffu); }
INLINE float number_of(u32 key) {
    return __uint_as_float(key & 0x80000000u ? key ^ 0x80000000u : ~key);
}

/* The sums of all threads' numbers, in their place, known to all. */
template <int K>
INLINE void sum_up(int (&x)[K], int (&shared)[2][K][WARP], int turn) {
    /* By turns, for a warp may come to the next sum before others have read this one. */
    auto &mine = shared[turn % 2];
#pragma unroll
    for (int k = 0; k < K; k++) {
        const int sum = __reduce_add_sync(ALL_LANES, x[k]);
        if (threadIdx.x % WARP == 0) mine[k][threadIdx.x / WARP] = sum;
    }
    __syncthreads();
#pragma unroll
    for (int k = 0; k < K; k++) x[k] = __reduce_add_sync(ALL_LANES, mine[k][threadIdx.x % WARP]);
}

INLINE void draw(const Draw &a) {
    __shared__ int shared[2][3][WARP];
    __shared__ u32 keys[MOST_CANDIDATES], sorted[MOST_CANDIDATES];
    __shared__ int places[MOST_CANDIDATES], order[MOST_CANDIDATES];
    __shared__ float e[MOST_CANDIDATES];
    __shared__ int taken;
    let_the_next_begin();
    wait_for_the_last();
    const int token = blockIdx.x, n = a.candidates;
    if (token >= *a.tokens.count) return;
    const long long place = a.places ? a.places[token] : token;
    const bool speaks = !a.speaking || a.speaking[place];
    const long long drawn = a.drawn[place];
    const int hidden = drawn < a.end_from[place] ? a.end : -1; /* the end, while it is too early */
    const float *logits = a.logits + (size_t)token * a.stride;
    auto key_at = [&](int i) {
        return i >= n ? 0u : i == hidden ? ordered(-INFINITE) : ordered(logits[i]);
    };
    u32 own[OWN_LOGITS];
    int bad[3] = {};
#pragma unroll
    for (int i = 0; i < OWN_LOGITS; i++) {
        own[i] = key_at(threadIdx.x + i * DRAW_THREADS);
        bad[0] |= no_number(own[i]);
    }
    for (int i = threadIdx.x + OWN_LOGITS * DRAW_THREADS; i < n; i += DRAW_THREADS) {
        bad[0] |= no_number(key_at(i));
    }
    sum_up(bad, shared, 0);
    const int most = (int)min(min(a.top_k[place], (long long)n), (long long)MOST_CANDIDATES);
    /* The greatest bound that `most` logits reach: two bits at a time, until it is just as many. */
    u32 bound = 0;
    int reach = n;
    for (int shift = 30, turn = 1; shift >= 0 && reach != most; shift -= 2, turn++) {
        int counts[3] = {};
        auto look = [&](u32 key) {
#pragma unroll
            for (int k = 0; k < 3; k++) counts[k] += key >= (bound | (u32)(k + 1) << shift);
        };
#pragma unroll
        for (int i = 0; i < OWN_LOGITS; i++) look(own[i]);
        for (int i = threadIdx.x + OWN_LOGITS * DRAW_THREADS; i < n; i += DRAW_THREADS) {
            look(key_at(i));
        }
        sum_up(counts, shared, turn);
#pragma unroll
        for (int k = 2; k >= 0; k--) {
            if (counts[k] >= most) {
                bound |= (u32)(k + 1) << shift;
                reach = counts[k];
                break;
            }
        }
    }
    if (threadIdx.x == 0) taken = 0;
    __syncthreads();
    /* All above the bound, and of those at it the first ones. */
    const bool exact = reach == most;
    auto take = [&](u32 key, int i) {
        if (i < n && (exact ? key >= bound : key > bound)) {
            const int at = atomicAdd(&taken, 1);
            keys[at] = key;
            places[at] = i;
        }
    };
#pragma unroll
    for (int i = 0; i < OWN_LOGITS; i++) take(own[i], threadIdx.x + i * DRAW_THREADS);
    for (int i = threadIdx.x + OWN_LOGITS * DRAW_THREADS; i < n; i += DRAW_THREADS) {
        take(key_at(i), i);
    }
    __syncthreads();
    if (!exact && threadIdx.x < WARP) {
        int at = taken;
        for (int start = 0; start < n && at < most; start += WARP) {
            const int i = start + threadIdx.x;
            const bool equal = i < n && key_at(i) == bound;
            const u32 equals = __ballot_sync(ALL_LANES, equal);
            const int mine = at + __popc(equals & ((1u << threadIdx.x) - 1));
            if (equal && mine < most) {
                keys[mine] = bound;
                places[mine] = i;
            }
            at += __popc(equals);
        }
    }
    __syncthreads();
    if (threadIdx.x >= MOST_CANDIDATES) return;
    if (threadIdx.x >= most) keys[threadIdx.x] = 0;
    barrier_of<MOST_CANDIDATES>();
    const u32 key = keys[threadIdx.x];
    const int at = places[threadIdx.x];
    int rank = 0;
#pragma unroll 8
    for (int i = 0; i < MOST_CANDIDATES; i++) {
        rank += keys[i] > key || (keys[i] == key && places[i] < at);
    }
    if (threadIdx.x < most) {
        sorted[rank] = key;
        order[rank] = at;
    }
    barrier_of<MOST_CANDIDATES>();
    const float temperature = a.temperature[place], top_p = a.top_p[place];
    const double uniform = a.uniforms[place * a.positions + drawn];
    const bool real = threadIdx.x < most;
    const float highest = number_of(sorted[0]) / temperature;
    e[threadIdx.x] = real ? expf(number_of(sorted[threadIdx.x]) / temperature - highest) : 0;
    barrier_of<MOST_CANDIDATES>();
    float total = 0, before = 0, kept = 0;
#pragma unroll
    for (int i = 0; i < MOST_CANDIDATES; i++) total += e[i];
    const float p = e[threadIdx.x] / total;
    barrier_of<MOST_CANDIDATES>();
    e[threadIdx.x] = p;
    barrier_of<MOST_CANDIDATES>();
#pragma unroll
    for (int i = 0; i < MOST_CANDIDATES; i++) before += i < threadIdx.x ? e[i] : 0;
    const bool out = before >= top_p && threadIdx.x > 0 && top_p < 1;
    barrier_of<MOST_CANDIDATES>();
    e[threadIdx.x] = out ? 0 : p;
    barrier_of<MOST_CANDIDATES>();
    int last = -1;
#pragma unroll
    for (int i = 0; i < MOST_CANDIDATES; i++) {
        kept += e[i];
        last += e[i] > 0;
    }
    const float share = e[threadIdx.x] / kept;
    barrier_of<MOST_CANDIDATES>();
    e[threadIdx.x] = share;
    barrier_of<MOST_CANDIDATES>();
    if (threadIdx.x) return;
    double edge = 0;
    int chosen = 0;
#pragma unroll
    for (int i = 0; i < MOST_CANDIDATES; i++) {
        edge += (double)e[i];
        chosen += i < most && edge <= uniform;
    }
    const long long name = bad[0] || last < 0 ? -1 : a.names[order[min(chosen, last)]];
    a.out[token] = name;
    if (!speaks) return;
    a.ids[place] = max(name, 0LL);
    a.at[place] = min(a.at[place] + 1, a.positions - 1);
    a.drawn[place] = min(drawn + 1, a.positions - 1);
}

#define FOR_TOKENS(name, Arguments, warps) \
    KERNEL(name##_8, Arguments, warps *WARP, name<1>) \
    KERNEL(name##_16, Arguments, warps *WARP, name<2>) \
    KERNEL(name##_32, Arguments, warps *WARP, name<4>) \
    KERNEL(name##_64, Arguments, warps *WARP, name<8>)

KERNEL(embed_all, Embed, 128, embed)
FOR_TOKENS(project, Project, MOST_WARPS)
FOR_TOKENS(add, Add, 2 * MOST_WARPS)
FOR_TOKENS(gate, Gate, MOST_WARPS)
FOR_TOKENS(score, Score, MOST_WARPS)
KERNEL(finish_all, Finish, 128, finish)
KERNEL(draw_all, Draw, DRAW_THREADS, draw)
KERNEL(attend_32, Attend, ATTEND_WARPS *WARP, attend<32>)
KERNEL(attend_64, Attend, ATTEND_WARPS *WARP, attend<64>)
KERNEL(attend_128, Attend, ATTEND_WARPS *WARP, attend<128>)
