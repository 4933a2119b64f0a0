/* A Qwen2 decoder in 8-bit integers for CPUs with AVX512-VNNI.

   Weights: int8 in groups of 32 along the input, one float16 scale a group (what GGUF calls Q8_0);
   activations are quantised the same way on the fly, products are summed in int32, groups in
   float32. All else (norms, rotation, softmax, the residual stream) is float32; keys and values
   are float16.

   A row's arithmetic never depends on what else is in the call: results are the same to the bit
   whatever the batch.

   Packed weights [out, in], both multiples of 16 and 32, for blocks of 16 outputs:
     int8    [out/16][in/32][8][16][4]   the 4 inputs that one instruction multiplies, innermost,
                                         each with 128 added: the instruction wants one unsigned side
     float16 [out/16][in/32][16]         the scales, after all weights
   Cache of one sequence: [layer][keys, values][kv head][positions * head_dim] float16, where
     keys    [positions/16][head_dim][16]   16 positions at a time are multiplied
     values  [positions][head_dim] */
#include "pool.h"

#include <errno.h>
#include <math.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>

#define GROUP 32
#define BLOCK 16
#define TILE 8 /* tokens that share one read of the weights */
#define LARGE_TILE 12 /* ... of a long prompt */
#define MANY (2 * TILE) /* tokens above which multiplying takes longer than reading the weights */
#define MOST_HEAD_DIM 128
#define HEADS_TOGETHER 8

/* Compilers like to finish one token after the other: each product then waits for the one before. */
#define KEEP_ORDER(x) __asm__ volatile("" : "+v"(x))

#define INLINE static inline __attribute__((always_inline))

typedef struct {
    int64_t hidden, inner, layers, heads, kv_heads, head_dim;
    int64_t positions; /* of one sequence of the cache, a multiple of 16 */
    float eps;
} Sizes;

typedef struct {
    const uint8_t *qkv, *out, *gate_up, *down; /* packed; gate and up alternate, 32 rows each */
    const float *qkv_bias, *attention_norm, *mlp_norm;
} Layer;

/* Quantised activations of all tokens: int8 [tokens][width], and of each group its scale and what
   the added 128 must be corrected by. */
typedef struct {
    int64_t width;
    int8_t *values;
    float *scales;        /* [tokens][width / GROUP] */
    int32_t *corrections; /* [tokens][width / GROUP] */
} Quantised;

typedef struct {
    Sizes sizes;
    const Layer *layers;
    const float *final_norm;
    const float *cosines, *sines; /* [positions][head_dim / 2] */
    int64_t tokens;
    int64_t *rows, *at; /* [tokens]: sequence and position of each */
    uint16_t *cache;
    const int64_t *wanted; /* [results], ascending: whose hidden states are asked for */
    int64_t results;
    float *x;       /* [tokens][hidden]: embeddings in, normalised hidden states out, [results] */
    float *queries; /* [tokens][heads * head_dim] */
    float *scores;  /* [members][HEADS_TOGETHER][positions] */
    Quantised wide, narrow; /* of width inner; of width hidden or heads * head_dim */
} Forward;

/* Arithmetic */

INLINE __m512 exponential(__m512 x) { /* relative error below 3e-7 */
    __m512 n = _mm512_roundscale_ps(_mm512_mul_ps(x, _mm512_set1_ps(1.44269504f)), 8);
    __m512 r = _mm512_fnmadd_ps(n, _mm512_set1_ps(0.693359375f), x);
    r = _mm512_fnmadd_ps(n, _mm512_set1_ps(-2.12194440e-4f), r);
    __m512 y = _mm512_set1_ps(1.0f / 720);
    y = _mm512_fmadd_ps(y, r, _mm512_set1_ps(1.0f / 120));
    y = _mm512_fmadd_ps(y, r, _mm512_set1_ps(1.0f / 24));
    y = _mm512_fmadd_ps(y, r, _mm512_set1_ps(1.0f / 6));
    y = _mm512_fmadd_ps(y, r, _mm512_set1_ps(0.5f));
    y = _mm512_fmadd_ps(y, r, _mm512_set1_ps(1.0f));
    y = _mm512_fmadd_ps(y, r, _mm512_set1_ps(1.0f));
    return _mm512_scalef_ps(y, n);
}

