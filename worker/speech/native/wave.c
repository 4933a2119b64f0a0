/* BiCodec's wave generator in bfloat16 for CPUs with AVX512-BF16.

   Every layer is a convolution over time, written as products of rows: activations are
   [time][channels], channels padded to 16 with zeros, with rows of zeros before and after where a
   convolution sees beyond the ends. A transposed convolution of stride s is s convolutions, each
   of which makes every s-th row. Products are bfloat16, sums and the residual stream float32.
   Between two convolutions stands x + sin(ax)^2 / a ("snake"), applied as a result is stored.

   Nothing is compiled for a length, so each length costs the same from the first time on.

   Packed weights: bfloat16 [outputs/16][taps][inputs/2][16][2]. */
#include "pool.h"

#include <math.h>
#include <stdint.h>
#include <string.h>

#define BLOCK 16
#define CHUNK 96  /* rows of a piece of work */
#define MARGIN 32 /* rows of zeros on each side; the farthest tap is 27 rows away */

#define INLINE static inline __attribute__((always_inline))

typedef struct {
    const uint16_t *weights;
    const float *bias;      /* [outputs] */
    int64_t inputs, outputs; /* multiples of 16 */
    int64_t taps;
    int64_t offset, step; /* row r reads rows r + offset + tap * step */
    int64_t stride, phase; /* ... and is row r * stride + phase of the result */
} Convolution;

/* What becomes of a convolution's sums. */
enum { SPEAK, START, INSIDE, ADD };

typedef struct {
    int64_t count; /* convolutions that make one layer: the phases of a transposed one, or 1 */
    const Convolution *parts;
    const float *alpha; /* [outputs] of the snake that follows */
    int64_t what;
} Layer;

typedef struct {
    const Layer *layers;
    int64_t count;
    int64_t rows;    /* of the input */
    float *residual; /* [rows now][outputs], in float32 */
    uint16_t *from, *to; /* [MARGIN + rows now + MARGIN][channels] */
    float *samples;
} Speech;

/* x + sin(ax)^2 / a; the sine of the rest after whole multiples of pi, squared, so signless. */
INLINE __m512 snake(__m512 x, __m512 alpha) {
    __m512 y = _mm512_mul_ps(alpha, x);
    __m512 n = _mm512_roundscale_ps(_mm512_mul_ps(y, _mm512_set1_ps(0.318309886f)), 8);
    __m512 r = _mm512_fnmadd_ps(n, _mm512_set1_ps(3.140625f), y);
    r = _mm512_fnmadd_ps(n, _mm512_set1_ps(9.67653589793e-4f), r);
    __m512 s = _mm512_mul_ps(r, r);
    __m512 p = _mm512_set1_ps(2.6083159810e-6f);
    p = _mm512_fmadd_ps(p, s, _mm512_set1_ps(-1.9810690719e-4f));
    p = _mm512_fmadd_ps(p, s, _mm512_set1_ps(8.3330785856e-3f));
    p = _mm512_fmadd_ps(p, s, _mm512_set1_ps(-1.6666659703e-1f));
    p = _mm512_fmadd_ps(_mm512_mul_ps(p, s), r, r);
    __m512 inverse = _mm512_div_ps(_mm512_set1_ps(1.0f), _mm512_add_ps(alpha, _mm512_set1_ps(1e-9f)));
    return _mm512_fmadd_ps(_mm512_mul_ps(p, p), inverse, x);
}

INLINE void store_halves(uint16_t *to, __m512 x) {
    __m256bh halves = _mm512_cvtneps_pbh(x);
    memcpy(to, &halves, sizeof halves);
}

/* Sums of `rows` rows of `blocks` blocks of 16 outputs, from row `row` and block `block` on. */
INLINE void multiply(const Convolution *c, const uint16_t *from, int64_t row, int64_t block,
                     const int rows, const int blocks, __m512 *sums) {
    const int64_t width = c->inputs, pairs = width / 2, size = c->taps * pairs * 2 * BLOCK;
    const uint16_t *weights = c->weights + block * size;
    __m512 now[24]; /* registers: every index below is known when this is compiled */
#pragma GCC unroll 24
    for (int i = 0; i < rows * blocks; i++) now[i] = _mm512_setzero_ps();
    for (int64_t tap = 0; tap < c->taps; tap++) {
        const uint16_t *in = from + (row + c->offset + tap * c->step) * width;
        for (int64_t pair = 0; pair < pairs; pair++, in += 2, weights += 2 * BLOCK) {
            __m512bh w[4];
#pragma GCC unroll 4
            for (int b = 0; b < blocks; b++) w[b] = (__m512bh)_mm512_loadu_si512(weights + b * size);
#pragma GCC unroll 8
            for (int r = 0; r < rows; r++) {
                int32_t two;
                memcpy(&two, in + r * width, 4);
                __m512bh a = (__m512bh)_mm512_set1_epi32(two);
#pragma GCC unroll 4
                for (int b = 0; b < blocks; b++)
                    now[r * blocks + b] = _mm512_dpbf16_ps(now[r * blocks + b], w[b], a);
            }
        }
    }
#pragma GCC unroll 24
    for (int i = 0; i < rows * blocks; i++) sums[i] = now[i];
}

