/* Llama's decoder in float32: a layer forward and backward over a flat row, and a step of cached decoding; of the latter the
   attention in bfloat16, too, whose products are other libraries' affair.

   Compiled by compiler.py for the processor it runs on, called by kernels.py.  Matrices are row-major.  A block of rows goes
   through everything that needs only these rows before the next one is begun, so that what lies between two products stays
   in the cache; attention works sequence by sequence.  Threads share blocks, heads, or rows of a gradient, and never a number: what comes
   out does not depend on how many they are, and a row's values not on the rows beside it.  */

#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifdef __AVX512F__
enum { LANES = 16, ROWS = 8, VECTORS = 3 }; /* what the registers hold: ROWS x VECTORS sums, VECTORS factors */
#else
enum { LANES = 8, ROWS = 4, VECTORS = 3 };
#endif
enum {
    PANEL = LANES * VECTORS, /* columns of a packed matrix that lie together */
    BLOCK = 64,              /* rows that go through a layer together */
    QUERIES = 32,            /* whose attention is computed together */
    CACHED = 1 << 17,        /* numbers of a matrix that stay in a core's cache beside others: 512 KiB */
    DEPTH = 256,             /* rows of a gradient's sum that are packed together */
};

typedef float vec __attribute__((vector_size(LANES * sizeof(float))));
typedef float loose __attribute__((vector_size(LANES * sizeof(float)), aligned(sizeof(float)), may_alias)); /* anywhere */
typedef int32_t ints __attribute__((vector_size(LANES * sizeof(float))));
typedef uint32_t uints __attribute__((vector_size(LANES * sizeof(float))));
typedef uint16_t halves __attribute__((vector_size(LANES * sizeof(uint16_t)), aligned(sizeof(uint16_t)), may_alias));
typedef int64_t index_t;

#define UNROLL _Pragma("GCC unroll 16")
#define INLINE static inline __attribute__((always_inline))

/* What the model is. */
typedef struct {
    index_t width, heads, shared_heads, size, inner; /* numbers: of a state, heads, of keys, of a head, between gate and down */
    float eps, scaling;
    index_t threads;
} Shape;

/* Where sequences lie in the row.  Sequence s has the row positions place[start[s] .. start[s + 1] - 1]; the first shared[s] of
   them are those of the sequence before it; chain c is the sequences chain[c] .. chain[c + 1] - 1, which share something. */
typedef struct {
    index_t total, sequences, chains;
    const index_t *start, *place, *shared, *chain;
    const float *angles; /* [total, size]: cosine and sine of every pair's angle, side by side */
} Row;

INLINE index_t least(index_t a, index_t b) { return a < b ? a : b; }
INLINE index_t round_to(index_t n, index_t unit) { return (n + unit - 1) / unit * unit; }
INLINE vec all(float x) { return x - (vec){0}; }
INLINE vec at(const float *x) { return *(const loose *)x; }
INLINE void put(float *x, vec v) { *(loose *)x = v; }
INLINE vec choose(ints mask, vec yes, vec no) { return (vec)((mask & (ints)yes) | (~mask & (ints)no)); }
INLINE vec greater(vec a, vec b) { return choose(a > b, a, b); }

INLINE float sum_of(vec v)
{
    float sum = 0;
    for (int i = 0; i < LANES; i++) sum += v[i];
    return sum;
}

#if defined(__has_builtin)
#if __has_builtin(__builtin_shufflevector)
#ifdef __AVX512F__
#define EVERY_OTHER(a, b, i) \
    __builtin_shufflevector(a, b, i, i + 2, i + 4, i + 6, i + 8, i + 10, i + 12, i + 14, i + 16, i + 18, i + 20, i + 22, \
                            i + 24, i + 26, i + 28, i + 30)
#else
#define EVERY_OTHER(a, b, i) __builtin_shufflevector(a, b, i, i + 2, i + 4, i + 6, i + 8, i + 10, i + 12, i + 14)
#endif
#endif
#endif

/* Number i is the sum of v[i] [LANES]; v is changed. */
INLINE vec sums_of(vec *v)
{
#ifdef EVERY_OTHER
    UNROLL for (int left = LANES / 2; left; left /= 2) /* neighbours are added, and of two vectors comes one */
        UNROLL for (int j = 0; j < left; j++) v[j] = EVERY_OTHER(v[2 * j], v[2 * j + 1], 0) + EVERY_OTHER(v[2 * j], v[2 * j + 1], 1);
    return v[0];
#else
    vec found;
    for (int i = 0; i < LANES; i++) found[i] = sum_of(v[i]);
    return found;
#endif
}

/* A bfloat16 number is the upper half of a float. */
INLINE float wide_one(uint16_t half)
{
    union { uint32_t bits; float number; } it = {.bits = (uint32_t)half << 16};
    return it.number;
}
INLINE vec widened(const uint16_t *x)
{
    return (vec)(__builtin_convertvector(*(const halves *)x, uints) << 16);
}

/* Rounded to the nearest, to the even one where two are as near. */
INLINE uint16_t narrow_one(float x)
{
    union { float number; uint32_t bits; } it = {.number = x};
    return (uint16_t)((it.bits + 0x7fff + (it.bits >> 16 & 1)) >> 16);
}

INLINE void put_narrow(uint16_t *x, vec v)
{
    uints bits = (uints)v;
    *(halves *)x = __builtin_convertvector((bits + 0x7fff + (bits >> 16 & 1)) >> 16, halves);
}