INLINE __m512 silu(__m512 x) {
    __m512 e = exponential(_mm512_sub_ps(_mm512_setzero_ps(), x));
    return _mm512_div_ps(x, _mm512_add_ps(_mm512_set1_ps(1.0f), e));
}

/* 32 floats -> one group: the greatest becomes 127. */
INLINE void quantise_group(__m512 a, __m512 b, const Quantised *q, int64_t token, int64_t group) {
    float most = _mm512_reduce_max_ps(_mm512_max_ps(_mm512_abs_ps(a), _mm512_abs_ps(b)));
    float scale = most / 127.0f;
    __m512 inverse = _mm512_set1_ps(most > 0 ? 127.0f / most : 0.0f);
    __m512i low = _mm512_cvtps_epi32(_mm512_mul_ps(a, inverse));
    __m512i high = _mm512_cvtps_epi32(_mm512_mul_ps(b, inverse));
    int8_t *to = q->values + token * q->width + group * GROUP;
    _mm_storeu_si128((__m128i *)to, _mm512_cvtepi32_epi8(low));
    _mm_storeu_si128((__m128i *)(to + 16), _mm512_cvtepi32_epi8(high));
    int64_t place = token * (q->width / GROUP) + group;
    q->scales[place] = scale;
    q->corrections[place] = -128 * _mm512_reduce_add_epi32(_mm512_add_epi32(low, high));
}

INLINE void quantise_row(const float *x, const Quantised *q, int64_t token) {
    for (int64_t group = 0; group < q->width / GROUP; group++)
        quantise_group(_mm512_loadu_ps(x + group * GROUP), _mm512_loadu_ps(x + group * GROUP + 16),
                       q, token, group);
}

/* 16 outputs of `count` tokens from `token` on: y[i], a vector each. `in_order`, all tokens advance
   together: faster where multiplying is all there is to do, slower where memory is waited for. */
INLINE void multiply_some(const uint8_t *packed, int64_t outputs, int64_t block,
                          const Quantised *q, int64_t token, const int count, const int in_order,
                          __m512 *y) {
    const int64_t width = q->width, groups = width / GROUP;
    const uint8_t *weights = packed + block * width * BLOCK;
    const uint8_t *scales = packed + outputs * width + block * groups * BLOCK * 2;
    const int8_t *values = q->values + token * width;
    const float *factors = q->scales + token * groups;
    const int32_t *corrections = q->corrections + token * groups;
    __m512 near[LARGE_TILE], *totals = in_order ? near : y;
    for (int i = 0; i < count; i++) totals[i] = _mm512_setzero_ps();
    for (int64_t group = 0; group < groups; group++) {
        __m512i sums[LARGE_TILE];
#pragma GCC unroll 12
        for (int i = 0; i < count; i++)
            sums[i] = _mm512_set1_epi32(corrections[i * groups + group]);
#pragma GCC unroll 8
        for (int quad = 0; quad < GROUP / 4; quad++) {
            _mm_prefetch((const char *)weights + 4096, _MM_HINT_T0);
            __m512i w = _mm512_load_si512(weights);
            weights += 64;
#pragma GCC unroll 12
            for (int i = 0; i < count; i++) {
                int32_t four;
                memcpy(&four, values + i * width + group * GROUP + quad * 4, 4);
                sums[i] = _mm512_dpbusd_epi32(sums[i], w, _mm512_set1_epi32(four));
                if (in_order) KEEP_ORDER(sums[i]);
            }
        }
        __m512 scale = _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)(scales + group * 32)));
#pragma GCC unroll 12
        for (int i = 0; i < count; i++) {
            __m512 both = _mm512_mul_ps(scale, _mm512_set1_ps(factors[i * groups + group]));
            totals[i] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(sums[i]), both, totals[i]);
        }
    }
    if (in_order)
        for (int i = 0; i < count; i++) y[i] = near[i];
}

