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

   Layers' products are in lm_products.cuh; lm_int8.cu has them for weights in 8 bits. */
#include "lm_products.cuh"

struct Embed {
    Tokens tokens;
    const long long *ids;
    const bf16 *table; /* [vocabulary][channels] */
    Residual residual;
    int channels;
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
    long long apart; /* of temperatures, and of top-ps */
    const float *temperature, *top_p;
    const long long *top_k;
    const double *uniforms; /* [rows][positions] */
    long long *ids, *at, *drawn;
    const long long *end_from;
    long long positions;
    long long *out; /* [tokens]: the token ids drawn, -1 where the logits are no numbers */
};

/* Before and behind the layers */

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
    multiply_tiles<Bfloat16, N, 4>(a.matrix, a.x, first, begin, use);
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

INLINE int sum_of_warp(int x) { return __reduce_add_sync(ALL_LANES, x); }
INLINE u64 sum_of_warp(u64 x) {
    for (int apart = 1; apart < WARP; apart *= 2) x += __shfl_xor_sync(ALL_LANES, x, apart);
    return x;
}

/* The sums of all threads' numbers, in their place, known to all. */
template <class Number, int K>
INLINE void sum_up(Number (&x)[K], Number (&shared)[2][K][WARP], int turn) {
    /* By turns, for a warp may come to the next sum before others have read this one. */
    auto &mine = shared[turn % 2];
#pragma unroll
    for (int k = 0; k < K; k++) {
        const Number sum = sum_of_warp(x[k]);
        if (threadIdx.x % WARP == 0) mine[k][threadIdx.x / WARP] = sum;
    }
    __syncthreads();
#pragma unroll
    for (int k = 0; k < K; k++) x[k] = sum_of_warp(mine[k][threadIdx.x % WARP]);
}

/* How a row draws. */
struct How {
    long long top_k;
    float temperature, top_p;
    double uniform;
};

#define WHOLE 1099511627776.0f /* 2^40: the mass of the likeliest token */

/* A token, by what stands before it. */
struct Reached {
    u32 key;
    u64 before; /* the sum over those of greater keys */
};

/* A draw from more candidates than are put in order: the place drawn, or -1, known to the first
   warp.

   Tokens have an order, the greatest logit first and of equal ones the first place; and a mass, e to
   the logit by the temperature, as a share of the likeliest one's. Masses are whole numbers, so that
   no sum depends on how it is added up. Of this order top-k and top-p each keep the first tokens,
   and what is drawn is the token with which the mass comes to exceed a share of what is kept.

   `own` are the keys of each DRAW_THREADS-th place, `key_at` gives those of any. */
template <class KeyAt>
INLINE int draw_of_many(const u32 (&own)[OWN_LOGITS], const KeyAt &key_at, int n, const How &how) {
    __shared__ u64 shared[2][1][WARP];
    __shared__ u32 first;
    if (threadIdx.x == 0) first = 0;
    __syncthreads();
    u32 greatest = 0;
    for (int i = threadIdx.x; i < n; i += DRAW_THREADS) greatest = max(greatest, key_at(i));
    atomicMax(&first, greatest);
    __syncthreads();
    const float highest = number_of(first) / how.temperature;
    if (!(fabsf(highest) < INFINITE)) return -1;
    auto share_of = [&](u32 key) { return expf(number_of(key) / how.temperature - highest); };
    float shares[OWN_LOGITS];
#pragma unroll
    for (int i = 0; i < OWN_LOGITS; i++) shares[i] = share_of(own[i]);
    auto one = [](float) { return (u64)1; };
    auto mass = [](float share) { return (u64)(share * WHOLE); };

    int turn = 0;
    auto sum_from = [&](u32 bound, auto of) { /* over the tokens of this key, above 0, and greater */
        u64 sum[1] = {0};
#pragma unroll
        for (int i = 0; i < OWN_LOGITS; i++) sum[0] += own[i] >= bound ? of(shares[i]) : 0;
        for (int i = threadIdx.x + OWN_LOGITS * DRAW_THREADS; i < n; i += DRAW_THREADS) {
            const u32 key = key_at(i);
            if (key >= bound) sum[0] += of(share_of(key));
        }
        sum_up(sum, shared, turn++);
        return sum[0];
    };
    /* The token with which the sum comes to exceed `below`, less than that over all. */
    auto reach = [&](u64 below, auto of) {
        Reached found = {0, 0};
#pragma unroll 1
        for (u32 bit = 1u << 31; bit; bit >>= 1) {
            const u64 sum = sum_from(found.key | bit, of);
            if (sum > below) {
                found.key |= bit;
            } else {
                found.before = sum;
            }
        }
        return found;
    };
    u64 kept = sum_from(1, mass);
    if (how.top_k < n) {
        const Reached last = reach((u64)how.top_k - 1, one);
        const u64 equal_ones = (u64)how.top_k - last.before;
        kept = sum_from(last.key + 1, mass) + equal_ones * mass(share_of(last.key));
    }
    if (how.top_p < 1) {
        const u64 below = min((u64)ceil(how.top_p * (double)kept), kept) - 1;
        const Reached last = reach(below, mass);
        const u64 each = mass(share_of(last.key));
        kept = last.before + ((below - last.before) / each + 1) * each;
    }
    const u64 below = min((u64)(how.uniform * (double)kept), kept - 1);
    const Reached drawn = reach(below, mass);
    int skipped = (int)((below - drawn.before) / mass(share_of(drawn.key))); /* equal ones */
    int place = -1;
    for (int start = 0; start < n && place < 0 && threadIdx.x < WARP; start += WARP) {
        const int i = start + threadIdx.x;
        const u32 equals = __ballot_sync(ALL_LANES, i < n && key_at(i) == drawn.key);
        for (u32 left = equals; left && place < 0; left &= left - 1) {
            if (skipped-- == 0) place = start + __ffs(left) - 1;
        }
    }
    return place;
}

/* Tells which token was drawn, of this name or -1, and moves the row on. */
INLINE void settle(const Draw &a, int token, long long place, long long name) {
    a.out[token] = name;
    if (a.speaking && !a.speaking[place]) return;
    a.ids[place] = max(name, 0LL);
    a.at[place] = min(a.at[place] + 1, a.positions - 1);
    a.drawn[place] = min(a.drawn[place] + 1, a.positions - 1);
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
    const How how = {a.top_k[place], a.temperature[place * a.apart], a.top_p[place * a.apart],
                     a.uniforms[place * a.positions + drawn]};
    const int most = (int)min(how.top_k, (long long)n);
    if (most > MOST_CANDIDATES) {
        const int at = bad[0] ? -1 : draw_of_many(own, key_at, n, how);
        if (threadIdx.x == 0) settle(a, token, place, at < 0 ? -1 : a.names[at]);
        return;
    }
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
    const bool real = threadIdx.x < most;
    const float highest = number_of(sorted[0]) / how.temperature;
    e[threadIdx.x] = real ? expf(number_of(sorted[threadIdx.x]) / how.temperature - highest) : 0;
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
    const bool out = before >= how.top_p && threadIdx.x > 0 && how.top_p < 1;
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
        chosen += i < most && edge <= how.uniform;
    }
    settle(a, token, place, bad[0] || last < 0 ? -1 : a.names[order[min(chosen, last)]]);
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