INLINE float dot(index_t size, const float *a, const float *b)
{
    vec sums = all(0);
    index_t k = 0;
    for (; k + LANES <= size; k += LANES) sums += at(a + k) * at(b + k);
    float sum = sum_of(sums);
    for (; k < size; k++) sum += a[k] * b[k];
    return sum;
}

/* e^x to 2 units in the last place: 2^n times a polynomial of what is left, as in Cephes; NaN stays NaN. */
INLINE vec exponential(vec x)
{
    const vec low = all(-87.3f), high = all(88.3f);
    x = choose(x < low, low, x);
    x = choose(x > high, high, x);
    const vec shift = all(12582912.f); /* 1.5 * 2^23: adding it rounds to a whole number */
    vec n = x * all(1.44269504088896341f) + shift;
    ints power = (ints)n << 23;
    n -= shift;
    x -= n * all(0.693359375f);
    x -= n * all(-2.12194440e-4f);
    vec p = all(1.9875691500e-4f);
    p = p * x + all(1.3981999507e-3f);
    p = p * x + all(8.3334519073e-3f);
    p = p * x + all(4.1665795894e-2f);
    p = p * x + all(1.6666665459e-1f);
    p = p * x + all(5.0000001201e-1f);
    p = p * x * x + x + all(1.f);
    return (vec)((ints)p + power);
}

INLINE vec sigmoid(vec x) { return all(1.f) / (all(1.f) + exponential(-x)); }

/* ---- products ---- */

/* Memory of this thread that is not given back: pieces are taken one after the other from what `begin` made. */
typedef struct {
    char *base;
    size_t size, used;
} Scratch;

static __thread Scratch scratch;

static void begin(size_t floats, int pieces)
{
    size_t bytes = floats * sizeof(float) + (size_t)pieces * 64 + 64;
    if (bytes > scratch.size) {
        free(scratch.base);
        scratch.base = aligned_alloc(64, round_to(bytes, 64));
        if (!scratch.base) {
            fputs("tutelage: no memory left for the kernels\n", stderr);
            abort();
        }
        scratch.size = bytes;
    }
    scratch.used = 0;
}

static float *take(size_t floats)
{
    float *piece = (float *)(scratch.base + scratch.used);
    scratch.used += round_to(floats * sizeof(float), 64);
    return piece;
}

/* A [depth, columns] matrix in panels, one after the other, each [depth, its columns] with zeros up to whole vectors. */
typedef struct {
    const float *numbers;
    index_t depth, columns;
} Packed;

static size_t packed_size(index_t depth, index_t columns) { return (size_t)depth * round_to(columns, LANES); }

/* Make panels of a [depth, columns] matrix, from `first` in steps of `step`.  Number (p, j) stands at
   source[(rows ? rows[p] : p) * by_row + j * by_column]. */
static void pack(const float *source, const index_t *rows, index_t by_row, index_t by_column, index_t depth,
                 index_t columns, float *packed, index_t first, index_t step)
{
    for (index_t panel = first; panel * PANEL < columns; panel += step) {
        index_t from = panel * PANEL, count = least(PANEL, columns - from), wide = round_to(count, LANES);
        float *to = packed + (size_t)depth * from;
        for (index_t p = 0; p < depth; p++, to += wide) {
            const float *row = source + (rows ? rows[p] : p) * by_row + from * by_column;
            index_t j = 0;
            for (; by_column == 1 && j + LANES <= count; j += LANES) put(to + j, at(row + j));
            for (; j < count; j++) to[j] = row[j * by_column];
            for (; j < wide; j++) to[j] = 0;
        }
    }
}

/* c [rows, vectors] = or += a [rows, depth] panel; number (i, p) of a stands at a[i * by_row + p * by_depth]. */
INLINE void tile(int rows, int vectors, index_t depth, const float *a, index_t by_row, index_t by_depth,
                 const float *panel, float *c, index_t stride, index_t columns, int add)
{
    vec sums[ROWS][VECTORS];
    for (int i = 0; i < rows; i++)
        for (int j = 0; j < vectors; j++) {
            sums[i][j] = all(0);
            __builtin_prefetch(c + i * stride + j * LANES, 1); /* it comes while the sums are made */
        }
    for (index_t p = 0; p < depth; p++) {
        vec b[VECTORS];
        for (int j = 0; j < vectors; j++) b[j] = at(panel + (p * vectors + j) * LANES);
        for (int i = 0; i < rows; i++) {
            vec factor = all(a[i * by_row + p * by_depth]);
            for (int j = 0; j < vectors; j++) sums[i][j] += factor * b[j];
        }
    }
    for (int i = 0; i < rows; i++, c += stride)
        for (int j = 0; j < vectors; j++) {
            index_t left = columns - j * LANES;
            if (left >= LANES)
                put(c + j * LANES, sums[i][j] + (add ? at(c + j * LANES) : all(0)));
            else
                for (index_t k = 0; k < left; k++)
                    c[j * LANES + k] = sums[i][j][k] + (add ? c[j * LANES + k] : 0);
        }
}

#define TILE(rows, vectors) tile(rows, vectors, depth, a, by_row, by_depth, panel, c, stride, columns, add)
#define TILES(rows)                              \
    case rows:                                   \
        if (vectors == 3) TILE(rows, 3);         \
        else if (vectors == 2) TILE(rows, 2);    \
        else TILE(rows, 1);                      \
        break;

static void any_tile(int rows, int vectors, index_t depth, const float *a, index_t by_row, index_t by_depth,
                     const float *panel, float *c, index_t stride, index_t columns, int add)
{
    switch (rows) {
        TILES(1) TILES(2) TILES(3) TILES(4)
#if defined(__AVX512F__)
        TILES(5) TILES(6) TILES(7) TILES(8)
#endif
    }
}

