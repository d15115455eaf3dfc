/* Llama's decoder in float32 or with products of bfloat16: a layer forward and backward over a flat row, and a step of cached
   decoding; and of such a step what lies between products that another library makes.

   Where products are `narrow`, what is multiplied and what is kept or passed on between products is bfloat16, and the state,
   norms, softmax and all sums are float.  Two neighbouring numbers that are multiplied with two others share a word of 32 bits, so
   that a narrow matrix is one of half as many words, and goes the same way as a float one.

   Compiled by compiler.py for the processor it runs on, called by kernels.py.  Matrices are row-major.  A block of rows goes
   through everything that needs only these rows before the next one is begun, so that what lies between two products stays
   in the cache; attention works sequence by sequence.  Threads share blocks, heads, or rows of a gradient, and never a number: what comes
   out does not depend on how many they are, and a row's values not on the rows beside it.  */

#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#if defined(__AVX512F__) || defined(__FMA__)
#include <immintrin.h>
#endif

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
    DEPTH = 256,             /* words in a column of a gradient's sum that are packed together */
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
    index_t threads, narrow; /* narrow: products are of bfloat16 */
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
/* Everywhere the 32 bits that stand there. */
INLINE vec word(const float *x)
{
    int32_t bits;
    memcpy(&bits, x, sizeof bits);
    return (vec)(bits - (ints){0});
}
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

INLINE uints rounded(vec v) { return (uints)v + 0x7fff + ((uints)v >> 16 & 1); }
INLINE void put_narrow(uint16_t *x, vec v)
{
    *(halves *)x = __builtin_convertvector(rounded(v) >> 16, halves);
}

/* Numbers i .. of an array. */
INLINE vec read(int narrow, const void *x, index_t i) { return narrow ? widened((const uint16_t *)x + i) : at((const float *)x + i); }
INLINE vec words_at(int narrow, const void *x, index_t i) { return at((const float *)((const char *)x + i * (narrow ? 2 : 4))); }
INLINE float read_one(int narrow, const void *x, index_t i)
{
    return narrow ? wide_one(((const uint16_t *)x)[i]) : ((const float *)x)[i];
}

/* Words whose lower halves are one's numbers and whose upper halves the other's. */
INLINE uints paired(vec one, vec other) { return rounded(one) >> 16 | (rounded(other) & 0xffff0000); }

/* The numbers in the halves of words. */
INLINE vec lower(vec words) { return (vec)((uints)words << 16); }
INLINE vec upper(vec words) { return (vec)((uints)words & 0xffff0000); }

/* How many words n numbers take. */
INLINE index_t words(index_t narrow, index_t n) { return narrow ? (n + 1) / 2 : n; }

/* size numbers, and zero up to a whole word. */
INLINE void narrow_row(index_t size, const float *x, uint16_t *out)
{
    index_t k = 0;
    for (; k + LANES <= size; k += LANES) put_narrow(out + k, at(x + k));
    for (; k < size; k++) out[k] = narrow_one(x[k]);
    if (size % 2) out[size] = 0;
}

/* size numbers, and not one more. */
static void narrow_exactly(index_t size, const float *x, uint16_t *out)
{
    if (size % 2) out[size - 1] = narrow_one(x[size - 1]);
    narrow_row(size / 2 * 2, x, out);
}

INLINE void widen_row(index_t size, const uint16_t *x, float *out)
{
    index_t k = 0;
    for (; k + LANES <= size; k += LANES) put(out + k, widened(x + k));
    for (; k < size; k++) out[k] = wide_one(x[k]);
}

INLINE float dot_of(int narrow, index_t size, const void *a, const void *b)
{
    vec sums = all(0);
    index_t k = 0;
    for (; k + LANES <= size; k += LANES) sums += read(narrow, a, k) * read(narrow, b, k);
    float sum = sum_of(sums);
    for (; k < size; k++) sum += read_one(narrow, a, k) * read_one(narrow, b, k);
    return sum;
}
INLINE float dot(index_t size, const float *a, const float *b) { return dot_of(0, size, a, b); }

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

/* A [depth, columns] matrix of words in panels, one after the other, each [depth, its columns] with zeros up to whole vectors.
   narrow: a word is two bfloat16 numbers of a column, 2 p and 2 p + 1. */
typedef struct {
    const float *numbers;
    index_t depth, columns, narrow;
} Packed;

static size_t packed_size(index_t depth, index_t columns) { return (size_t)depth * round_to(columns, LANES); }

/* Make panels of a [depth, columns] matrix of words, from `first` in steps of `step`.  Word (p, j) stands at
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

/* out [depth / 2, columns] of words, `stride` from one to the next: two rows of x [depth, columns] side by side, rows [depth]
   where they are given; zeros for the last one's neighbour, and up to whole vectors.  x: float, or bfloat16 where `narrow`. */
INLINE void pair_rows(int narrow, const void *x, const index_t *rows, index_t by_row, index_t depth, index_t columns, float *out,
                      index_t stride)
{
    for (index_t p = 0; p < depth; p += 2, out += stride) {
        const index_t one = (rows ? rows[p] : p) * by_row, other = p + 1 < depth ? (rows ? rows[p + 1] : p + 1) * by_row : -1;
        index_t j = 0;
        for (; j + LANES <= columns; j += LANES)
            put(out + j, (vec)paired(read(narrow, x, one + j), other < 0 ? all(0) : read(narrow, x, other + j)));
        if (j == columns) continue;
        vec first = all(0), second = all(0);
        for (index_t k = 0; k < columns - j; k++) {
            first[k] = read_one(narrow, x, one + j + k);
            if (other >= 0) second[k] = read_one(narrow, x, other + j + k);
        }
        uints last = paired(first, second);
        for (index_t k = 0; k < least(LANES, stride - j); k++) memcpy(out + j + k, (uint32_t *)&last + k, sizeof(float));
    }
}