static void multiply(const uint8_t *packed, int64_t outputs, int64_t block, const Quantised *q,
                     int64_t token, int count, int in_order, __m512 *y) {
    if (in_order && count == LARGE_TILE) {
        multiply_some(packed, outputs, block, q, token, LARGE_TILE, 1, y);
        return;
    }
    if (count > TILE) { /* what is left of a long prompt */
        multiply_some(packed, outputs, block, q, token, TILE, 0, y);
        multiply(packed, outputs, block, q, token + TILE, count - TILE, 0, y + TILE);
        return;
    }
    switch (count) {
    case 1: multiply_some(packed, outputs, block, q, token, 1, 0, y); break;
    case 2: multiply_some(packed, outputs, block, q, token, 2, 0, y); break;
    case 3: multiply_some(packed, outputs, block, q, token, 3, 0, y); break;
    case 4: multiply_some(packed, outputs, block, q, token, 4, 0, y); break;
    case 5: multiply_some(packed, outputs, block, q, token, 5, 0, y); break;
    case 6: multiply_some(packed, outputs, block, q, token, 6, 0, y); break;
    case 7: multiply_some(packed, outputs, block, q, token, 7, 0, y); break;
    default: multiply_some(packed, outputs, block, q, token, 8, 0, y);
    }
}

INLINE int tile_of(int64_t tokens) { return tokens > MANY ? LARGE_TILE : TILE; }

INLINE int least(int64_t a, int64_t b) { return (int)(a < b ? a : b); }

/* The stages of a layer. Members share the pieces of each; pool_meet stands between two. */

static void normalise(Pool *pool, const Forward *f, const float *weight, int quantise) {
    int64_t hidden = f->sizes.hidden;
    for (int64_t token; (token = pool_take(pool, f->tokens)) >= 0;) {
        float *x = f->x + token * hidden;
        __m512 squares = _mm512_setzero_ps();
        for (int64_t i = 0; i < hidden; i += 16) {
            __m512 v = _mm512_loadu_ps(x + i);
            squares = _mm512_fmadd_ps(v, v, squares);
        }
        __m512 factor = _mm512_set1_ps(
            1.0f / sqrtf(_mm512_reduce_add_ps(squares) / (float)hidden + f->sizes.eps));
        for (int64_t i = 0; i < hidden; i += GROUP) {
            __m512 a = _mm512_mul_ps(_mm512_mul_ps(_mm512_loadu_ps(x + i), factor),
                                     _mm512_loadu_ps(weight + i));
            __m512 b = _mm512_mul_ps(_mm512_mul_ps(_mm512_loadu_ps(x + i + 16), factor),
                                     _mm512_loadu_ps(weight + i + 16));
            if (quantise) {
                quantise_group(a, b, &f->narrow, token, i / GROUP);
            } else {
                _mm512_storeu_ps(x + i, a);
                _mm512_storeu_ps(x + i + 16, b);
            }
        }
    }
    pool_meet(pool);
}

static uint16_t *cached(const Forward *f, int64_t row, int64_t layer, int64_t what, int64_t head) {
    const Sizes *s = &f->sizes;
    return f->cache + (((row * s->layers + layer) * 2 + what) * s->kv_heads + head) * s->positions * s->head_dim;
}

static void rotate(const Forward *f, int64_t position, float *head) {
    int64_t half = f->sizes.head_dim / 2;
    const float *cosines = f->cosines + position * half, *sines = f->sines + position * half;
    for (int64_t i = 0; i < half; i++) {
        float a = head[i], b = head[i + half];
        head[i] = a * cosines[i] - b * sines[i];
        head[i + half] = b * cosines[i] + a * sines[i];
    }
}