/* c [rows, columns] = or += a [rows, depth] b, where b may be deeper and wider.  a: see `tile`.  Where the whole of b stays in
   the cache, every few rows of c are finished before the next ones, so that they are written one after the other. */
static void product(index_t rows, index_t depth, index_t columns, const float *a, index_t by_row, index_t by_depth,
                    Packed b, float *c, index_t stride, int add)
{
    const index_t group = depth * columns <= CACHED ? ROWS : rows;
    for (index_t first = 0; first < rows; first += group)
        for (index_t from = 0; from < columns; from += PANEL) {
            const float *panel = b.numbers + (size_t)b.depth * from;
            int vectors = (int)(round_to(least(PANEL, b.columns - from), LANES) / LANES);
            for (index_t i = first; i < least(first + group, rows); i += ROWS)
                any_tile((int)least(ROWS, rows - i), vectors, depth, a + i * by_row, by_row, by_depth, panel,
                         c + i * stride + from, stride, least(PANEL, columns - from), add);
        }
}

/* ---- the parts of a layer, for a block of rows ---- */

/* out [width] = x by weight. */
static void normed_row(index_t width, const float *x, const float *weight, float by, float *out)
{
    index_t k = 0;
    for (; k + LANES <= width; k += LANES) put(out + k, at(x + k) * all(by) * at(weight + k));
    for (; k < width; k++) out[k] = x[k] * by * weight[k];
}

/* scale [rows] = one over the root of the mean square of x [rows, width]; out = x scale weight. */
static void norm(index_t rows, index_t width, const float *x, const float *weight, float eps, float *scale, float *out)
{
    for (index_t i = 0; i < rows; i++, x += width, out += width) {
        scale[i] = 1 / sqrtf(dot(width, x, x) / (float)width + eps);
        normed_row(width, x, weight, scale[i], out);
    }
}

/* With g = grad weight: dx += scale (g - x scale^2 mean(g x)), d_weight += grad x scale, one row. */
static void norm_backward(index_t width, const float *grad, const float *x, const float *weight, float by, float *dx,
                          float *d_weight)
{
    vec along = all(0);
    index_t k = 0;
    for (; k + LANES <= width; k += LANES) along += at(grad + k) * at(weight + k) * at(x + k);
    float sum = sum_of(along);
    for (; k < width; k++) sum += grad[k] * weight[k] * x[k];
    float less = sum * by * by / (float)width;
    for (k = 0; k + LANES <= width; k += LANES) {
        put(d_weight + k, at(d_weight + k) + at(grad + k) * at(x + k) * all(by));
        put(dx + k, at(dx + k) + all(by) * (at(grad + k) * at(weight + k) - at(x + k) * all(less)));
    }
    for (; k < width; k++) {
        d_weight[k] += grad[k] * x[k] * by;
        dx[k] += by * (grad[k] * weight[k] - x[k] * less);
    }
}

/* Turn heads [heads, size] of one token: the pairs (i, i + size / 2) by the token's angles; back with sign -1. */
static void turn(index_t heads, index_t size, float *x, const float *angles, float sign)
{
    index_t half = size / 2;
    for (index_t h = 0; h < heads; h++, x += size)
        for (index_t i = 0; i < half; i++) {
            float one = x[i], other = x[i + half], cosine = angles[2 * i], sine = sign * angles[2 * i + 1];
            x[i] = one * cosine - other * sine;
            x[i + half] = other * cosine + one * sine;
        }
}

/* inner [size] = silu(gate) up, both [2 size] = gate, up. */
static void gated(index_t size, const float *both, float *inner)
{
    index_t k = 0;
    for (; k + LANES <= size; k += LANES) {
        vec gate = at(both + k);
        put(inner + k, gate * sigmoid(gate) * at(both + size + k));
    }
    for (; k < size; k++) {
        float gate = both[k];
        inner[k] = gate / (1 + expf(-gate)) * both[size + k];
    }
}

/* The same again, and d_both from d_inner. */
static void gated_backward(index_t size, const float *both, const float *d_inner, float *inner, float *d_both)
{
    index_t k = 0;
    for (; k + LANES <= size; k += LANES) {
        vec gate = at(both + k), up = at(both + size + k), open = sigmoid(gate), grad = at(d_inner + k);
        put(inner + k, gate * open * up);
        put(d_both + size + k, grad * gate * open);
        put(d_both + k, grad * up * open * (all(1.f) + gate * (all(1.f) - open)));
    }
    for (; k < size; k++) {
        float gate = both[k], up = both[size + k], open = 1 / (1 + expf(-gate)), grad = d_inner[k];
        inner[k] = gate * open * up;
        d_both[size + k] = grad * gate * open;
        d_both[k] = grad * up * open * (1 + gate * (1 - open));
    }
}

/* ---- attention ---- */

/* scores [rows, keys] -> weights, where query i sees the keys up to first + i; what it does not see becomes 0.
   total [rows]: the logarithm of the sum of e^score; known: it is given, and scores become e^(score - total). */
