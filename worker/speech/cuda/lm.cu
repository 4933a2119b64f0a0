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
   read them: [outputs / 16][inputs / 32][2][8][4][8], the last four being half of the outputs,
   output, quarter of the inputs, input. The two halves of a tile are what a kernel needs together:
   the two channels that are rotated with each other, a gate and its up; else neighbours. */
#include "device.cuh"

#define PAGE 64      /* positions of a page */
#define TILE 16      /* outputs that a warp computes */
#define CHUNK 32     /* inputs that it reads at a time */
#define MOST_WARPS 8 /* that share the inputs of a product */
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

/* Adds up a tile of outputs for 8 * N tokens from `first` on, and calls `use(token, output g,
   output g + 8, lane)` once for each token and pair; all lanes of a warp have the same token modulo
   what `lane` % 4 adds. `begin` is called once the first weights are on their way: it waits for
   `x`, and says whether there is anything to do. AHEAD chunks are read at a time. */
template <int N, int AHEAD, typename Begin, typename Use>
INLINE void tile_times(const Matrix &m, int tile, const bf16 *x, int first, Begin begin, Use use) {
    const int lane = threadIdx.x % WARP, warp = threadIdx.x / WARP;
    const int chunks = m.inputs / CHUNK, warps = m.warps;
    const bf16 *weights = m.weights + (size_t)tile * chunks * TILE * CHUNK + lane * 8;
    const bf16 *columns = x + (size_t)(first + lane / 4) * m.inputs + lane % 4 * 8;
    float sums[N][4] = {};
    uint4 a[AHEAD][2], b[AHEAD][N];
#pragma unroll
    for (int i = 0; i < AHEAD; i++) {
        const int chunk = warp + i * warps;
        if (chunk < chunks) {
            a[i][0] = read_once(weights + (size_t)chunk * TILE * CHUNK);
            a[i][1] = read_once(weights + (size_t)chunk * TILE * CHUNK + 8 * CHUNK);
        }
    }
    if (!begin()) return;
    for (int start = warp; start < chunks; start += AHEAD * warps) {
#pragma unroll
        for (int i = 0; i < AHEAD; i++) {
            const int chunk = start + i * warps;
            if (chunk < chunks) {
#pragma unroll
                for (int n = 0; n < N; n++) {
                    b[i][n] = *(const uint4 *)(columns + (size_t)n * TOKENS * m.inputs
                                               + chunk * CHUNK);
                }
            }
        }
#pragma unroll
        for (int i = 0; i < AHEAD; i++) {
            if (start + i * warps < chunks) {
#pragma unroll
                for (int n = 0; n < N; n++) {
                    multiply(sums[n], a[i][0].x, a[i][1].x, a[i][0].y, a[i][1].y, b[i][n].x,
                             b[i][n].y);
                    multiply(sums[n], a[i][0].z, a[i][1].z, a[i][0].w, a[i][1].w, b[i][n].z,
                             b[i][n].w);
                }
            }
            const int next = start + (i + AHEAD) * warps;
            if (next < chunks) {
                a[i][0] = read_once(weights + (size_t)next * TILE * CHUNK);
                a[i][1] = read_once(weights + (size_t)next * TILE * CHUNK + 8 * CHUNK);
            }
        }
    }
    __shared__ float shared[MOST_WARPS][N][2][2][WARP];
#pragma unroll
    for (int n = 0; n < N; n++) {
#pragma unroll
        for (int c = 0; c < 4; c++) shared[warp][n][c % 2][c / 2][lane] = sums[n][c];
    }
    __syncthreads();
    for (int i = warp; i < 2 * N; i += warps) {
        float one = 0, other = 0;
        for (int w = 0; w < warps; w++) {
            one += shared[w][i / 2][i % 2][0][lane];
            other += shared[w][i / 2][i % 2][1][lane];
        }
        use(i / 2 * TOKENS + lane % 4 * 2 + i % 2, one, other, lane);
    }
}