/* Queries to their place, keys and values to the cache: one head of one of the three a piece. */
static void project(Pool *pool, const Forward *f, int64_t layer) {
    int tile = tile_of(f->tokens);
    const Sizes *s = &f->sizes;
    int64_t outputs = (s->heads + 2 * s->kv_heads) * s->head_dim;
    for (int64_t piece; (piece = pool_take(pool, s->heads + 2 * s->kv_heads)) >= 0;) {
        for (int64_t token = 0; token < f->tokens; token += tile) {
            int count = least(tile, f->tokens - token);
            float head[LARGE_TILE][MOST_HEAD_DIM];
            for (int64_t part = 0; part < s->head_dim / BLOCK; part++) {
                __m512 y[LARGE_TILE];
                int64_t block = piece * (s->head_dim / BLOCK) + part;
                multiply(f->layers[layer].qkv, outputs, block, &f->narrow, token, count, f->tokens > MANY, y);
                __m512 bias = _mm512_loadu_ps(f->layers[layer].qkv_bias + block * BLOCK);
                for (int i = 0; i < count; i++)
                    _mm512_storeu_ps(head[i] + part * BLOCK, _mm512_add_ps(y[i], bias));
            }
            for (int i = 0; i < count; i++) {
                int64_t at = f->at[token + i], row = f->rows[token + i];
                if (piece < s->heads + s->kv_heads) rotate(f, at, head[i]);
                if (piece < s->heads) {
                    memcpy(f->queries + ((token + i) * s->heads + piece) * s->head_dim, head[i],
                           (size_t)s->head_dim * sizeof(float));
                    continue;
                }
                int64_t what = piece >= s->heads + s->kv_heads;
                uint16_t *to = cached(f, row, layer, what, (piece - s->heads) % s->kv_heads);
                for (int64_t d = 0; d < s->head_dim; d += 16) {
                    uint16_t halves[16];
                    _mm256_storeu_si256((__m256i *)halves,
                                        _mm512_cvtps_ph(_mm512_loadu_ps(head[i] + d), 0));
                    if (what)
                        memcpy(to + at * s->head_dim + d, halves, sizeof halves);
                    else
                        for (int64_t j = 0; j < 16; j++)
                            to[(at / 16 * s->head_dim + d + j) * 16 + at % 16] = halves[j];
                }
            }
        }
    }
    pool_meet(pool);
}

/* `count` query heads that share keys and values: q [count][dim] -> out [count][dim]. */
INLINE void attend_some(const float *q, const uint16_t *keys, const uint16_t *values, int64_t length,
                        int64_t dim, int64_t stride, float *scores, const int count, float *out) {
    float factor = 1.0f / sqrtf((float)dim);
    __m512 most[HEADS_TOGETHER];
    for (int h = 0; h < count; h++) most[h] = _mm512_set1_ps(-INFINITY);
    for (int64_t t = 0; t < length; t += 16) {
        __m512 sums[HEADS_TOGETHER];
#pragma GCC unroll 8
        for (int h = 0; h < count; h++) sums[h] = _mm512_setzero_ps();
        for (int64_t d = 0; d < dim; d++) {
            __m512 key = _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)(keys + (t / 16 * dim + d) * 16)));
#pragma GCC unroll 8
            for (int h = 0; h < count; h++)
                sums[h] = _mm512_fmadd_ps(key, _mm512_set1_ps(q[h * dim + d]), sums[h]);
        }
        /* Positions past the end hold what an older sequence left there. */
        __mmask16 seen = length - t >= 16 ? 0xffff : (__mmask16)((1u << (length - t)) - 1);
        for (int h = 0; h < count; h++) {
            __m512 s = _mm512_mask_blend_ps(seen, _mm512_set1_ps(-INFINITY),
                                            _mm512_mul_ps(sums[h], _mm512_set1_ps(factor)));
            most[h] = _mm512_max_ps(most[h], s);
            _mm512_storeu_ps(scores + h * stride + t, s);
        }
    }
    float totals[HEADS_TOGETHER];
    for (int h = 0; h < count; h++) {
        __m512 top = _mm512_set1_ps(_mm512_reduce_max_ps(most[h])), sum = _mm512_setzero_ps();
        for (int64_t t = 0; t < length; t += 16) {
            __m512 p = exponential(_mm512_sub_ps(_mm512_loadu_ps(scores + h * stride + t), top));
            sum = _mm512_add_ps(sum, p);
            _mm512_storeu_ps(scores + h * stride + t, p);
        }
        totals[h] = _mm512_reduce_add_ps(sum);
    }
    for (int64_t d = 0; d < dim; d += 16) {
        __m512 sums[HEADS_TOGETHER];
#pragma GCC unroll 8
        for (int h = 0; h < count; h++) sums[h] = _mm512_setzero_ps();
        for (int64_t t = 0; t < length; t++) {
            __m512 value = _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)(values + t * dim + d)));