static void soften(index_t rows, index_t keys, index_t stride, index_t first, float scaling, float *scores, float *total,
                   int known)
{
    for (index_t i = 0; i < rows; i++, scores += stride) {
        index_t seen = first + i + 1, whole = round_to(seen, LANES), k;
        for (k = seen; k < whole; k++) scores[k] = -INFINITY;
        float most = known ? total[i] : 0;
        if (!known) {
            vec highest = at(scores);
            for (k = LANES; k < whole; k += LANES) highest = greater(at(scores + k), highest);
            most = highest[0];
            for (k = 1; k < LANES; k++) most = highest[k] > most ? highest[k] : most;
            most *= scaling;
        }
        vec sum = all(0);
        for (k = 0; k < whole; k += LANES) {
            vec weight = exponential(at(scores + k) * all(scaling) - all(most));
            put(scores + k, weight);
            sum += weight;
        }
        if (!known) {
            float all_of_it = sum_of(sum);
            total[i] = most + logf(all_of_it);
            vec by = all(1 / all_of_it);
            for (k = 0; k < whole; k += LANES) put(scores + k, at(scores + k) * by);
        }
        for (k = seen; k < keys; k++) scores[k] = 0;
    }
}

/* Keys or values of a sequence: head `from` of rows of `stride` numbers at `place`, one after the other [length, size]. */
static void gather(index_t length, index_t size, const float *from, index_t stride, const index_t *place, float *to)
{
    for (index_t i = 0; i < length; i++) memcpy(to + i * size, from + place[i] * stride, size * sizeof(float));
}

static index_t longest(const Row *row)
{
    index_t most = 0;
    for (index_t s = 0; s < row->sequences; s++)
        if (row->start[s + 1] - row->start[s] > most) most = row->start[s + 1] - row->start[s];
    return most;
}

/* Every query head of one key head of one sequence: qkv [total, its columns] -> mixed [total, heads size]. */
static void attend(const Shape *shape, const Row *row, index_t s, index_t g, const float *qkv, float *mixed, float *total)
{
    const index_t size = shape->size, group = shape->heads / shape->shared_heads, out = shape->heads * size;
    const index_t stride = out + 2 * shape->shared_heads * size;
    const index_t *place = row->place + row->start[s];
    const index_t length = row->start[s + 1] - row->start[s], wide = round_to(length, LANES);
    float *rows = take(length * size), *keys = take(size * wide), *values = take(length * round_to(size, LANES));
    float *scores = take(QUERIES * wide);
    gather(length, size, qkv + out + g * size, stride, place, rows);
    pack(rows, NULL, 1, size, size, length, keys, 0, 1);
    gather(length, size, qkv + out + (shape->shared_heads + g) * size, stride, place, rows);
    pack(rows, NULL, size, 1, length, size, values, 0, 1);
    for (index_t h = g * group; h < (g + 1) * group; h++)
        for (index_t i = row->shared[s]; i < length; i += QUERIES) {
            index_t count = least(QUERIES, length - i), seen = i + count;
            float *logs = total + h * row->total + place[i];
            product(count, size, seen, qkv + place[i] * stride + h * size, stride, 1, (Packed){keys, size, length}, scores,
                    wide, 0);
            soften(count, seen, wide, i, shape->scaling, scores, logs, 0);
            product(count, seen, size, scores, wide, 1, (Packed){values, length, size},
                    mixed + place[i] * out + h * size, out, 0);
        }
}

/* Gradients of the same: d_mixed -> d_qkv, whose keys and values of shared tokens are added to. */
static void attend_backward(const Shape *shape, const Row *row, index_t s, index_t g, const float *qkv,
                            const float *mixed, float *total, const float *d_mixed, float *d_qkv)
{
    const index_t size = shape->size, group = shape->heads / shape->shared_heads, out = shape->heads * size;
    const index_t stride = out + 2 * shape->shared_heads * size, columns = round_to(size, LANES);
    const index_t *place = row->place + row->start[s];
    const index_t length = row->start[s + 1] - row->start[s], wide = round_to(length, LANES), shared = row->shared[s];
    float *rows = take(length * size), *keys_t = take(size * wide), *values_t = take(size * wide);
    float *keys = take(length * columns), *scores = take(QUERIES * wide), *slopes = take(QUERIES * wide);
    float *queries = take(QUERIES * columns), *grads = take(QUERIES * columns);
    float *d_keys = take(length * size), *d_values = take(length * size);
    gather(length, size, qkv + out + (shape->shared_heads + g) * size, stride, place, rows);
    pack(rows, NULL, 1, size, size, length, values_t, 0, 1);
    gather(length, size, qkv + out + g * size, stride, place, rows);
    pack(rows, NULL, 1, size, size, length, keys_t, 0, 1);
    pack(rows, NULL, size, 1, length, size, keys, 0, 1);
    memset(d_keys, 0, length * size * sizeof(float));
    memset(d_values, 0, length * size * sizeof(float));
    for (index_t h = g * group; h < (g + 1) * group; h++)
        for (index_t i = shared; i < length; i += QUERIES) {
            index_t count = least(QUERIES, length - i), seen = i + count;
            const float *query = qkv + place[i] * stride + h * size, *grad = d_mixed + place[i] * out + h * size;
            const float *mix = mixed + place[i] * out + h * size;
            product(count, size, seen, query, stride, 1, (Packed){keys_t, size, length}, scores, wide, 0);
            soften(count, seen, wide, i, shape->scaling, scores, total + h * row->total + place[i], 1);
            pack(grad, NULL, out, 1, count, size, grads, 0, 1);
            product(seen, count, size, scores, 1, wide, (Packed){grads, count, size}, d_values, size, 1);
            product(count, size, seen, grad, out, 1, (Packed){values_t, size, length}, slopes, wide, 0);
            for (index_t r = 0; r < count; r++) {
                float *slope = slopes + r * wide, along = dot(size, grad + r * out, mix + r * out);
                for (index_t k = 0; k < seen; k += LANES)
                    put(slope + k, at(scores + r * wide + k) * (at(slope + k) - all(along)) * all(shape->scaling));
            }
            product(count, seen, size, slopes, wide, 1, (Packed){keys, length, size},
                    d_qkv + place[i] * stride + h * size, stride, 0);
            pack(query, NULL, stride, 1, count, size, queries, 0, 1);
            product(seen, count, size, slopes, 1, wide, (Packed){queries, count, size}, d_keys, size, 1);
        }
    for (index_t i = 0; i < length; i++) {
        float *to = d_qkv + place[i] * stride + out + g * size, *other = to + shape->shared_heads * size;
        for (index_t k = 0; k < size; k++) {
            to[k] = d_keys[i * size + k] + (i < shared ? to[k] : 0);
            other[k] = d_values[i * size + k] + (i < shared ? other[k] : 0);
        }
    }
}