/* The norm's factors of the 8 * N tokens from `first` on; each block makes its own. */
template <int N>
INLINE void factors(const Squares &s, int channels, int first, float *out) {
    for (int i = threadIdx.x; i < N * TOKENS * 4; i += blockDim.x) {
        const float *parts = s.parts + (size_t)(first + i / 4) * s.number;
        float sum = 0;
#pragma unroll 8
        for (int part = i % 4; part < s.number; part += 4) sum += parts[part];
        sum = sum_over(sum, 1, 4);
        out[i / 4] = rsqrtf(sum / channels + s.eps);
    }
}

/* Chunks of the weights that a lane has on their way: all registers that N leaves. */
template <int N>
__device__ constexpr int ahead(int alone) {
    return N == 1 ? alone : N == 8 ? 2 : 4;
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
    wait_for_the_last();
    let_the_next_begin();
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
    const int tile = blockIdx.x, first = blockIdx.y * N * TOKENS;
    int count = 0;
    auto begin = [&] {
        wait_for_the_last();
        let_the_next_begin();
        count = (int)*a.tokens.count;
        if (first >= count) return false;
        factors<N>(a.squares, a.matrix.inputs, first, factor);
        return true;
    };
    const int tiles_of_head = a.pages.head_size / TILE, half = a.pages.head_size / 2;
    const int head = tile / tiles_of_head, kv = a.pages.kv_heads;
    auto use = [&](int place, float one, float other, int lane) {
        const int token = first + place;
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
    tile_times<N, ahead<N>(4)>(a.matrix, tile, a.x, first, begin, use);
}

template <int N>
INLINE void add(const Add &a) {
    const int tile = blockIdx.x, first = blockIdx.y * N * TOKENS;
    int count = 0;
    auto begin = [&] {
        wait_for_the_last();
        let_the_next_begin();
        count = (int)*a.tokens.count;
        return first < count;
    };
    const int channels = a.matrix.outputs;
    auto use = [&](int place, float one, float other, int lane) {
        const size_t token = first + place;
        const bool real = token < count;
        const int channel = tile * TILE + lane / 4;
        if (real) {
            one += a.residual.values[token * channels + channel];
            other += a.residual.values[token * channels + channel + 8];
        }
        write_residual(a.residual, channels, token, tile, channel, one, other, real, lane);
    };
    tile_times<N, ahead<N>(8)>(a.matrix, tile, a.x, first, begin, use);
}

template <int N>
INLINE void gate(const Gate &a) {
    __shared__ float factor[N * TOKENS];
    const int tile = blockIdx.x, first = blockIdx.y * N * TOKENS;
    int count = 0;
    auto begin = [&] {
        wait_for_the_last();
        let_the_next_begin();
        count = (int)*a.tokens.count;
        if (first >= count) return false;
        factors<N>(a.squares, a.matrix.inputs, first, factor);
        return true;
    };
    auto use = [&](int place, float one, float other, int lane) {
        const size_t token = first + place;
        if (token >= count) return;
        one *= factor[place];
        other *= factor[place];
        const float out = one / (1 + expf(-one)) * other;
        a.out[token * (a.matrix.outputs / 2) + tile * 8 + lane / 4] = bf16_of(out);
    };
    tile_times<N, ahead<N>(4)>(a.matrix, tile, a.x, first, begin, use);
}

INLINE void finish(const Finish &a) {
    __shared__ float factor;
    wait_for_the_last();
    let_the_next_begin();
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
    const int tile = blockIdx.x, first = blockIdx.y * N * TOKENS;
    int count = 0;
    auto begin = [&] {
        wait_for_the_last();
        let_the_next_begin();
        count = (int)*a.tokens.count;
        return first < count;
    };
    auto use = [&](int place, float one, float other, int lane) {
        const size_t token = first + place;
        if (token >= count) return;
        float *out = a.logits + token * a.matrix.outputs + tile * TILE + lane / 4;
        out[0] = one;
        out[8] = other;
    };
    tile_times<N, ahead<N>(4)>(a.matrix, tile, a.x, first, begin, use);
}

/* Attention */

#define ATTEND_WARPS 4
#define KEYS 16        /* positions that a warp takes at a time, all of one page */
#define MOST_SHARING 8 /* queries that share a key */

/* What a warp, a block or all blocks have found of the queries that share a key. */
template <int D>
struct Found {
    float most[MOST_SHARING], total[MOST_SHARING], out[MOST_SHARING][D];
};

/* Queries of one token that share keys: `splits` blocks take their positions by turns, the warps
   of each by turns again. What they find is put together in one order, by the block that comes
   last. D channels of a head, G at least as many queries as share a key. */
template <int D, int G>
INLINE void attend(const Attend &a) {
    constexpr int OWN = D / 8, PART = D / WARP; /* channels of a lane: of a key, of the values */
    __shared__ Found<D> found[ATTEND_WARPS];
    __shared__ float weight[ATTEND_WARPS][G][KEYS];
    __shared__ bool last;
    wait_for_the_last();
    let_the_next_begin();
    const int split = blockIdx.x, kv_head = blockIdx.y, token = blockIdx.z;
    if (token >= *a.tokens.count) return;
    const int lane = threadIdx.x % WARP, warp = threadIdx.x / WARP;
    const int row = row_of(a.tokens, token), sharing = a.heads / a.pages.kv_heads;
    const long long position = a.tokens.positions[token];
    const int parts = (int)(position / KEYS) + 1;
    const int active = min(a.splits, (parts + ATTEND_WARPS - 1) / ATTEND_WARPS);
    if (split >= active) return;

    const size_t queries = ((size_t)token * a.heads + kv_head * sharing) * D;
    float query[G][OWN];
#pragma unroll
    for (int g = 0; g < G; g++) {
#pragma unroll
        for (int i = 0; i < OWN; i++) {
            query[g][i] = g < sharing
                ? float_of(a.queries[queries + g * D + lane % 8 * OWN + i]) * a.scale : 0;
        }
    }
    float most[G], total[G], out[G][PART];
#pragma unroll
    for (int g = 0; g < G; g++) {
        most[g] = -INFINITE;
        total[g] = 0;
#pragma unroll
        for (int i = 0; i < PART; i++) out[g][i] = 0;
    }
    for (int part = split * ATTEND_WARPS + warp; part < parts; part += active * ATTEND_WARPS) {
        const long long begin = (long long)part * KEYS;
        const bf16 *keys = page_of(a.pages, row, begin, 0, kv_head);
        const bf16 *values = page_of(a.pages, row, begin, 1, kv_head);
        float score[KEYS / 4][G];
#pragma unroll
        for (int turn = 0; turn < KEYS / 4; turn++) {
            const int key = turn * 4 + lane / 8;
            float k[OWN];
#pragma unroll
            for (int i = 0; i < OWN; i += 2) {
                const u32 two = *(const u32 *)(keys + key * D + lane % 8 * OWN + i);
                k[i] = low(two);
                k[i + 1] = high(two);
            }
#pragma unroll
            for (int g = 0; g < G; g++) {
                float sum = 0;
#pragma unroll
                for (int i = 0; i < OWN; i++) sum += query[g][i] * k[i];
                sum = sum_over(sum, 1, 8);
                score[turn][g] = begin + key <= position ? sum : -INFINITE;
            }
        }
#pragma unroll
        for (int g = 0; g < G; g++) {
            float now = score[0][g];
#pragma unroll
            for (int turn = 1; turn < KEYS / 4; turn++) now = fmaxf(now, score[turn][g]);
            for (int apart = 8; apart < WARP; apart *= 2) {
                now = fmaxf(now, __shfl_xor_sync(ALL_LANES, now, apart));
            }
            now = fmaxf(now, most[g]);
            const float kept = expf(most[g] - now);
            most[g] = now;
            float sum = 0;
#pragma unroll
            for (int turn = 0; turn < KEYS / 4; turn++) {
                const float e = expf(score[turn][g] - now);
                sum += e;
                if (lane % 8 == 0) weight[warp][g][turn * 4 + lane / 8] = e;
            }
            total[g] = total[g] * kept + sum_over(sum, 8, WARP);
#pragma unroll
            for (int i = 0; i < PART; i++) out[g][i] *= kept;
        }
        __syncwarp();
        /* What lies past the token's position is another's, or nothing's: it is not even read. */
        const int there = (int)min((long long)KEYS, position - begin + 1);
#pragma unroll 4
        for (int key = 0; key < there; key++) {
            float v[PART];
#pragma unroll
            for (int i = 0; i < PART; i++) v[i] = float_of(values[key * D + lane * PART + i]);
#pragma unroll
            for (int g = 0; g < G; g++) {
#pragma unroll
                for (int i = 0; i < PART; i++) out[g][i] += weight[warp][g][key] * v[i];
            }
        }
        __syncwarp();
    }
#pragma unroll
    for (int g = 0; g < G; g++) {
        found[warp].most[g] = most[g];
        found[warp].total[g] = total[g];
#pragma unroll
        for (int i = 0; i < PART; i++) found[warp].out[g][lane * PART + i] = out[g][i];
    }
    __syncthreads();

    const size_t place = (size_t)token * a.pages.kv_heads + kv_head;
    float *partial = a.partial + place * a.splits * MOST_SHARING * (D + 2);
    for (int i = threadIdx.x; i < sharing * D; i += ATTEND_WARPS * WARP) {
        const int g = i / D, d = i % D;
        float top = -INFINITE, sum = 0, x = 0;
        for (int w = 0; w < ATTEND_WARPS; w++) top = fmaxf(top, found[w].most[g]);
        for (int w = 0; w < ATTEND_WARPS; w++) {
            /* A warp that had no positions has found minus infinity, and weighs nothing. */
            const float share = found[w].most[g] == -INFINITE ? 0 : expf(found[w].most[g] - top);
            sum += found[w].total[g] * share;
            x += found[w].out[g][d] * share;
        }
        if (active == 1) {
            a.out[queries + i] = bf16_of(x / sum);
        } else {
            float *mine = partial + (split * MOST_SHARING + g) * (D + 2);
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
        const int g = i / D, d = i % D;
        float top = -INFINITE, sum = 0, x = 0;
        for (int s = 0; s < active; s++) {
            top = fmaxf(top, __ldcg(&partial[(s * MOST_SHARING + g) * (D + 2) + D]));
        }
        for (int s = 0; s < active; s++) {
            const float *theirs = partial + (s * MOST_SHARING + g) * (D + 2);
            const float share = expf(__ldcg(&theirs[D]) - top);
            sum += __ldcg(&theirs[D + 1]) * share;
            x += __ldcg(&theirs[d]) * share;
        }
        a.out[queries + i] = bf16_of(x / sum);
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
INLINE float number_of(u32 key) {
    return __uint_as_float(key & 0x80000000u ? key ^ 0x80000000u : ~key);
}

/* The sum of all threads' numbers, known to all; `shared` has a place for each warp and one more. */
INLINE int sum_of_block(int x, int *shared) {
    x = __reduce_add_sync(ALL_LANES, x);
    __syncthreads();
    if (threadIdx.x % WARP == 0) shared[threadIdx.x / WARP] = x;
    __syncthreads();
    x = shared[threadIdx.x % WARP];
    return __reduce_add_sync(ALL_LANES, x);
}

INLINE void draw(const Draw &a) {
    __shared__ int shared[WARP];
    __shared__ u32 keys[MOST_CANDIDATES], sorted[MOST_CANDIDATES];
    __shared__ int places[MOST_CANDIDATES], order[MOST_CANDIDATES];
    __shared__ float e[MOST_CANDIDATES];
    __shared__ int taken;
    wait_for_the_last();
    let_the_next_begin();
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
    int bad = 0;
    for (int i = threadIdx.x; i < n; i += DRAW_THREADS) {
        if (i != hidden && logits[i] != logits[i]) bad = 1;
    }
#pragma unroll
    for (int i = 0; i < OWN_LOGITS; i++) own[i] = key_at(threadIdx.x + i * DRAW_THREADS);
    bad = sum_of_block(bad, shared);
    const int most = (int)min(min(a.top_k[place], (long long)n), (long long)MOST_CANDIDATES);
    auto at_least = [&](u32 bound) {
        int count = 0;
#pragma unroll
        for (int i = 0; i < OWN_LOGITS; i++) count += own[i] >= bound;
        for (int i = threadIdx.x + OWN_LOGITS * DRAW_THREADS; i < n; i += DRAW_THREADS) {
            count += key_at(i) >= bound;
        }
        return sum_of_block(count, shared);
    };
    /* The greatest bound that `most` logits reach: bit by bit, until it is just as many. */
    u32 bound = 0;
    int reach = n;
    for (u32 bit = 0x80000000u; bit && reach != most; bit >>= 1) {
        const int count = at_least(bound | bit);
        if (count >= most) {
            bound |= bit;
            reach = count;
        }
    }
    if (threadIdx.x == 0) taken = 0;
    __syncthreads();
    /* All above the bound, and of those at it the first ones. */
    const bool exact = reach == most;
    for (int i = threadIdx.x; i < n; i += DRAW_THREADS) {
        const u32 key = key_at(i);
        if (exact ? key >= bound : key > bound) {
            const int at = atomicAdd(&taken, 1);
            keys[at] = key;
            places[at] = i;
        }
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
    if (threadIdx.x < most) {
        int rank = 0;
        for (int i = 0; i < most; i++) {
            rank += keys[i] > keys[threadIdx.x]
                || (keys[i] == keys[threadIdx.x] && places[i] < places[threadIdx.x]);
        }
        sorted[rank] = keys[threadIdx.x];
        order[rank] = places[threadIdx.x];
    }
    __syncthreads();
    const float temperature = a.temperature[place];
    if (threadIdx.x < most) {
        e[threadIdx.x] = expf(number_of(sorted[threadIdx.x]) / temperature
                              - number_of(sorted[0]) / temperature);
    }
    __syncthreads();
    if (threadIdx.x) return;

    const float top_p = a.top_p[place];
    float total = 0, before = 0, kept = 0;
    for (int i = 0; i < most; i++) total += e[i];
    int last = -1;
    for (int i = 0; i < most; i++) {
        float p = e[i] / total;
        const bool out = before >= top_p && i > 0 && top_p < 1;
        before += p;
        if (out) p = 0;
        if (p > 0) last++;
        kept += p;
        e[i] = p;
    }
    const double uniform = a.uniforms[place * a.positions + drawn];
    double edge = 0;
    int chosen = 0;
    for (int i = 0; i < most; i++) {
        edge += (double)(e[i] / kept);
        chosen += edge <= uniform;
    }
    const long long name = bad || last < 0 ? -1 : a.names[order[min(chosen, last)]];
    a.out[token] = name;
    if (!speaks) return;
    a.ids[place] = max(name, 0LL);
    a.at[place] = min(a.at[place] + 1, a.positions - 1);
    a.drawn[place] = min(drawn + 1, a.positions - 1);
}

#define FOR_TOKENS(name, Arguments) \
    KERNEL(name##_8, Arguments, MOST_WARPS *WARP, name<1>) \
    KERNEL(name##_16, Arguments, MOST_WARPS *WARP, name<2>) \
    KERNEL(name##_32, Arguments, MOST_WARPS *WARP, name<4>) \
    KERNEL(name##_64, Arguments, MOST_WARPS *WARP, name<8>)

KERNEL(embed_all, Embed, 128, embed)
FOR_TOKENS(project, Project)
FOR_TOKENS(add, Add)
FOR_TOKENS(gate, Gate)
FOR_TOKENS(score, Score)
KERNEL(finish_all, Finish, 128, finish)
KERNEL(draw_all, Draw, DRAW_THREADS, draw)
#define ATTEND(name, D, G) KERNEL(name, Attend, ATTEND_WARPS *WARP, (attend<D, G>))
ATTEND(attend_32, 32, 8)
ATTEND(attend_64, 64, 8)
ATTEND(attend_64_7, 64, 7)
ATTEND(attend_128, 128, 8)