#pragma GCC unroll 8
            for (int h = 0; h < count; h++)
                sums[h] = _mm512_fmadd_ps(value, _mm512_set1_ps(scores[h * stride + t]), sums[h]);
        }
        for (int h = 0; h < count; h++)
            _mm512_storeu_ps(out + h * dim + d, _mm512_div_ps(sums[h], _mm512_set1_ps(totals[h])));
    }
}

static void attend(Pool *pool, int member, const Forward *f, int64_t layer) {
    const Sizes *s = &f->sizes;
    int64_t shared = s->heads / s->kv_heads, dim = s->head_dim;
    float *scores = f->scores + member * HEADS_TOGETHER * s->positions;
    for (int64_t piece; (piece = pool_take(pool, f->tokens * s->kv_heads)) >= 0;) {
        int64_t token = piece / s->kv_heads, kv = piece % s->kv_heads;
        const uint16_t *keys = cached(f, f->rows[token], layer, 0, kv);
        const uint16_t *values = cached(f, f->rows[token], layer, 1, kv);
        int64_t length = f->at[token] + 1;
        for (int64_t first = 0; first < shared; first += HEADS_TOGETHER) {
            int count = least(HEADS_TOGETHER, shared - first);
            int64_t head = kv * shared + first;
            const float *q = f->queries + (token * s->heads + head) * dim;
            float out[HEADS_TOGETHER * MOST_HEAD_DIM];
#define CASE(n) case n: attend_some(q, keys, values, length, dim, s->positions, scores, n, out); break;
            switch (count) { CASE(1) CASE(2) CASE(3) CASE(4) CASE(5) CASE(6) CASE(7) CASE(8) }
#undef CASE
            for (int64_t i = 0; i < count * dim; i += GROUP)
                quantise_group(_mm512_loadu_ps(out + i), _mm512_loadu_ps(out + i + 16), &f->narrow,
                               token, (head * dim + i) / GROUP);
        }
    }
    pool_meet(pool);
}

/* x += q W: 16 outputs a piece. */
static void add_product(Pool *pool, const Forward *f, const uint8_t *packed, const Quantised *q) {
    int tile = tile_of(f->tokens);
    int64_t hidden = f->sizes.hidden;
    for (int64_t block; (block = pool_take(pool, hidden / BLOCK)) >= 0;)
        for (int64_t token = 0; token < f->tokens; token += tile) {
            int count = least(tile, f->tokens - token);
            __m512 y[LARGE_TILE];
            multiply(packed, hidden, block, q, token, count, f->tokens > MANY, y);
            for (int i = 0; i < count; i++) {
                float *x = f->x + (token + i) * hidden + block * BLOCK;
                _mm512_storeu_ps(x, _mm512_add_ps(_mm512_loadu_ps(x), y[i]));
            }
        }
    pool_meet(pool);
}

/* silu(gate) * up, quantised: one group of 32 a piece, whose gates and ups lie side by side. */
static void expand(Pool *pool, const Forward *f, const uint8_t *packed) {
    int tile = tile_of(f->tokens);
    int64_t outputs = 2 * f->sizes.inner;
    for (int64_t group; (group = pool_take(pool, f->sizes.inner / GROUP)) >= 0;)
        for (int64_t token = 0; token < f->tokens; token += tile) {
            int count = least(tile, f->tokens - token);
            __m512 y[4][LARGE_TILE];
            for (int part = 0; part < 4; part++)
                multiply(packed, outputs, group * 4 + part, &f->narrow, token, count,
                         f->tokens > MANY, y[part]);
            for (int i = 0; i < count; i++)
                quantise_group(_mm512_mul_ps(silu(y[0][i]), y[2][i]),
                               _mm512_mul_ps(silu(y[1][i]), y[3][i]), &f->wide, token + i, group);
        }
    pool_meet(pool);
}

/* Go on with the tokens that are wanted, moved to the front. */
static void keep_wanted(Pool *pool, int member, Forward *f) {
    int64_t hidden = f->sizes.hidden, heads = f->sizes.heads * f->sizes.head_dim;
    if (member == 0)
        for (int64_t i = 0; i < f->results; i++) {
            int64_t token = f->wanted[i];
            memmove(f->x + i * hidden, f->x + token * hidden, (size_t)hidden * sizeof(float));
            memmove(f->queries + i * heads, f->queries + token * heads, (size_t)heads * sizeof(float));
            f->rows[i] = f->rows[token];
            f->at[i] = f->at[token];
        }
    f->tokens = f->results;
    pool_meet(pool);
}