static size_t attention_scratch(const Shape *shape, const Row *row)
{
    size_t length = round_to(longest(row), LANES), columns = round_to(shape->size, LANES);
    return 7 * length * columns + 2 * QUERIES * (length + columns);
}

/* ---- a layer ---- */

/* Matrices of a layer, packed: as they multiply forward, and (for a backward pass) as they do backward. */
typedef struct {
    const float *norm1, *norm2, *into, *out, *up, *down;
    const float *into_back, *out_back, *up_back, *down_back;
} Weights;

/* What a forward pass leaves for the backward one: qkv [N, (heads + 2 shared_heads) size], mixed [N, heads size], total
   [heads, N], both [M, 2 inner], x2 [M, width], scales [N + M]. */
typedef struct {
    float *qkv, *mixed, *total, *both, *x2, *scales;
} Kept;

#define PARALLEL _Pragma("omp parallel num_threads((int)shape->threads)")
#define SHARED _Pragma("omp for schedule(static)")
#define TAKEN _Pragma("omp for schedule(dynamic)")

void tutelage_pack(const Shape *shape, const float *source, index_t by_row, index_t by_column, index_t depth,
                   index_t columns, float *packed)
{
    PARALLEL SHARED
    for (index_t t = 0; t < shape->threads; t++)
        pack(source, NULL, by_row, by_column, depth, columns, packed, t, shape->threads);
}

/* x [N, width] -> y [M, width] at row positions read [M] (NULL: all, M = N). */
void tutelage_layer(const Shape *shape, const Row *row, const Weights *w, const Kept *kept, const float *x,
                    const index_t *read, index_t m, float *y)
{
    const index_t n = row->total, width = shape->width, inner = shape->inner, size = shape->size;
    const index_t out = shape->heads * size, stride = out + 2 * shape->shared_heads * size;
    PARALLEL
    {
        begin(BLOCK * (width + out + inner), 3);
        float *normed = take(BLOCK * width), *seen = take(BLOCK * out), *open = take(BLOCK * inner);
        SHARED
        for (index_t from = 0; from < n; from += BLOCK) {
            index_t rows = least(BLOCK, n - from);
            float *here = kept->qkv + from * stride;
            norm(rows, width, x + from * width, w->norm1, shape->eps, kept->scales + from, normed);
            product(rows, width, stride, normed, width, 1, (Packed){w->into, width, stride}, here, stride, 0);
            for (index_t i = 0; i < rows; i++)
                turn(shape->heads + shape->shared_heads, size, here + i * stride, row->angles + (from + i) * size, 1);
        }
        begin(attention_scratch(shape, row), 12);
        TAKEN
        for (index_t task = 0; task < row->chains * shape->shared_heads; task++) {
            index_t c = task / shape->shared_heads, g = task % shape->shared_heads;
            for (index_t s = row->chain[c]; s < row->chain[c + 1]; s++) {
                scratch.used = 0;
                attend(shape, row, s, g, kept->qkv, kept->mixed, kept->total);
            }
        }
        begin(BLOCK * (width + out + inner), 3);
        normed = take(BLOCK * width), seen = take(BLOCK * out), open = take(BLOCK * inner);
        SHARED
        for (index_t from = 0; from < m; from += BLOCK) {
            index_t rows = least(BLOCK, m - from);
            const float *mixed = kept->mixed + from * out, *before = x + from * width;
            float *x2 = kept->x2 + from * width, *both = kept->both + from * 2 * inner, *after = y + from * width;
            if (read) {
                gather(rows, out, kept->mixed, out, read + from, seen);
                gather(rows, width, x, width, read + from, x2);
                mixed = seen;
            } else
                memcpy(x2, before, rows * width * sizeof(float));
            product(rows, out, width, mixed, out, 1, (Packed){w->out, out, width}, x2, width, 1);
            norm(rows, width, x2, w->norm2, shape->eps, kept->scales + n + from, normed);
            product(rows, width, 2 * inner, normed, width, 1, (Packed){w->up, width, 2 * inner}, both, 2 * inner, 0);
            for (index_t i = 0; i < rows; i++) gated(inner, both + i * 2 * inner, open + i * inner);
            memcpy(after, x2, rows * width * sizeof(float));
            product(rows, inner, width, open, inner, 1, (Packed){w->down, inner, width}, after, width, 1);
        }
    }
}

/* Rows `first` .. `last` of a gradient [rows of it, columns]: the sum over m of left[m]^T right[m], where row m of `right` is
   its row `index[m]` (NULL: m). */