/* Rows from..to of the convolution's own count, `blocks` blocks of outputs. */
INLINE void convolve(const Speech *s, const Layer *layer, const Convolution *c, int64_t row,
                     int64_t block, const int rows, const int blocks) {
    __m512 sums[24];
    multiply(c, s->from + MARGIN * c->inputs, row, block, rows, blocks, sums);
    for (int r = 0; r < rows; r++) {
        int64_t place = (row + r) * c->stride + c->phase;
        for (int b = 0; b < blocks; b++) {
            int64_t channel = (block + b) * BLOCK, at = place * c->outputs + channel;
            __m512 y = _mm512_add_ps(sums[r * blocks + b], _mm512_loadu_ps(c->bias + channel));
            if (layer->what == SPEAK) { /* one channel alone is real */
                s->samples[place] = tanhf(_mm512_cvtss_f32(y));
                continue;
            }
            if (layer->what == ADD) y = _mm512_add_ps(y, _mm512_loadu_ps(s->residual + at));
            if (layer->what != INSIDE) _mm512_storeu_ps(s->residual + at, y);
            store_halves(s->to + MARGIN * c->outputs + at,
                         snake(y, _mm512_loadu_ps(layer->alpha + channel)));
        }
    }
}

#define ROWS(n, blocks) case n: convolve(s, layer, c, row, block, n, blocks); break;
#define ROWS6(blocks) ROWS(1, blocks) ROWS(2, blocks) ROWS(3, blocks) ROWS(4, blocks) ROWS(5, blocks) ROWS(6, blocks)
#define ROWS8(blocks) ROWS6(blocks) ROWS(7, blocks) ROWS(8, blocks)

/* Rows that one call of convolve takes: as many as leave registers for the weights. */
INLINE int together(int blocks) { return blocks == 4 ? 6 : 8; }

static void some(const Speech *s, const Layer *layer, const Convolution *c, int64_t row,
                 int64_t block, int rows, int blocks) {
    switch (blocks) {
    case 4: switch (rows) { ROWS6(4) } break;
    case 3: switch (rows) { ROWS8(3) } break;
    case 2: switch (rows) { ROWS8(2) } break;
    default: switch (rows) { ROWS8(1) }
    }
}

INLINE int64_t lesser(int64_t a, int64_t b) { return a < b ? a : b; }

/* The first row of a part whose result lies at or after `place`. */
INLINE int64_t first_row(const Convolution *c, int64_t place) {
    int64_t from = place - c->phase;
    return from <= 0 ? -(-from / c->stride) : (from + c->stride - 1) / c->stride;
}

static void share(Pool *pool, const Speech *s, const Layer *layer, int64_t rows) {
    int64_t outputs = layer->parts->outputs / BLOCK, made = rows * layer->parts->stride;
    int blocks = outputs % 4 == 0 ? 4 : outputs % 3 == 0 ? 3 : outputs % 2 == 0 ? 2 : 1;
    /* A piece: some blocks of one part, over CHUNK of its rows; chunks innermost, so that the same
       weights are read next. */
    int64_t chunks = (rows + 1 + CHUNK - 1) / CHUNK, groups = outputs / blocks;
    for (int64_t piece; (piece = pool_take(pool, layer->count * groups * chunks)) >= 0;) {
        const Convolution *c = &layer->parts[piece / chunks / groups];
        int64_t block = piece / chunks % groups * blocks;
        int64_t first = first_row(c, 0), end = first_row(c, made);
        int64_t row = first + piece % chunks * CHUNK, stop = lesser(end, row + CHUNK);
        for (int most = together(blocks); row < stop; row += most)
            some(s, layer, c, row, block, (int)lesser(most, stop - row), blocks);
    }
}