/* `pack` for x [depth, columns] of floats or bfloat16 (`narrow`), into panels of bfloat16. */
INLINE void pack_narrow(int narrow, const void *x, const index_t *rows, index_t by_row, index_t depth, index_t columns,
                        float *packed, index_t first, index_t step)
{
    for (index_t from = first * PANEL; from < columns; from += step * PANEL) {
        index_t count = least(PANEL, columns - from);
        const char *part = (const char *)x + from * (narrow ? sizeof(uint16_t) : sizeof(float));
        pair_rows(narrow, part, rows, by_row, depth, count, packed + words(1, depth) * from, round_to(count, LANES));
    }
}

/* Panels of x [depth, columns] for a product that sums over its rows; x and they are bfloat16 where `narrow`. */
static void pack_down(index_t narrow, const void *x, const index_t *rows, index_t by_row, index_t depth, index_t columns, float *packed)
{
    if (narrow)
        pack_narrow(1, x, rows, by_row, depth, columns, packed, 0, 1);
    else
        pack(x, rows, by_row, 1, depth, columns, packed, 0, 1);
}

/* sum + a b, number by number; rounded once wherever the processor can.  A compiler that may choose whether to round twice chooses
   otherwise for a tile of a single row (gcc does, for processors with slow chains of such sums), and a row's values would depend on
   the rows beside it. */
INLINE vec multiply_add(vec sum, vec a, vec b)
{
#if defined(__AVX512F__)
    return (vec)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)sum);
#elif defined(__FMA__)
    return (vec)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)sum);
#else
    return sum + a * b;
#endif
}

/* The same, of floats or of both halves of the words. */
INLINE vec add_product(int narrow, vec sum, vec a, vec b)
{
    if (!narrow) return multiply_add(sum, a, b);
#ifdef __AVX512BF16__
    return (vec)_mm512_dpbf16_ps((__m512)sum, (__m512bh)a, (__m512bh)b);
#else
    return multiply_add(multiply_add(sum, lower(a), lower(b)), upper(a), upper(b));
#endif
}