static void outer(index_t m, const float *left, index_t left_stride, index_t first, index_t last, const float *right,
                  index_t columns, const index_t *index, float *gradient)
{
    float *packed = take(packed_size(DEPTH, columns));
    if (m == 0) memset(gradient + first * columns, 0, (last - first) * columns * sizeof(float));
    for (index_t from = 0; from < m; from += DEPTH) {
        index_t depth = least(DEPTH, m - from);
        pack(index ? right : right + from * columns, index ? index + from : NULL, columns, 1, depth, columns, packed, 0, 1);
        product(last - first, depth, columns, left + from * left_stride + first, 1, left_stride, (Packed){packed, depth, columns},
                gradient + first * columns, columns, from > 0);
    }
}

/* Buffers of a backward pass: inner [M, inner], d_both [M, 2 inner], n1 [N, width], n2 [M, width], d_x2 [M, width],
   d_mixed [N, heads size] (zeros where `read` is given), d_qkv like qkv, norms [blocks of N and of M, width] of zeros. */
typedef struct {
    float *inner, *d_both, *n1, *n2, *d_x2, *d_mixed, *d_qkv, *norms;
} Work;

typedef struct {
    float *x, *norm1, *norm2, *into, *out, *up, *down;
} Gradients;

void tutelage_layer_backward(const Shape *shape, const Row *row, const Weights *w, const Kept *kept, const Work *work,
                             const float *x, const index_t *read, index_t m, const float *dy, const Gradients *d)
{
    const index_t n = row->total, width = shape->width, inner = shape->inner, size = shape->size;
    const index_t out = shape->heads * size, stride = out + 2 * shape->shared_heads * size;
    const index_t blocks = (n + BLOCK - 1) / BLOCK, read_blocks = (m + BLOCK - 1) / BLOCK;
    PARALLEL
    {
        begin(BLOCK * (width + out + inner), 3);
        float *d_normed = take(BLOCK * width), *d_seen = take(BLOCK * out), *d_inner = take(BLOCK * inner);
        SHARED
        for (index_t from = 0; from < m; from += BLOCK) {
            index_t rows = least(BLOCK, m - from);
            const float *grad = dy + from * width, *x2 = kept->x2 + from * width, *scale = kept->scales + n + from;
            float *d_both = work->d_both + from * 2 * inner, *d_x2 = work->d_x2 + from * width;
            product(rows, width, inner, grad, width, 1, (Packed){w->down_back, width, inner}, d_inner, inner, 0);
            for (index_t i = 0; i < rows; i++)
                gated_backward(inner, kept->both + (from + i) * 2 * inner, d_inner + i * inner,
                               work->inner + (from + i) * inner, d_both + i * 2 * inner);
            product(rows, 2 * inner, width, d_both, 2 * inner, 1, (Packed){w->up_back, 2 * inner, width}, d_normed, width, 0);
            memcpy(d_x2, grad, rows * width * sizeof(float));
            for (index_t i = 0; i < rows; i++) {
                normed_row(width, x2 + i * width, w->norm2, scale[i], work->n2 + (from + i) * width);
                norm_backward(width, d_normed + i * width, x2 + i * width, w->norm2, scale[i], d_x2 + i * width,
                              work->norms + (blocks + from / BLOCK) * width);
            }
            float *d_mixed = read ? d_seen : work->d_mixed + from * out;
            product(rows, width, out, d_x2, width, 1, (Packed){w->out_back, width, out}, d_mixed, out, 0);
            for (index_t i = 0; read && i < rows; i++)
                memcpy(work->d_mixed + read[from + i] * out, d_seen + i * out, out * sizeof(float));
        }
        begin(attention_scratch(shape, row), 12);
        TAKEN
        for (index_t task = 0; task < row->chains * shape->shared_heads; task++) {
            index_t c = task / shape->shared_heads, g = task % shape->shared_heads;
            for (index_t s = row->chain[c]; s < row->chain[c + 1]; s++) {
                scratch.used = 0;
                attend_backward(shape, row, s, g, kept->qkv, kept->mixed, kept->total, work->d_mixed, work->d_qkv);
            }
        }
        begin(BLOCK * width, 1);
        d_normed = take(BLOCK * width);
        SHARED
        for (index_t from = 0; from < n; from += BLOCK) {
            index_t rows = least(BLOCK, n - from);
            float *here = work->d_qkv + from * stride, *dx = d->x + from * width;
            for (index_t i = 0; i < rows; i++)
                turn(shape->heads + shape->shared_heads, size, here + i * stride, row->angles + (from + i) * size, -1);
            product(rows, stride, width, here, stride, 1, (Packed){w->into_back, stride, width}, d_normed, width, 0);
            if (read)
                memset(dx, 0, rows * width * sizeof(float));
            else
                memcpy(dx, work->d_x2 + from * width, rows * width * sizeof(float));
            for (index_t i = 0; i < rows; i++) {
                const float *before = x + (from + i) * width;
                normed_row(width, before, w->norm1, kept->scales[from + i], work->n1 + (from + i) * width);
                norm_backward(width, d_normed + i * width, before, w->norm1, kept->scales[from + i], dx + i * width,
                              work->norms + from / BLOCK * width);
            }
        }
        if (read) {
            SHARED
            for (index_t i = 0; i < m; i++)
                for (index_t k = 0; k < width; k++) d->x[read[i] * width + k] += work->d_x2[i * width + k];
        }
        begin(packed_size(DEPTH, width > inner ? (width > out ? width : out) : (inner > out ? inner : out)), 1);
        SHARED
        for (index_t t = 0; t < shape->threads; t++) {
#define PART(total) (total) * t / shape->threads, (total) * (t + 1) / shape->threads
            scratch.used = 0, outer(m, dy, width, PART(width), work->inner, inner, NULL, d->down);
            scratch.used = 0, outer(m, work->d_both, 2 * inner, PART(2 * inner), work->n2, width, NULL, d->up);
            scratch.used = 0, outer(m, work->d_x2, width, PART(width), kept->mixed, out, read, d->out);
            scratch.used = 0, outer(n, work->d_qkv, stride, PART(stride), work->n1, width, NULL, d->into);
        }
        SHARED
        for (index_t k = 0; k < width; k++) {
            float one = 0, two = 0;
            for (index_t b = 0; b < blocks; b++) one += work->norms[b * width + k];
            for (index_t b = 0; b < read_blocks; b++) two += work->norms[(blocks + b) * width + k];
            d->norm1[k] = one, d->norm2[k] = two;
        }
    }
}