static void forward(Pool *pool, int member, void *argument) {
    Forward mine = *(const Forward *)argument, *f = &mine; /* each member counts tokens itself */
    for (int64_t layer = 0; layer < f->sizes.layers; layer++) {
        const Layer *l = &f->layers[layer];
        normalise(pool, f, l->attention_norm, 1);
        project(pool, f, layer);
        /* After the last layer's keys and values, only the results depend on what is left. */
        if (layer == f->sizes.layers - 1 && f->results < f->tokens) keep_wanted(pool, member, f);
        attend(pool, member, f, layer);
        add_product(pool, f, l->out, &f->narrow);
        normalise(pool, f, l->mlp_norm, 1);
        expand(pool, f, l->gate_up);
        add_product(pool, f, l->down, &f->wide);
    }
    normalise(pool, f, f->final_norm, 0);
}

/* What Python calls: native/lm.py has the same structs and functions. */

/* The size of each struct that Python fills, then 0. */
const int64_t *lm_struct_sizes(void) {
    static const int64_t sizes[] = {sizeof(Sizes), sizeof(Layer), 0};
    return sizes;
}

static int allocate(Quantised *q, int64_t tokens, int64_t width) {
    int64_t groups = tokens * (width / GROUP);
    q->width = width;
    q->values = malloc((size_t)(tokens * width));
    q->scales = malloc((size_t)groups * sizeof(float));
    q->corrections = malloc((size_t)groups * sizeof(int32_t));
    return q->values && q->scales && q->corrections;
}

static void release(Quantised *q) {
    free(q->values);
    free(q->scales);
    free(q->corrections);
}

/* Run all layers on tokens of any sequences: x [tokens][hidden] in place, embeddings to normalised
   hidden states, of which the `wanted` ones come first; `rows` and `at` are used up. 0, or -1 where
   memory is short. */
int lm_forward(Pool *pool, const Sizes *sizes, const Layer *layers, const float *final_norm,
               const float *cosines, const float *sines, int64_t tokens, int64_t results,
               const int64_t *wanted, int64_t *rows, int64_t *at, uint16_t *cache, float *x) {
    int64_t heads = sizes->heads * sizes->head_dim;
    Forward f = {.sizes = *sizes, .layers = layers, .final_norm = final_norm, .cosines = cosines,
                 .sines = sines, .tokens = tokens, .rows = rows, .at = at, .wanted = wanted,
                 .results = results, .cache = cache, .x = x};
    f.queries = malloc((size_t)(tokens * heads) * sizeof(float));
    f.scores = malloc((size_t)(pool->members * HEADS_TOGETHER * sizes->positions) * sizeof(float));
    int enough = allocate(&f.wide, tokens, sizes->inner) & allocate(&f.narrow, tokens, sizes->hidden);
    if (f.queries && f.scores && enough) pool_run(pool, forward, &f);
    else enough = 0;
    free(f.queries);
    free(f.scores);
    release(&f.wide);
    release(&f.narrow);
    return enough ? 0 : -1;
}

typedef struct {
    const uint8_t *packed;
    int64_t outputs, tokens;
    const float *x;
    float *y;
    Quantised q;
} Linear;

static void linear(Pool *pool, int member, void *argument) {
    (void)member;
    const Linear *l = argument;
    int tile = tile_of(l->tokens);
    for (int64_t token; (token = pool_take(pool, l->tokens)) >= 0;)
        quantise_row(l->x + token * l->q.width, &l->q, token);
    pool_meet(pool);
    for (int64_t block; (block = pool_take(pool, l->outputs / BLOCK)) >= 0;)
        for (int64_t token = 0; token < l->tokens; token += tile) {
            int count = least(tile, l->tokens - token);
            __m512 y[LARGE_TILE];
            multiply(l->packed, l->outputs, block, &l->q, token, count, l->tokens > MANY, y);
            for (int i = 0; i < count; i++)
                _mm512_storeu_ps(l->y + (token + i) * l->outputs + block * BLOCK, y[i]);
        }
}