/* c [rows, vectors] = or += a [rows, depth] panel; word (i, p) of a stands at a[i * by_row + p * by_depth]. */
INLINE void tile(int narrow, int rows, int vectors, index_t depth, const float *a, index_t by_row, index_t by_depth,
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
            vec factor = word(a + i * by_row + p * by_depth);
            for (int j = 0; j < vectors; j++) sums[i][j] = add_product(narrow, sums[i][j], factor, b[j]);
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

#define TILE(rows, vectors) tile(narrow, rows, vectors, depth, a, by_row, by_depth, panel, c, stride, columns, add)
#define TILES(rows)                              \
    case rows:                                   \
        if (vectors == 3) TILE(rows, 3);         \
        else if (vectors == 2) TILE(rows, 2);    \
        else TILE(rows, 1);                      \
        break;

INLINE void any_tile(int narrow, int rows, int vectors, index_t depth, const float *a, index_t by_row, index_t by_depth,
                     const float *panel, float *c, index_t stride, index_t columns, int add)
{
    switch (rows) {
        TILES(1) TILES(2) TILES(3) TILES(4)
#if defined(__AVX512F__)
        TILES(5) TILES(6) TILES(7) TILES(8)
#endif
    }
}

static void float_tile(int rows, int vectors, index_t depth, const float *a, index_t by_row, index_t by_depth,
                       const float *panel, float *c, index_t stride, index_t columns, int add)
{
    any_tile(0, rows, vectors, depth, a, by_row, by_depth, panel, c, stride, columns, add);
}

static void narrow_tile(int rows, int vectors, index_t depth, const float *a, index_t by_row, index_t by_depth,
                        const float *panel, float *c, index_t stride, index_t columns, int add)
{
    any_tile(1, rows, vectors, depth, a, by_row, by_depth, panel, c, stride, columns, add);
}

/* c [rows, columns] = or += a [rows, depth] b, depth in words, where b may be deeper and wider.  a: see `tile`.  Where the whole
   of b stays in the cache, every few rows of c are finished before the next ones, so that they are written one after the other. */
static void product(index_t rows, index_t depth, index_t columns, const void *a, index_t by_row, index_t by_depth,
                    Packed b, float *c, index_t stride, int add)
{
    const index_t group = depth * columns <= CACHED ? ROWS : rows;
    for (index_t first = 0; first < rows; first += group)
        for (index_t from = 0; from < columns; from += PANEL) {
            const float *panel = b.numbers + (size_t)b.depth * from;
            int vectors = (int)(round_to(least(PANEL, b.columns - from), LANES) / LANES);
            for (index_t i = first; i < least(first + group, rows); i += ROWS)
                (b.narrow ? narrow_tile : float_tile)((int)least(ROWS, rows - i), vectors, depth,
                                                      (const float *)a + i * by_row, by_row, by_depth, panel, c + i * stride + from,
                                                      stride, least(PANEL, columns - from), add);
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

/* Keys or values of a sequence: head `from` of rows of `stride` words at `place`, one after the other [length, size]. */
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

/* x [rows, stride] of floats as the left side of a product, `columns` of each row: itself, or where `narrow` rounded into `to`
   [rows, stride of it in words]. */
static const float *operand(index_t narrow, index_t rows, index_t columns, const float *x, index_t stride, float *to,
                            index_t to_stride)
{
    if (!narrow) return x;
    for (index_t i = 0; i < rows; i++) narrow_row(columns, x + i * stride, (uint16_t *)(to + i * to_stride));
    return to;
}

/* Where a result of `product` goes: row i of `out` itself, or where that is `narrow` a buffer that `settle` then rounds into it. */
static void settle(index_t narrow, index_t rows, index_t columns, const float *from, float *out, index_t stride)
{
    for (index_t i = 0; narrow && i < rows; i++) narrow_row(columns, from + i * columns, (uint16_t *)(out + i * stride));
}

/* x [rows, columns] of floats, `stride` from one to the next, as the left side of a product that sums over its rows: itself, or
   where `narrow` rounded and paired into `to`. */
static const float *upright(index_t narrow, index_t rows, index_t columns, const float *x, index_t stride, float *to)
{
    if (!narrow) return x;
    pair_rows(0, x, NULL, stride, rows, columns, to, stride);
    return to;
}

/* Every query head of one key head of one sequence: qkv [total, its columns] -> mixed [total, heads size]; both in words. */
static void attend(const Shape *shape, const Row *row, index_t s, index_t g, const float *qkv, float *mixed, float *total)
{
    const index_t narrow = shape->narrow, size = shape->size, group = shape->heads / shape->shared_heads;
    const index_t deep = words(narrow, size), out = shape->heads * deep, stride = out + 2 * shape->shared_heads * deep;
    const index_t *place = row->place + row->start[s];
    const index_t length = row->start[s + 1] - row->start[s], wide = round_to(length, LANES);
    float *rows = take(length * size), *keys = take(size * wide), *values = take(length * round_to(size, LANES));
    float *scores = take(QUERIES * wide), *thin = take(QUERIES * wide), *found = take(QUERIES * size);
    gather(length, deep, qkv + out + g * deep, stride, place, rows);
    pack(rows, NULL, 1, deep, deep, length, keys, 0, 1);
    gather(length, deep, qkv + out + (shape->shared_heads + g) * deep, stride, place, rows);
    pack_down(narrow, rows, NULL, size, length, size, values);
    for (index_t h = g * group; h < (g + 1) * group; h++)
        for (index_t i = row->shared[s]; i < length; i += QUERIES) {
            index_t count = least(QUERIES, length - i), seen = i + count;
            float *logs = total + h * row->total + place[i], *mix = mixed + place[i] * out + h * deep;
            product(count, deep, seen, qkv + place[i] * stride + h * deep, stride, 1,
                    (Packed){keys, deep, length, narrow}, scores, wide, 0);
            soften(count, seen, wide, i, shape->scaling, scores, logs, 0);
            product(count, words(narrow, seen), size, operand(narrow, count, seen, scores, wide, thin, wide), wide, 1,
                    (Packed){values, words(narrow, length), size, narrow}, narrow ? found : mix, narrow ? size : out, 0);
            settle(narrow, count, size, found, mix, out);
        }
}

/* Gradients of the same: d_mixed -> d_qkv of floats, whose keys and values of shared tokens are added to. */
static void attend_backward(const Shape *shape, const Row *row, index_t s, index_t g, const float *qkv,
                            const float *mixed, float *total, const float *d_mixed, float *d_qkv)
{
    const index_t narrow = shape->narrow, size = shape->size, group = shape->heads / shape->shared_heads;
    const index_t deep = words(narrow, size), out = shape->heads * deep, stride = out + 2 * shape->shared_heads * deep;
    const index_t d_stride = (shape->heads + 2 * shape->shared_heads) * size, columns = round_to(size, LANES);
    const index_t *place = row->place + row->start[s], line = narrow ? 2 * out : out, row_line = narrow ? 2 * stride : stride;
    const index_t length = row->start[s + 1] - row->start[s], wide = round_to(length, LANES), shared = row->shared[s];
    float *rows = take(length * size), *keys_t = take(size * wide), *values_t = take(size * wide);
    float *keys = take(length * columns), *scores = take(QUERIES * wide), *slopes = take(QUERIES * wide);
    float *queries = take(QUERIES * columns), *grads = take(QUERIES * columns), *thin = take(QUERIES * wide);
    float *d_keys = take(length * size), *d_values = take(length * size);
    gather(length, deep, qkv + out + (shape->shared_heads + g) * deep, stride, place, rows);
    pack(rows, NULL, 1, deep, deep, length, values_t, 0, 1);
    gather(length, deep, qkv + out + g * deep, stride, place, rows);
    pack(rows, NULL, 1, deep, deep, length, keys_t, 0, 1);
    pack_down(narrow, rows, NULL, size, length, size, keys);
    memset(d_keys, 0, length * size * sizeof(float));
    memset(d_values, 0, length * size * sizeof(float));
    for (index_t h = g * group; h < (g + 1) * group; h++)
        for (index_t i = shared; i < length; i += QUERIES) {
            index_t count = least(QUERIES, length - i), seen = i + count, high = words(narrow, count);
            const float *query = qkv + place[i] * stride + h * deep, *grad = d_mixed + place[i] * out + h * deep;
            const float *mix = mixed + place[i] * out + h * deep;
            product(count, deep, seen, query, stride, 1, (Packed){keys_t, deep, length, narrow}, scores, wide, 0);
            soften(count, seen, wide, i, shape->scaling, scores, total + h * row->total + place[i], 1);
            pack_down(narrow, grad, NULL, line, count, size, grads);
            product(seen, high, size, upright(narrow, count, seen, scores, wide, thin), 1, wide,
                    (Packed){grads, high, size, narrow}, d_values, size, 1);
            product(count, deep, seen, grad, out, 1, (Packed){values_t, deep, length, narrow}, slopes, wide, 0);
            for (index_t r = 0; r < count; r++) {
                float *slope = slopes + r * wide;
                float along = narrow ? dot_of(1, size, grad + r * out, mix + r * out) : dot(size, grad + r * out, mix + r * out);
                for (index_t k = 0; k < seen; k += LANES)
                    put(slope + k, at(scores + r * wide + k) * (at(slope + k) - all(along)) * all(shape->scaling));
            }
            product(count, words(narrow, seen), size, operand(narrow, count, seen, slopes, wide, thin, wide), wide, 1,
                    (Packed){keys, words(narrow, length), size, narrow}, d_qkv + place[i] * d_stride + h * size, d_stride, 0);
            pack_down(narrow, query, NULL, row_line, count, size, queries);
            product(seen, high, size, upright(narrow, count, seen, slopes, wide, thin), 1, wide,
                    (Packed){queries, high, size, narrow}, d_keys, size, 1);
        }
    for (index_t i = 0; i < length; i++) {
        float *to = d_qkv + place[i] * d_stride + (shape->heads + g) * size, *other = to + shape->shared_heads * size;
        for (index_t k = 0; k < size; k++) {
            to[k] = d_keys[i * size + k] + (i < shared ? to[k] : 0);
            other[k] = d_values[i * size + k] + (i < shared ? other[k] : 0);
        }
    }
}

static size_t attention_scratch(const Shape *shape, const Row *row)
{
    size_t length = round_to(longest(row), LANES), columns = round_to(shape->size, LANES);
    return 7 * length * columns + 3 * QUERIES * (length + columns);
}

/* ---- a layer ---- */

/* Matrices of a layer, packed: as they multiply forward, and (for a backward pass) as they do backward. */
typedef struct {
    const float *norm1, *norm2, *into, *out, *up, *down;
    const float *into_back, *out_back, *up_back, *down_back;
} Weights;

/* What a forward pass leaves for the backward one: qkv [N, (heads + 2 shared_heads) size], mixed [N, heads size] and both
   [M, 2 inner], bfloat16 where products are narrow; total [heads, N], x2 [M, width], scales [N + M]. */
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

/* Room for rows of a block between two products of a layer: of its states, heads, and the wide part. */
typedef struct {
    float *normed, *seen, *open, *wide, *thin;
} Room;

static Room room_for(const Shape *shape, index_t rows)
{
    const index_t width = shape->width, inner = shape->inner, out = shape->heads * shape->size;
    const index_t stride = out + 2 * shape->shared_heads * shape->size, most = stride > 2 * inner ? stride : 2 * inner;
    const index_t wide = shape->narrow ? rows * (most + width) : 0, thin = shape->narrow ? rows * (most + width) / 2 + rows : 0;
    begin(rows * (width + out + inner) + wide + thin, 5);
    return (Room){take(rows * width), take(rows * out), take(rows * inner), take(wide), take(thin)};
}

/* Whether products of bfloat16 are fast here: where pairs of them are multiplied, and there are no units for whole matrices. */
int tutelage_pairs(void)
{
#if defined(__AVX512BF16__) && !defined(__AMX_BF16__)
    return 1;
#else
    return 0;
#endif
}

/* Panels of bfloat16 of a [depth, columns] matrix of bfloat16, for products over its rows. */
void tutelage_pack_down(const Shape *shape, const uint16_t *source, index_t by_row, index_t depth, index_t columns, float *packed)
{
    PARALLEL SHARED
    for (index_t t = 0; t < shape->threads; t++)
        pack_narrow(1, source, NULL, by_row, depth, columns, packed, t, shape->threads);
}

/* x [N, width] -> y [M, width] at row positions read [M] (NULL: all, M = N). */
void tutelage_layer(const Shape *shape, const Row *row, const Weights *w, const Kept *kept, const float *x,
                    const index_t *read, index_t m, float *y)
{
    const index_t narrow = shape->narrow, n = row->total, width = shape->width, inner = shape->inner, size = shape->size;
    const index_t out = shape->heads * size, stride = out + 2 * shape->shared_heads * size;
    const index_t width_words = words(narrow, width), out_words = words(narrow, out), inner_words = words(narrow, inner);
    PARALLEL
    {
        Room room = room_for(shape, BLOCK);
        SHARED
        for (index_t from = 0; from < n; from += BLOCK) {
            index_t rows = least(BLOCK, n - from);
            float *qkv = kept->qkv + from * words(narrow, stride), *here = narrow ? room.wide : qkv;
            norm(rows, width, x + from * width, w->norm1, shape->eps, kept->scales + from, room.normed);
            product(rows, width_words, stride, operand(narrow, rows, width, room.normed, width, room.thin, width_words),
                    width_words, 1, (Packed){w->into, width_words, stride, narrow}, here, stride, 0);
            for (index_t i = 0; i < rows; i++)
                turn(shape->heads + shape->shared_heads, size, here + i * stride, row->angles + (from + i) * size, 1);
            settle(narrow, rows, stride, here, qkv, words(narrow, stride));
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
        room = room_for(shape, BLOCK);
        SHARED
        for (index_t from = 0; from < m; from += BLOCK) {
            index_t rows = least(BLOCK, m - from);
            const float *mixed = kept->mixed + from * out_words, *before = x + from * width;
            float *x2 = kept->x2 + from * width, *all_of_it = kept->both + from * words(narrow, 2 * inner);
            float *both = narrow ? room.wide : all_of_it, *after = y + from * width;
            if (read) {
                gather(rows, out_words, kept->mixed, out_words, read + from, room.seen);
                gather(rows, width, x, width, read + from, x2);
                mixed = room.seen;
            } else
                memcpy(x2, before, rows * width * sizeof(float));
            product(rows, out_words, width, mixed, out_words, 1, (Packed){w->out, out_words, width, narrow}, x2, width, 1);
            norm(rows, width, x2, w->norm2, shape->eps, kept->scales + n + from, room.normed);
            product(rows, width_words, 2 * inner, operand(narrow, rows, width, room.normed, width, room.thin, width_words),
                    width_words, 1, (Packed){w->up, width_words, 2 * inner, narrow}, both, 2 * inner, 0);
            settle(narrow, rows, 2 * inner, both, all_of_it, words(narrow, 2 * inner));
            for (index_t i = 0; i < rows; i++) gated(inner, both + i * 2 * inner, room.open + i * inner);
            memcpy(after, x2, rows * width * sizeof(float));
            product(rows, inner_words, width, operand(narrow, rows, inner, room.open, inner, room.thin, inner_words),
                    inner_words, 1, (Packed){w->down, inner_words, width, narrow}, after, width, 1);
        }
    }
}

/* Rows `first` .. `last` of a gradient [rows of it, columns]: the sum over m of left[m]^T right[m], where row m of `right` is
   its row `index[m]` (NULL: m).  left: narrow_left, right: narrow where it is bfloat16. */
static void outer(index_t narrow, index_t m, index_t narrow_left, const void *left, index_t left_stride, index_t first,
                  index_t last, const void *right, index_t columns, const index_t *index, float *gradient)
{
    const index_t most = narrow ? 2 * DEPTH : DEPTH, rows = last - first, unit = narrow_left ? sizeof(uint16_t) : sizeof(float);
    float *packed = take(packed_size(DEPTH, columns)), *upright = take(narrow ? DEPTH * round_to(rows, LANES) : 0);
    if (m == 0) memset(gradient + first * columns, 0, rows * columns * sizeof(float));
    for (index_t from = 0; from < m; from += most) {
        index_t depth = least(most, m - from), deep = words(narrow, depth), by_row = left_stride;
        const char *part = (const char *)left + (from * left_stride + first) * unit;
        const char *other = (const char *)right + (index ? 0 : from * columns) * (narrow ? sizeof(uint16_t) : sizeof(float));
        pack_down(narrow, other, index ? index + from : NULL, columns, depth, columns, packed);
        if (narrow) {
            by_row = round_to(rows, LANES);
            if (narrow_left) pair_rows(1, part, NULL, left_stride, depth, rows, upright, by_row);
            else pair_rows(0, part, NULL, left_stride, depth, rows, upright, by_row);
            part = (const char *)upright;
        }
        product(rows, deep, columns, part, 1, by_row, (Packed){packed, deep, columns, narrow}, gradient + first * columns,
                columns, from > 0);
    }
}

/* Buffers of a backward pass: inner [M, inner], d_both [M, 2 inner], n1 [N, width], n2 [M, width], d_mixed [N, heads size] (zeros
   where `read` is given), bfloat16 where products are narrow; d_x2 [M, width], d_qkv [N, columns of qkv], norms [blocks of N and
   of M, width] of zeros. */
typedef struct {
    void *inner, *d_both, *n1, *n2;
    float *d_x2, *d_mixed, *d_qkv, *norms;
} Work;

typedef struct {
    float *x, *norm1, *norm2, *into, *out, *up, *down;
} Gradients;

/* Row i of an array of floats, or of bfloat16. */
INLINE void *row_of(index_t narrow, void *x, index_t i, index_t columns)
{
    return (char *)x + i * columns * (narrow ? sizeof(uint16_t) : sizeof(float));
}

/* Gradients of a gate, one row: both, d_inner -> inner, d_both; but for d_inner bfloat16 where `narrow`, `room` [5 inner] then. */
static void gate_back(index_t narrow, index_t size, const void *both, const float *d_inner, void *inner, void *d_both, float *room)
{
    if (!narrow) {
        gated_backward(size, both, d_inner, inner, d_both);
        return;
    }
    widen_row(2 * size, both, room);
    gated_backward(size, room, d_inner, room + 2 * size, room + 3 * size);
    narrow_exactly(size, room + 2 * size, inner);
    narrow_exactly(2 * size, room + 3 * size, d_both);
}

static void norm_again(index_t narrow, index_t width, const float *x, const float *weight, float by, void *out, float *room)
{
    normed_row(width, x, weight, by, narrow ? room : out);
    if (narrow) narrow_exactly(width, room, out);
}

void tutelage_layer_backward(const Shape *shape, const Row *row, const Weights *w, const Kept *kept, const Work *work,
                             const float *x, const index_t *read, index_t m, const float *dy, const Gradients *d)
{
    const index_t narrow = shape->narrow, n = row->total, width = shape->width, inner = shape->inner, size = shape->size;
    const index_t out = shape->heads * size, stride = out + 2 * shape->shared_heads * size;
    const index_t width_words = words(narrow, width), out_words = words(narrow, out);
    const index_t blocks = (n + BLOCK - 1) / BLOCK, read_blocks = (m + BLOCK - 1) / BLOCK;
    PARALLEL
    {
        Room room = room_for(shape, BLOCK);
        SHARED
        for (index_t from = 0; from < m; from += BLOCK) {
            index_t rows = least(BLOCK, m - from);
            const float *grad = dy + from * width, *x2 = kept->x2 + from * width, *scale = kept->scales + n + from;
            float *d_both = row_of(narrow, work->d_both, from, 2 * inner), *d_x2 = work->d_x2 + from * width;
            product(rows, width_words, inner, operand(narrow, rows, width, grad, width, room.thin, width_words), width_words,
                    1, (Packed){w->down_back, width_words, inner, narrow}, room.open, inner, 0);
            for (index_t i = 0; i < rows; i++)
                gate_back(narrow, inner, row_of(narrow, kept->both, from + i, 2 * inner), room.open + i * inner,
                          row_of(narrow, work->inner, from + i, inner), row_of(narrow, d_both, i, 2 * inner), room.wide);
            product(rows, words(narrow, 2 * inner), width, d_both, words(narrow, 2 * inner), 1,
                    (Packed){w->up_back, words(narrow, 2 * inner), width, narrow}, room.normed, width, 0);
            memcpy(d_x2, grad, rows * width * sizeof(float));
            for (index_t i = 0; i < rows; i++) {
                norm_again(narrow, width, x2 + i * width, w->norm2, scale[i], row_of(narrow, work->n2, from + i, width),
                           room.wide);
                norm_backward(width, room.normed + i * width, x2 + i * width, w->norm2, scale[i], d_x2 + i * width,
                              work->norms + (blocks + from / BLOCK) * width);
            }
            float *d_mixed = read || narrow ? room.seen : work->d_mixed + from * out;
            product(rows, width_words, out, operand(narrow, rows, width, d_x2, width, room.thin, width_words), width_words,
                    1, (Packed){w->out_back, width_words, out, narrow}, d_mixed, out, 0);
            for (index_t i = 0; (read || narrow) && i < rows; i++) {
                float *to = work->d_mixed + (read ? read[from + i] : from + i) * out_words;
                if (narrow) narrow_row(out, room.seen + i * out, (uint16_t *)to);
                else memcpy(to, room.seen + i * out, out * sizeof(float));
            }
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
        room = room_for(shape, BLOCK);
        SHARED
        for (index_t from = 0; from < n; from += BLOCK) {
            index_t rows = least(BLOCK, n - from);
            float *here = work->d_qkv + from * stride, *dx = d->x + from * width;
            for (index_t i = 0; i < rows; i++)
                turn(shape->heads + shape->shared_heads, size, here + i * stride, row->angles + (from + i) * size, -1);
            /* rounded, every row in the first half of its place */
            product(rows, words(narrow, stride), width, operand(narrow, rows, stride, here, stride, here, stride), stride, 1,
                    (Packed){w->into_back, words(narrow, stride), width, narrow}, room.normed, width, 0);
            if (read)
                memset(dx, 0, rows * width * sizeof(float));
            else
                memcpy(dx, work->d_x2 + from * width, rows * width * sizeof(float));
            for (index_t i = 0; i < rows; i++) {
                const float *before = x + (from + i) * width;
                norm_again(narrow, width, before, w->norm1, kept->scales[from + i], row_of(narrow, work->n1, from + i, width),
                           room.wide);
                norm_backward(width, room.normed + i * width, before, w->norm1, kept->scales[from + i], dx + i * width,
                              work->norms + from / BLOCK * width);
            }
        }
        if (read) {
            SHARED
            for (index_t i = 0; i < m; i++)
                for (index_t k = 0; k < width; k++) d->x[read[i] * width + k] += work->d_x2[i * width + k];
        }
        const index_t most = width > inner ? (width > out ? width : out) : (inner > out ? inner : out);
        const index_t left = stride > 2 * inner ? stride : 2 * inner;
        begin(packed_size(DEPTH, most) + (narrow ? DEPTH * (round_to(left, LANES) + LANES) : 0), 2);
        SHARED
        for (index_t t = 0; t < shape->threads; t++) {
#define PART(total) (total) * t / shape->threads, (total) * (t + 1) / shape->threads
            scratch.used = 0, outer(narrow, m, 0, dy, width, PART(width), work->inner, inner, NULL, d->down);
            scratch.used = 0, outer(narrow, m, narrow, work->d_both, 2 * inner, PART(2 * inner), work->n2, width, NULL, d->up);
            scratch.used = 0, outer(narrow, m, 0, work->d_x2, width, PART(width), kept->mixed, out, read, d->out);
            scratch.used = 0, outer(narrow, n, narrow, work->d_qkv, narrow ? 2 * stride : stride, PART(stride), work->n1, width,
                                    NULL, d->into);
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

/* Have `count` rows [size] from row c on come into the cache, though they are read only later: a cache of keys and values is in memory. */
INLINE void ask_for(int narrow, index_t size, const void *rows, index_t c, index_t count)
{
    const index_t bytes = size * (narrow ? sizeof(uint16_t) : sizeof(float));
    const char *from = (const char *)rows + c * bytes;
    for (index_t k = 0; k < count * bytes; k += 64) __builtin_prefetch(from + k);
}

/* scores [seen] = query [size] keys [seen, size]^T.  LANES keys at a time, whose sums are made together. */
INLINE void compare(int narrow, index_t size, index_t seen, const void *query, const void *keys, const void *later,
                    float *scores)
{
    const index_t step = narrow ? 2 * LANES : LANES; /* what a vector of words holds */
    for (index_t c = 0; c < seen; c += LANES) {
        ask_for(narrow, size, later, c, LANES);
        vec sums[LANES];
        index_t key[LANES], k = 0; /* beyond the last it is that one again */
        UNROLL for (int j = 0; j < LANES; j++) sums[j] = all(0), key[j] = least(c + j, seen - 1) * size;
        for (; k + step <= size; k += step) {
            vec part = words_at(narrow, query, k);
            UNROLL for (int j = 0; j < LANES; j++) sums[j] = add_product(narrow, sums[j], part, words_at(narrow, keys, key[j] + k));
        }
        for (; narrow && k + LANES <= size; k += LANES) {
            vec part = read(narrow, query, k);
            UNROLL for (int j = 0; j < LANES; j++) sums[j] += part * read(narrow, keys, key[j] + k);
        }
        put(scores + c, sums_of(sums));
        for (; k < size; k++)
            for (index_t j = c; j < least(c + LANES, seen); j++)
                scores[j] += read_one(narrow, query, k) * read_one(narrow, keys, j * size + k);
    }
}

/* `mix` for two vectors of bfloat16 numbers at a time, of which a vector of words holds the even and the odd ones; how many of
   them that did. */
static index_t mix_words(index_t size, index_t seen, const float *scores, const uint16_t *values, const void *later, float *out)
{
    index_t k = 0;
    for (; k + 2 * LANES <= size; k += 2 * LANES) {
        vec even[4] = {all(0), all(0), all(0), all(0)}, odd[4] = {all(0), all(0), all(0), all(0)};
        index_t c = 0;
        for (; c + 4 <= seen; c += 4) {
            if (k == 0) ask_for(1, size, later, c, 4);
            UNROLL for (int j = 0; j < 4; j++) {
                vec word = words_at(1, values, (c + j) * size + k), by = all(scores[c + j]);
                even[j] += by * lower(word), odd[j] += by * upper(word);
            }
        }
        for (; c < seen; c++) {
            vec word = words_at(1, values, c * size + k), by = all(scores[c]);
            even[0] += by * lower(word), odd[0] += by * upper(word);
        }
        vec one = (even[0] + even[1]) + (even[2] + even[3]), other = (odd[0] + odd[1]) + (odd[2] + odd[3]);
        for (int i = 0; i < LANES; i++) out[k + 2 * i] = one[i], out[k + 2 * i + 1] = other[i];
    }
    return k;
}

/* out [size] = scores [seen] values [seen, size]. */
INLINE void mix(int narrow, index_t size, index_t seen, const float *scores, const void *values, const void *later,
                float *out)
{
    index_t k = narrow ? mix_words(size, seen, scores, values, later, out) : 0;
    for (; k + LANES <= size; k += LANES) {
        vec sums[4] = {all(0), all(0), all(0), all(0)}; /* four, so that no addition waits for the one before */
        index_t c = 0;
        for (; c + 4 <= seen; c += 4) {
            if (k == 0) ask_for(narrow, size, later, c, 4);
            UNROLL for (int j = 0; j < 4; j++) sums[j] += all(scores[c + j]) * read(narrow, values, (c + j) * size + k);
        }
        for (; c < seen; c++) sums[0] += all(scores[c]) * read(narrow, values, c * size + k);
        put(out + k, (sums[0] + sums[1]) + (sums[2] + sums[3]));
    }
    for (; k < size; k++) {
        out[k] = 0;
        for (index_t c = 0; c < seen; c++) out[k] += scores[c] * read_one(narrow, values, c * size + k);
    }
}

/* Attention of one query [size] to keys and values [seen, size] -> out [size]; scores: room for `seen` in whole
   vectors; next: the keys that are compared next. */
INLINE void look_back(int narrow, index_t size, index_t seen, const float *query, const void *keys, const void *values,
                      const void *next, float scaling, float *scores, float *out)
{
    float log_sum;
    compare(narrow, size, seen, query, keys, values, scores);
    soften(1, seen, 0, seen - 1, scaling, scores, &log_sum, 0);
    mix(narrow, size, seen, scores, values, next, out);
}

static void look_back_float(index_t size, index_t seen, const void *query, const void *keys, const void *values,
                            const void *next, float scaling, float *scores, float *out)
{
    look_back(0, size, seen, query, keys, values, next, scaling, scores, out);
}

static void look_back_narrow(index_t size, index_t seen, const void *query, const void *keys, const void *values,
                             const void *next, float scaling, float *scores, float *out)
{
    look_back(1, size, seen, query, keys, values, next, scaling, scores, out);
}

/* Numbers into a cache of floats or of bfloat16. */
static void keep(index_t narrow, index_t size, const float *x, void *to)
{
    if (narrow) narrow_exactly(size, x, to);
    else memcpy(to, x, size * sizeof(float));
}

/* One token for every row: x [rows, width] -> logits [rows, vocabulary]; without `head` the states [rows, width] before it.  Row r
   has lengths[r] columns of the cache, of which there are `columns`, and the next one is written now. */
void tutelage_step(const Shape *shape, index_t layers, const Weights *w, const Cache *caches, index_t columns,
                   const index_t *lengths, index_t longest, const float *angles, const float *last_norm, const float *head,
                   index_t vocabulary, index_t total, const float *x, float *logits)
{
    const index_t narrow = shape->narrow, width = shape->width, inner = shape->inner, size = shape->size;
    const index_t width_words = words(narrow, width), inner_words = words(narrow, inner), group = shape->heads / shape->shared_heads;
    const index_t out = shape->heads * size, stride = out + 2 * shape->shared_heads * size;
    const index_t block = least(BLOCK, round_to((total + shape->threads - 1) / shape->threads, ROWS));
    PARALLEL
    {
        const index_t most = (width > out ? width : out) > inner ? (width > out ? width : out) : inner;
        begin(block * (2 * width + stride + out + 3 * inner) + round_to(longest + 1, LANES) + (narrow ? block * (most + 1) : 0), 9);
        float *state = take(block * width), *normed = take(block * width), *qkv = take(block * stride);
        float *mixed = take(block * out), *both = take(block * 2 * inner), *open = take(block * inner);
        float *scores = take(longest + 1 + LANES), *thin = take(narrow ? block * (most + 1) : 0);
        SHARED
        for (index_t from = 0; from < total; from += block) {
            index_t rows = least(block, total - from);
            float scale[BLOCK];
            memcpy(state, x + from * width, rows * width * sizeof(float));
            for (index_t layer = 0; layer < layers; layer++) {
                norm(rows, width, state, w[layer].norm1, shape->eps, scale, normed);
                product(rows, width_words, stride, operand(narrow, rows, width, normed, width, thin, width_words), width_words, 1,
                        (Packed){w[layer].into, width_words, stride, narrow}, qkv, stride, 0);
                for (index_t i = 0; i < rows; i++) {
                    index_t r = from + i, seen = lengths[r] + 1;
                    float *here = qkv + i * stride;
                    turn(shape->heads + shape->shared_heads, size, here, angles + r * size, 1);
                    const float *queries = operand(narrow, 1, out, here, out, thin, 0);
                    for (index_t g = 0; g < shape->shared_heads; g++) {
                        index_t offset = ((r * shape->shared_heads + g) * columns) * size;
                        void *keys = row_of(narrow, caches[layer].keys, offset, 1);
                        void *values = row_of(narrow, caches[layer].values, offset, 1);
                        keep(narrow, size, here + out + g * size, row_of(narrow, keys, lengths[r], size));
                        keep(narrow, size, here + out + (shape->shared_heads + g) * size, row_of(narrow, values, lengths[r], size));
                        for (index_t h = g * group; h < (g + 1) * group; h++)
                            (narrow ? look_back_narrow : look_back_float)(
                                size, seen, queries + h * words(narrow, size), keys, values, row_of(narrow, keys, columns, size),
                                shape->scaling, scores, mixed + i * out + h * size);
                    }
                }
                product(rows, words(narrow, out), width, operand(narrow, rows, out, mixed, out, thin, words(narrow, out)),
                        words(narrow, out), 1, (Packed){w[layer].out, words(narrow, out), width, narrow}, state, width, 1);
                norm(rows, width, state, w[layer].norm2, shape->eps, scale, normed);
                product(rows, width_words, 2 * inner, operand(narrow, rows, width, normed, width, thin, width_words), width_words, 1,
                        (Packed){w[layer].up, width_words, 2 * inner, narrow}, both, 2 * inner, 0);
                for (index_t i = 0; i < rows; i++) gated(inner, both + i * 2 * inner, open + i * inner);
                product(rows, inner_words, width, operand(narrow, rows, inner, open, inner, thin, inner_words), inner_words, 1,
                        (Packed){w[layer].down, inner_words, width, narrow}, state, width, 1);
            }
            norm(rows, width, state, last_norm, shape->eps, scale, head ? normed : logits + from * width);
            if (head)
                product(rows, width_words, vocabulary, operand(narrow, rows, width, normed, width, thin, width_words), width_words, 1,
                        (Packed){head, width_words, vocabulary, narrow}, logits + from * vocabulary, vocabulary, 0);
        }
    }
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
            narrow_exactly(shape->width, normed, out + r * shape->width);
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
            narrow_exactly(size, found, inner + r * size);
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
        begin(turned * size + out + size + round_to(longest + 1, LANES) + LANES, 4);
        uint16_t *query = (uint16_t *)take(out);
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
            narrow_row(out, here, query);
            for (index_t g = 0; g < shape->shared_heads; g++) {
                index_t offset = ((r * shape->shared_heads + g) * columns) * size;
                uint16_t *keys = (uint16_t *)cache->keys + offset, *values = (uint16_t *)cache->values + offset;
                narrow_exactly(size, here + (shape->heads + g) * size, keys + lengths[r] * size);
                memcpy(values + lengths[r] * size, row + (turned + g) * size, size * sizeof(uint16_t));
                for (index_t h = g * group; h < (g + 1) * group; h++) {
                    look_back_narrow(size, lengths[r] + 1, query + h * size, keys, values, keys + columns * size, shape->scaling, scores,
                                     found);
                    narrow_exactly(size, found, mixed + r * out + h * size);
                }
            }
        }
    }
}