/* ---- cached decoding ---- */

/* Where a layer keeps keys and values [rows, shared_heads, columns, size]: float, or bfloat16 where `narrow`. */
typedef struct {
    void *keys, *values;
} Cache;

/* Numbers i .. of an array. */
INLINE vec read(int narrow, const void *x, index_t i) { return narrow ? widened((const uint16_t *)x + i) : at((const float *)x + i); }
INLINE float read_one(int narrow, const void *x, index_t i)
{
    return narrow ? wide_one(((const uint16_t *)x)[i]) : ((const float *)x)[i];
}

/* scores [seen] = query [size] keys [seen, size]^T.  LANES keys at a time, whose sums are made together. */
INLINE void compare(int narrow, index_t size, index_t seen, const float *query, const void *keys, float *scores)
{
    const index_t whole = size / LANES * LANES;
    for (index_t c = 0; c < seen; c += LANES) {
        vec sums[LANES];
        index_t key[LANES]; /* beyond the last it is that one again */
        UNROLL for (int j = 0; j < LANES; j++) sums[j] = all(0), key[j] = least(c + j, seen - 1) * size;
        for (index_t k = 0; k < whole; k += LANES) {
            vec part = at(query + k);
            UNROLL for (int j = 0; j < LANES; j++) sums[j] += part * read(narrow, keys, key[j] + k);
        }
        put(scores + c, sums_of(sums));
        for (index_t k = whole; k < size; k++)
            for (index_t j = c; j < least(c + LANES, seen); j++)
                scores[j] += query[k] * read_one(narrow, keys, j * size + k);
    }
}

/* out [size] = scores [seen] values [seen, size]. */
INLINE void mix(int narrow, index_t size, index_t seen, const float *scores, const void *values, float *out)
{
    const index_t whole = size / LANES * LANES;
    for (index_t k = 0; k < whole; k += LANES) {
        vec sums[4] = {all(0), all(0), all(0), all(0)}; /* four, so that no addition waits for the one before */
        index_t c = 0;
        for (; c + 4 <= seen; c += 4)
            UNROLL for (int j = 0; j < 4; j++) sums[j] += all(scores[c + j]) * read(narrow, values, (c + j) * size + k);
        for (; c < seen; c++) sums[0] += all(scores[c]) * read(narrow, values, c * size + k);
        put(out + k, (sums[0] + sums[1]) + (sums[2] + sums[3]));
    }
    for (index_t k = whole; k < size; k++) {
        out[k] = 0;
        for (index_t c = 0; c < seen; c++) out[k] += scores[c] * read_one(narrow, values, c * size + k);
    }
}

/* Attention of one query [size] to keys and values [seen, size] -> out [size]; scores: room for `seen` in whole vectors. */
INLINE void look_back(int narrow, index_t size, index_t seen, const float *query, const void *keys, const void *values,
                      float scaling, float *scores, float *out)
{
    float log_sum;
    compare(narrow, size, seen, query, keys, scores);
    soften(1, seen, 0, seen - 1, scaling, scores, &log_sum, 0);
    mix(narrow, size, seen, scores, values, out);
}

/* One token for every row: x [rows, width] -> logits [rows, words]; without `head` the states [rows, width] before it.  Row r
   has lengths[r] columns of the cache, of which there are `columns`, and the next one is written now. */