/* Zeros before and after `rows` rows. */
static void clear_margins(uint16_t *rows_, int64_t rows, int64_t width) {
    memset(rows_, 0, (size_t)(MARGIN * width) * 2);
    memset(rows_ + (MARGIN + rows) * width, 0, (size_t)(MARGIN * width) * 2);
}

static void speak(Pool *pool, int member, void *argument) {
    Speech mine = *(const Speech *)argument, *s = &mine; /* each member follows the buffers itself */
    int64_t rows = s->rows;
    for (int64_t i = 0; i < s->count; i++) {
        const Layer *layer = &s->layers[i];
        int64_t made = rows * layer->parts->stride;
        if (member == 0 && layer->what != SPEAK) clear_margins(s->to, made, layer->parts->outputs);
        share(pool, s, layer, rows);
        pool_meet(pool);
        uint16_t *done = s->to;
        s->to = s->from;
        s->from = done;
        rows = made;
    }
}

/* What Python calls: native/wave.py has the same structs and functions. */

/* The size of each struct that Python fills, then 0. */
const int64_t *wave_struct_sizes(void) {
    static const int64_t sizes[] = {sizeof(Convolution), sizeof(Layer), 0};
    return sizes;
}

/* The wave of x [rows][inputs] bfloat16 with MARGIN rows of zeros on each side: samples, as many as
   the strides make of the rows. 0, or -1 where memory is short. */
int wave_speak(Pool *pool, const Layer *layers, int64_t count, int64_t rows, const uint16_t *x,
               float *samples) {
    size_t most = (size_t)((rows + 2 * MARGIN) * layers->parts->inputs), residual = 0;
    int64_t now = rows;
    for (int64_t i = 0; i < count; i++) {
        const Convolution *c = layers[i].parts;
        now *= c->stride;
        size_t halves = (size_t)((now + 2 * MARGIN) * c->outputs);
        size_t floats = (size_t)(now * c->outputs);
        if (halves > most) most = halves;
        if (floats > residual) residual = floats;
    }
    Speech s = {.layers = layers, .count = count, .rows = rows, .samples = samples};
    s.residual = malloc(residual * sizeof(float));
    s.from = malloc(most * 2);
    s.to = malloc(most * 2);
    int enough = s.residual && s.from && s.to;
    if (enough) {
        memcpy(s.from, x, (size_t)((rows + 2 * MARGIN) * layers->parts->inputs) * 2);
        pool_run(pool, speak, &s);
    }
    free(s.residual);
    free(s.from);
    free(s.to);
    return enough ? 0 : -1;
}

typedef struct {
    const float *weights;
    int64_t outputs, inputs, taps;           /* as they are */
    int64_t per_output, per_input, per_tap;  /* floats from one to the next */
    int64_t wide; /* inputs, up to a multiple of 16 */
    uint16_t *packed;
} Pack;

/* To bfloat16, ties to even, as torch rounds. */
INLINE uint16_t half_of(float x) {
    uint32_t bits;
    memcpy(&bits, &x, 4);
    return (uint16_t)((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}

static void pack(Pool *pool, int member, void *argument) {
    (void)member;
    const Pack *p = argument;
    int64_t blocks = (p->outputs + BLOCK - 1) / BLOCK, parts = p->wide / BLOCK;
    for (int64_t piece; (piece = pool_take(pool, blocks * parts)) >= 0;) {
        int64_t block = piece / parts, part = piece % parts;
        for (int64_t tap = 0; tap < p->taps; tap++)
            for (int64_t i = part * BLOCK; i < (part + 1) * BLOCK; i++) {
                uint16_t *to = p->packed + ((block * p->taps + tap) * p->wide + i / 2 * 2) * BLOCK + i % 2;
                for (int64_t o = 0; o < BLOCK; o++) {
                    int64_t output = block * BLOCK + o;
                    int there = output < p->outputs && i < p->inputs;
                    to[o * 2] = there ? half_of(p->weights[output * p->per_output + i * p->per_input + tap * p->per_tap]) : 0;
                }
            }
    }
}

/* float32 weights, so many floats from one output, input and tap to the next, as the layers hold
   them: bfloat16 [outputs / 16][taps][inputs / 2][16][2], both up to multiples of 16 with zeros. */
void wave_pack(Pool *pool, const float *weights, int64_t outputs, int64_t inputs, int64_t taps,
               int64_t per_output, int64_t per_input, int64_t per_tap, uint16_t *packed) {
    Pack p = {weights, outputs, inputs, taps, per_output, per_input, per_tap,
              (inputs + BLOCK - 1) / BLOCK * BLOCK, packed};
    pool_run(pool, pack, &p);
}