/* y [tokens][outputs] = x [tokens][inputs] W. 0, or -1 where memory is short. */
int lm_linear(Pool *pool, const uint8_t *packed, int64_t outputs, int64_t inputs, int64_t tokens,
              const float *x, float *y) {
    Linear l = {.packed = packed, .outputs = outputs, .tokens = tokens, .x = x, .y = y};
    int enough = allocate(&l.q, tokens, inputs);
    if (enough) pool_run(pool, linear, &l);
    release(&l.q);
    return enough ? 0 : -1;
}

typedef struct {
    const uint8_t *weights; /* in memory, or NULL: in the file, from `offset` on */
    int file, kind, parts;
    int64_t offset, outputs, inputs, first, step, total;
    uint8_t *packed;
    atomic_int failed;
} Pack;

enum { FLOAT32, BFLOAT16, FLOAT16 };

INLINE __m512 read16(const void *from, int kind) {
    if (kind == FLOAT32) return _mm512_loadu_ps(from);
    __m256i v = _mm256_loadu_si256(from);
    if (kind == FLOAT16) return _mm512_cvtph_ps(v);
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(v), 16));
}

/* v[i] lane j <-> v[j] lane i */
INLINE void transpose(__m512 v[16]) {
    __m512 a[16];
    for (int i = 0; i < 16; i += 2) {
        a[i] = _mm512_unpacklo_ps(v[i], v[i + 1]);
        a[i + 1] = _mm512_unpackhi_ps(v[i], v[i + 1]);
    }
    for (int i = 0; i < 16; i += 4)
        for (int half = 0; half < 2; half++) {
            __m512d x = _mm512_castps_pd(a[i + half]), y = _mm512_castps_pd(a[i + 2 + half]);
            v[i + 2 * half] = _mm512_castpd_ps(_mm512_unpacklo_pd(x, y));
            v[i + 2 * half + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(x, y));
        }
    /* v[4 g + k] has, in each quarter q, rows 4 g .. 4 g + 3 of column 4 q + k. */
    for (int k = 0; k < 4; k++) {
        __m512 low = _mm512_shuffle_f32x4(v[k], v[4 + k], 0x88);
        __m512 high = _mm512_shuffle_f32x4(v[8 + k], v[12 + k], 0x88);
        a[k] = _mm512_shuffle_f32x4(low, high, 0x88);
        a[8 + k] = _mm512_shuffle_f32x4(low, high, 0xdd);
        low = _mm512_shuffle_f32x4(v[k], v[4 + k], 0xdd);
        high = _mm512_shuffle_f32x4(v[8 + k], v[12 + k], 0xdd);
        a[4 + k] = _mm512_shuffle_f32x4(low, high, 0x88);
        a[12 + k] = _mm512_shuffle_f32x4(low, high, 0xdd);
    }
    for (int i = 0; i < 16; i++) v[i] = a[i];
}

INLINE __m512 rounded(__m512 x) { return _mm512_roundscale_ps(x, 8); }

/* One group of 16 outputs: v[i] lane o is input i of output o. Of a few ranges the one that loses
   least is taken, each with the scale that suits its rounded values best (least squares). */