void tutelage_step(const Shape *shape, index_t layers, const Weights *w, const Cache *caches, index_t columns,
                   const index_t *lengths, index_t longest, const float *angles, const float *last_norm, const float *head,
                   index_t words, index_t total, const float *x, float *logits)
{
    const index_t width = shape->width, inner = shape->inner, size = shape->size, group = shape->heads / shape->shared_heads;
    const index_t out = shape->heads * size, stride = out + 2 * shape->shared_heads * size;
    const index_t block = least(BLOCK, round_to((total + shape->threads - 1) / shape->threads, ROWS));
    PARALLEL
    {
        begin(block * (2 * width + stride + out + 3 * inner) + round_to(longest + 1, LANES), 8);
        float *state = take(block * width), *normed = take(block * width), *qkv = take(block * stride);
        float *mixed = take(block * out), *both = take(block * 2 * inner), *open = take(block * inner);
        float *scores = take(longest + 1 + LANES);
        SHARED
        for (index_t from = 0; from < total; from += block) {
            index_t rows = least(block, total - from);
            float scale[BLOCK];
            memcpy(state, x + from * width, rows * width * sizeof(float));
            for (index_t layer = 0; layer < layers; layer++) {
                norm(rows, width, state, w[layer].norm1, shape->eps, scale, normed);
                product(rows, width, stride, normed, width, 1, (Packed){w[layer].into, width, stride}, qkv, stride, 0);
                for (index_t i = 0; i < rows; i++) {
                    index_t r = from + i, seen = lengths[r] + 1;
                    float *here = qkv + i * stride;
                    turn(shape->heads + shape->shared_heads, size, here, angles + r * size, 1);
                    for (index_t g = 0; g < shape->shared_heads; g++) {
                        index_t offset = ((r * shape->shared_heads + g) * columns) * size;
                        float *keys = (float *)caches[layer].keys + offset, *values = (float *)caches[layer].values + offset;
                        memcpy(keys + lengths[r] * size, here + out + g * size, size * sizeof(float));
                        memcpy(values + lengths[r] * size, here + out + (shape->shared_heads + g) * size, size * sizeof(float));
                        for (index_t h = g * group; h < (g + 1) * group; h++)
                            look_back(0, size, seen, here + h * size, keys, values, shape->scaling, scores,
                                      mixed + i * out + h * size);
                    }
                }
                product(rows, out, width, mixed, out, 1, (Packed){w[layer].out, out, width}, state, width, 1);
                norm(rows, width, state, w[layer].norm2, shape->eps, scale, normed);
                product(rows, width, 2 * inner, normed, width, 1, (Packed){w[layer].up, width, 2 * inner}, both, 2 * inner, 0);
                for (index_t i = 0; i < rows; i++) gated(inner, both + i * 2 * inner, open + i * inner);
                product(rows, inner, width, open, inner, 1, (Packed){w[layer].down, inner, width}, state, width, 1);
            }
            norm(rows, width, state, last_norm, shape->eps, scale, head ? normed : logits + from * width);
            if (head)
                product(rows, width, words, normed, width, 1, (Packed){head, width, words}, logits + from * words, words, 0);
        }
    }
}

INLINE void narrow(index_t size, const float *x, uint16_t *out)
{
    index_t k = 0;
    for (; k + LANES <= size; k += LANES) put_narrow(out + k, at(x + k));
    for (; k < size; k++) out[k] = narrow_one(x[k]);
}

/* out [rows, width] in bfloat16 = the norm of x [rows, width]. */
void tutelage_norm(const Shape *shape, index_t rows, const float *x, const float *weight, uint16_t *out)
{
    PARALLEL
    {
        begin(shape->width, 1);
        float *normed = take(shape->width), scale;
        SHARED
        for (index_t r = 0; r < rows; r++) {
            norm(1, shape->width, x + r * shape->width, weight, shape->eps, &scale, normed);
            narrow(shape->width, normed, out + r * shape->width);
        }
    }
}

/* inner [rows, inner] = silu(gate) up, both [rows, 2 inner] = gate, up, all in bfloat16. */
void tutelage_gated(const Shape *shape, index_t rows, const uint16_t *both, uint16_t *inner)
{
    const index_t size = shape->inner;
    PARALLEL
    {
        begin(3 * size, 2);
        float *wide = take(2 * size), *found = take(size);
        SHARED
        for (index_t r = 0; r < rows; r++) {
            const uint16_t *row = both + r * 2 * size;
            index_t k = 0;
            for (; k + LANES <= 2 * size; k += LANES) put(wide + k, widened(row + k));
            for (; k < 2 * size; k++) wide[k] = wide_one(row[k]);
            gated(size, wide, found);
            narrow(size, found, inner + r * size);
        }
    }
}

/* Attention of the newest token of every row to a cache in bfloat16: qkv [rows, (heads + 2 shared_heads) size], whose queries
   and keys have the numbers that are turned together side by side -> mixed [rows, heads size], both bfloat16. */
void tutelage_newest(const Shape *shape, const Cache *cache, index_t columns, const index_t *lengths, index_t longest,
                     const float *angles, index_t rows, const uint16_t *qkv, uint16_t *mixed)
{
    const index_t size = shape->size, group = shape->heads / shape->shared_heads, turned = shape->heads + shape->shared_heads;
    const index_t stride = (turned + shape->shared_heads) * size, out = shape->heads * size;
    PARALLEL
    {
        begin(turned * size + size + round_to(longest + 1, LANES) + LANES, 3);
        float *here = take(turned * size), *found = take(size), *scores = take(longest + 1 + LANES);
        SHARED
        for (index_t r = 0; r < rows; r++) {
            const uint16_t *row = qkv + r * stride;
            const float *angle = angles + r * size;
            for (index_t h = 0; h < turned; h++)
                for (index_t i = 0; i < size; i += 2) {
                    float one = wide_one(row[h * size + i]), other = wide_one(row[h * size + i + 1]);
                    here[h * size + i] = one * angle[i] - other * angle[i + 1];
                    here[h * size + i + 1] = other * angle[i] + one * angle[i + 1];
                }
            for (index_t g = 0; g < shape->shared_heads; g++) {
                index_t offset = ((r * shape->shared_heads + g) * columns) * size;
                uint16_t *keys = (uint16_t *)cache->keys + offset, *values = (uint16_t *)cache->values + offset;
                narrow(size, here + (shape->heads + g) * size, keys + lengths[r] * size);
                memcpy(values + lengths[r] * size, row + (turned + g) * size, size * sizeof(uint16_t));
                for (index_t h = g * group; h < (g + 1) * group; h++) {
                    look_back(1, size, lengths[r] + 1, here + h * size, keys, values, shape->scaling, scores, found);
                    narrow(size, found, mixed + r * out + h * size);
                }
            }
        }
    }
}