INLINE void pack_group(const __m512 v[GROUP], uint8_t *bytes, uint8_t *scales) {
    __m512 most = _mm512_setzero_ps();
    for (int i = 0; i < GROUP; i++) most = _mm512_max_ps(most, _mm512_abs_ps(v[i]));
    __mmask16 some = _mm512_cmp_ps_mask(most, _mm512_setzero_ps(), _CMP_GT_OQ);
    __m512 best = _mm512_setzero_ps(), inverse = best, scale = best;
    for (int range = 127; range > 123; range--) {
        __m512 by = _mm512_maskz_div_ps(some, _mm512_set1_ps((float)range), most);
        __m512 both = _mm512_setzero_ps(), squares = both;
        for (int i = 0; i < GROUP; i++) {
            __m512 q = rounded(_mm512_mul_ps(v[i], by));
            both = _mm512_fmadd_ps(q, v[i], both);
            squares = _mm512_fmadd_ps(q, q, squares);
        }
        __m512 fitting = _mm512_maskz_div_ps(some, both, squares);
        __m512 kept = _mm512_mul_ps(fitting, both); /* of the sum of squares */
        __mmask16 better = _mm512_cmp_ps_mask(kept, best, _CMP_GT_OQ);
        best = _mm512_mask_mov_ps(best, better, kept);
        inverse = _mm512_mask_mov_ps(inverse, better, by);
        scale = _mm512_mask_mov_ps(scale, better, fitting);
    }
    for (int quad = 0; quad < GROUP / 4; quad++) {
        __m512i four = _mm512_set1_epi32((int)0x80808080);
        for (int i = 0; i < 4; i++) {
            __m512i q = _mm512_cvtps_epi32(_mm512_mul_ps(v[quad * 4 + i], inverse));
            q = _mm512_slli_epi32(_mm512_and_si512(q, _mm512_set1_epi32(0xff)), 8 * i);
            four = _mm512_xor_si512(four, q);
        }
        _mm512_storeu_si512(bytes + quad * 64, four);
    }
    _mm256_storeu_si256((__m256i *)scales, _mm512_cvtps_ph(scale, 0));
}

static int read_all(int file, void *to, size_t size, int64_t offset) {
    for (size_t done = 0; done < size;) {
        ssize_t more = pread(file, (char *)to + done, size - done, (off_t)(offset + (int64_t)done));
        if (more < 0 && errno == EINTR) continue;
        if (more <= 0) return 0;
        done += (size_t)more;
    }
    return 1;
}

static void pack(Pool *pool, int member, void *argument) {
    (void)member;
    Pack *p = argument;
    int64_t groups = p->inputs / GROUP, bytes = p->kind == FLOAT32 ? 4 : 2;
    size_t rows = (size_t)(BLOCK * p->inputs * bytes);
    uint8_t *buffer = p->weights ? NULL : malloc(rows);
    if (!p->weights && !buffer) atomic_store(&p->failed, ENOMEM);
    for (int64_t piece; (piece = pool_take(pool, p->outputs / BLOCK)) >= 0;) {
        if (atomic_load(&p->failed)) continue;
        const uint8_t *from = p->weights ? p->weights + (size_t)piece * rows : buffer;
        if (!p->weights && !read_all(p->file, buffer, rows, p->offset + piece * (int64_t)rows)) {
            atomic_store(&p->failed, EIO);
            continue;
        }
        int64_t block = p->first + piece / p->parts * p->step + piece % p->parts;
        for (int64_t group = 0; group < groups; group++) {
            __m512 v[GROUP];
            for (int64_t half = 0; half < 2; half++) {
                for (int64_t i = 0; i < BLOCK; i++)
                    v[half * 16 + i] = read16(from + (i * p->inputs + group * GROUP + half * 16) * bytes, p->kind);
                transpose(v + half * 16);
            }
            int64_t place = block * groups + group;
            pack_group(v, p->packed + place * GROUP * BLOCK,
                       p->packed + p->total * p->inputs + place * BLOCK * 2);
        }
    }
    free(buffer);
}

/* Bytes of packed weights. */
int64_t lm_packed_size(int64_t outputs, int64_t inputs) {
    return outputs * inputs + outputs * (inputs / GROUP) * 2;
}

/* weights [outputs][inputs] of a kind (float32, bfloat16, float16: 0, 1, 2), in memory or, where
   that is NULL, in an open file from `offset` on, into blocks of a packed matrix of `total`
   outputs: `parts` blocks from block `first` on, again `step` blocks further on, and so on.
   0, or an error number. */
int lm_pack(Pool *pool, const void *weights, int file, int64_t offset, int kind, int64_t outputs,
            int64_t inputs, int64_t total, int64_t first, int64_t parts, int64_t step,
            uint8_t *packed) {
    Pack p = {.weights = weights, .file = file, .kind = kind, .parts = (int)parts,
              .offset = offset, .outputs = outputs, .inputs = inputs, .first = first,
              .step = step, .total = total, .packed = packed};
    pool_run(pool, pack, &p);
    return atomic_load(&p.failed);
}
