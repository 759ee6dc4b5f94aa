/* The kernels for vectors of LANES floats: _kernels.c includes this once for each width, with TARGET, the attribute of
 * functions for a processor that has it. Everything is written with the vector types of GCC and Clang.
 *
 * Why they are faster than a general runtime: an inverted residual block (expand, depthwise, project) is one pass over
 * a strip of rows, so that the expanded map, six times as wide as what goes in and out, never leaves the processor's
 * cache; and products are tiled so that almost no lane of a register is idle at 7 x 7, 14 x 14 and 28 x 28 places.
 *
 * Every sum is the bias and then one fused multiply-add after the other, in the order of its inputs. Lanes, tiles and
 * strips decide which output is computed when, never how: the bits are the same on every processor.
 *
 * native_plan.py says where everything lies; nothing is allocated here. */

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#ifndef EMBEDONCE_PLAN
#define EMBEDONCE_PLAN

#if defined(_WIN32)
#define EXPORT __declspec(dllexport)
#else
#define EXPORT __attribute__((visibility("default")))
#endif

/* One block. A pixel (y, x) of what goes in begins at y * line + x * step, and has `runs` runs of `run` values, `hop`
 * apart: its channels, or the three rows of a patch of the first convolution. Places and distances count floats. */
typedef struct {
    int32_t line, step, runs, run, hop;
    int32_t height, width;   /* of the expanded map */
    int32_t hidden;          /* channels of it, a multiple of UNIT */
    int32_t stride, before;  /* of the depthwise convolution; rows and columns of zeros above and to the left */
    int32_t out_height, out_width, out_channels; /* a multiple of UNIT */
    int32_t residual;        /* whether what goes in is added to what comes out */
    int32_t strip, ring;     /* rows that come out at a time; rows of the expanded map that are kept */
    int64_t expand, depthwise, project; /* places in the weights */
} Block;

typedef struct {
    int32_t size, blocks, features, channels; /* channels that the last convolution reads */
    int64_t head; /* place of the last convolution in the weights */
    int64_t padded, first, second, expanded, deep, zeros; /* places in the arena */
    int64_t pixels; /* room in the table of pointers */
} Plan;

/* What the tiles of a product have in common: pixels, `step` floats apart, have runs of `run` values, `hop` apart, of
 * `length` values in all. What lies `residual` floats behind an output is added to it, if that is not 0. */
typedef struct {
    ptrdiff_t step, hop, residual;
    int32_t length, run, clamp;
} Product;

/* Keeps a pointer in a register of its own: an address of two registers costs x86 another operation in each sum. */
#define SEPARATE(pointer) __asm__("" : "+r"(pointer))
#define TO_4(X, units) X(1, units) X(2, units) X(3, units) X(4, units)
#define TO_6(X, units) TO_4(X, units) X(5, units) X(6, units)
#define TO_9(X, units) TO_6(X, units) X(7, units) X(8, units) X(9, units)
#define TO_12(X, units) TO_9(X, units) X(10, units) X(11, units) X(12, units)
#define TO_14(X, units) TO_12(X, units) X(13, units) X(14, units)

#define JOIN_(a, b) a##b
#define JOIN(a, b) JOIN_(a, b)
#define INLINE static inline __attribute__((always_inline))
#if defined(__clang__)
#define UNROLL _Pragma("clang loop unroll(full)")
#else
#define UNROLL _Pragma("GCC unroll 16")
#endif
#define AHEAD 2048 /* bytes that weights are fetched ahead into the first-level cache */

#endif

#define NAME(name) JOIN(name##_, LANES)
#define UNIT (LANES < 8 ? 8 : LANES) /* columns of the narrowest tile; the others have two and three times as many */
#define PANEL (2 * UNIT)             /* channels that lie side by side in an expanded map */
#define V NAME(Vector)
#define I NAME(Mask)

typedef float V __attribute__((vector_size(4 * LANES)));
typedef int32_t I __attribute__((vector_size(4 * LANES)));

INLINE TARGET V NAME(load)(const float *from)
{
    V x;
    memcpy(&x, from, sizeof x);
    return x;
}
#define load NAME(load)

INLINE TARGET void NAME(store)(float *to, V x) { memcpy(to, &x, sizeof x); }
#define store NAME(store)

/* ReLU6; what is not a number stays so. */
INLINE TARGET V NAME(clamped)(V x)
{
#ifdef MAXIMUM
    return MINIMUM(((V){0} + 6.0f), MAXIMUM((V){0}, x));
#else
    I large = x > 6.0f;
    I y = ((I)x & ~large) | ((I)((V){0} + 6.0f) & large);
    return (V)(y & ~(x < 0.0f));
#endif
}
#define clamped NAME(clamped)

/* The pixels from a on times one panel of weights; pixel i is written at c[i]. `next` are the weights of the next
 * panel, of which each input of this tile fetches `pace` bytes into the second-level cache. */
INLINE TARGET void NAME(tile)(const int rows, const int vectors, const Product *p, const float *a, const float *b,
                              const char *next, ptrdiff_t pace, float *const *c)
{
    const ptrdiff_t step = p->step, hop = p->hop, residual = p->residual;
    const int run = p->run, clamp = p->clamp;
    V sum[14][6];
    const float *in[5]; /* every third pixel: one register addresses three */
    UNROLL for (int i = 0; i < rows; i++) {
        if (i % 3 == 0) in[i / 3] = a + i * step;
        UNROLL for (int v = 0; v < vectors; v++) sum[i][v] = load(b + LANES * v);
    }
    b += LANES * vectors;
    for (int length = p->length; length > 0; length -= run) {
        int now = run < length ? run : length;
        for (int k = now; k > 0; k--) {
            V w[6];
            if (vectors * LANES > UNIT) {
                UNROLL for (int v = 0; v < vectors * LANES; v += 16)
                    __builtin_prefetch((const char *)(b + v) + AHEAD);
                __builtin_prefetch(next, 0, 2);
                next += pace;
            }
            UNROLL for (int v = 0; v < vectors; v++) w[v] = load(b + LANES * v);
            b += LANES * vectors;
            UNROLL for (int i = 0; i < rows; i++) {
                float x = in[i / 3][i % 3 * step];
                UNROLL for (int v = 0; v < vectors; v++) sum[i][v] = x * w[v] + sum[i][v];
            }
            UNROLL for (int i = 0; i < rows; i += 3) {
                in[i / 3]++;
                SEPARATE(in[i / 3]);
            }
        }
        UNROLL for (int i = 0; i < rows; i += 3) in[i / 3] += hop - run;
    }
    UNROLL for (int i = 0; i < rows; i++) {
        UNROLL for (int v = 0; v < vectors; v++) {
            V x = clamp ? clamped(sum[i][v]) : sum[i][v];
            if (residual) x += load(c[i] + residual + LANES * v);
            store(c[i] + LANES * v, x);
        }
    }
}

#define TILE(ROWS, UNITS)                                                                                              \
    static TARGET __attribute__((noinline)) void NAME(tile_##ROWS##_##UNITS)(                                          \
        const Product *p, const float *a, const float *b, const char *next, ptrdiff_t pace, float *const *c)           \
    {                                                                                                                  \
        NAME(tile)(ROWS, UNITS *UNIT / LANES, p, a, b, next, pace, c);                                                 \
    }

/* Rows of the tiles of one, two and three units: sums fill 12 of 16 vector registers, or 24 to 28 of 32. */
#if LANES == 8
#define ROWS_1(X) TO_6(X, 1)
#define ROWS_2(X) TO_6(X, 2)
#define ROWS_3(X) TO_4(X, 3)
#elif LANES == 16
#define ROWS_1(X) TO_14(X, 1)
#define ROWS_2(X) TO_14(X, 2)
#define ROWS_3(X) TO_9(X, 3)
#else
#define ROWS_1(X) TO_12(X, 1)
#define ROWS_2(X) TO_6(X, 2)
#define ROWS_3(X) TO_4(X, 3)
#endif
ROWS_1(TILE) ROWS_2(TILE) ROWS_3(TILE)

typedef void (*NAME(Tile))(const Product *, const float *, const float *, const char *, ptrdiff_t, float *const *);
#define ADDRESS(ROWS, UNITS) NAME(tile_##ROWS##_##UNITS),
static const NAME(Tile) NAME(tiles)[3][14] = {{ROWS_1(ADDRESS)}, {ROWS_2(ADDRESS)}, {ROWS_3(ADDRESS)}};
#define COUNT(ROWS, UNITS) +1
static const int NAME(most_rows)[3] = {ROWS_1(COUNT), ROWS_2(COUNT), ROWS_3(COUNT)};

/* Pixels times one panel of weights, in tiles as even as can be: 49 are 4 of 6 and 5 of 5, not 8 of 6 and 1 of 1. */
static TARGET void NAME(multiply)(const Product *p, int pixels, int units, const float *a, const float *b,
                                  float *const *c)
{
    if (pixels == 0) return;
    int most = NAME(most_rows)[units - 1], count = (pixels + most - 1) / most;
    int rows = pixels / count, larger = pixels % count;
    ptrdiff_t row = units * UNIT * sizeof(float), pace = row / count;
    const char *next = (const char *)b + (p->length + 1) * row;
    for (int t = 0; t < count; t++, next += p->length * pace) {
        int now = rows + (t < larger);
        NAME(tiles)[units - 1][now - 1](p, a, b, next, pace, c);
        a += now * p->step, c += now;
    }
}
#define multiply NAME(multiply)

/* Rows `from` to `to` of some vectors of one panel, whose weights stay in registers. */
INLINE TARGET void NAME(depthwise)(const int vectors, const Block *k, int from, int to, const float *map,
                                   const float *zeros, const float *weights, float *out)
{
    V w[10][2];
    UNROLL for (int i = 0; i < 10; i++)
        UNROLL for (int v = 0; v < vectors; v++) w[i][v] = load(weights + PANEL * i + LANES * v);
    const int width = k->out_width, height = k->height, ring = k->ring, before = k->before;
    const ptrdiff_t row_floats = (ptrdiff_t)(k->width + 2) * PANEL, step = (ptrdiff_t)k->stride * PANEL;
    for (int y = from; y < to; y++) {
        const float *row[3];
        UNROLL for (int j = 0; j < 3; j++) {
            int at = y * k->stride - before + j;
            row[j] = (at < 0 || at >= height ? zeros : map + (at % ring) * row_floats) + (1 - before) * PANEL;
        }
        for (int x = 0; x < width; x++, out += PANEL) {
            V sum[2];
            UNROLL for (int v = 0; v < vectors; v++) sum[v] = w[0][v];
            UNROLL for (int i = 0; i < 9; i++)
                UNROLL for (int v = 0; v < vectors; v++)
                    sum[v] = w[1 + i][v] * load(row[i / 3] + PANEL * (i % 3) + LANES * v) + sum[v];
            UNROLL for (int v = 0; v < vectors; v++) store(out + LANES * v, clamped(sum[v]));
            UNROLL for (int j = 0; j < 3; j++) {
                row[j] += step;
                SEPARATE(row[j]);
            }
        }
    }
}

static TARGET void NAME(depthwise_panel)(const Block *k, int from, int to, int channels, const float *map,
                                         const float *zeros, const float *weights, float *out)
{
    const int vectors = LANES == 8 ? 1 : 2; /* as many as there are registers for */
    int c = 0;
    for (; c + LANES * vectors <= channels; c += LANES * vectors)
        NAME(depthwise)(vectors, k, from, to, map + c, zeros, weights + c, out + c);
    if (c < channels) NAME(depthwise)(1, k, from, to, map + c, zeros, weights + c, out + c);
}

/* Expand, depthwise, project. A row of the expanded map has a column of zeros at either end; row y lies at y % ring.
 * When one strip is the whole map, the panels follow each other through the same place. */
static TARGET void NAME(run_block)(const Block *k, const float *weights, const float *in, float *out, float *arena,
                                   const Plan *plan, float **c)
{
    float *expanded = arena + plan->expanded, *all_deep = arena + plan->deep, *zeros = arena + plan->zeros;
    ptrdiff_t row_floats = (ptrdiff_t)(k->width + 2) * PANEL;
    ptrdiff_t panel_floats = k->strip < k->out_height ? row_floats * k->ring : 0;
    int length = k->runs * k->run, width = k->width, panels = (k->hidden + PANEL - 1) / PANEL;
    ptrdiff_t rows_kept = panel_floats ? (ptrdiff_t)k->ring * panels : k->ring;
    for (ptrdiff_t y = 0; y < rows_kept; y++) {
        memset(expanded + y * row_floats, 0, PANEL * sizeof(float));
        memset(expanded + (y + 1) * row_floats - PANEL, 0, PANEL * sizeof(float));
    }
    memset(zeros, 0, row_floats * sizeof(float));
    const Product expand = {k->step, k->hop, 0, length, k->run, 1};
    int even = k->line == k->width * k->step; /* whether the last pixel of a row is a step before the next row */
    int done = 0; /* rows of the expanded map */
    for (int from = 0; from < k->out_height; from += k->strip) {
        int to = from + k->strip < k->out_height ? from + k->strip : k->out_height;
        int need = (to - 1) * k->stride - k->before + 3;
        if (need > k->height) need = k->height;
        int fresh = 0, pixels = (to - from) * k->out_width;
        for (int y = done; y < need; y++) {
            float *row = expanded + (y % k->ring) * row_floats;
            for (int x = 0; x < width; x++) c[fresh++] = row + (ptrdiff_t)(x + 1) * PANEL;
        }
        const float *b = weights + k->expand, *taps = weights + k->depthwise;
        for (int p = 0; p < panels; p++, taps += 10 * PANEL) {
            int units = k->hidden - p * PANEL < PANEL ? 1 : 2;
            for (int y = done, at = 0; y < need; y++, at += k->width) {
                int count = even ? fresh : k->width;
                multiply(&expand, count, units, in + (ptrdiff_t)y * k->line, b, c + at);
                if (even) break;
            }
            b += (ptrdiff_t)(length + 1) * units * UNIT;
            const float *map = expanded + p * panel_floats;
            float *deep = all_deep + (ptrdiff_t)p * pixels * PANEL;
            NAME(depthwise_panel)(k, from, to, units * UNIT, map, zeros, taps, deep);
            if (panel_floats)
                for (int i = 0; i < fresh; i++) c[i] += panel_floats;
        }
        done = need;
        for (int i = 0; i < pixels; i++) c[i] = out + ((ptrdiff_t)from * k->out_width + i) * k->out_channels;
        b = weights + k->project;
        /* with a residual, what goes in has the shape of what comes out */
        const Product project = {PANEL, (ptrdiff_t)pixels * PANEL, k->residual ? in - out : 0, k->hidden, PANEL, 0};
        for (int left = k->out_channels; left > 0;) {
            int units = left % PANEL == 0 ? 2 : left >= 3 * UNIT ? 3 : 1;
            multiply(&project, pixels, units, all_deep, b, c);
            b += (ptrdiff_t)(k->hidden + 1) * units * UNIT;
            left -= units * UNIT;
            for (int i = 0; i < pixels; i++) c[i] += units * UNIT;
        }
    }
}

/* The last convolution and the mean over all places, panel after panel. */
static TARGET void NAME(run_head)(const Plan *plan, const Block *last, const float *b, const float *in, float *out,
                                  float *expanded, float **c)
{
    int pixels = last->out_height * last->out_width;
    const Product product = {last->out_channels, 0, 0, plan->channels, plan->channels, 1};
    for (int i = 0; i < pixels; i++) c[i] = expanded + (ptrdiff_t)i * PANEL;
    for (int n = 0; n < plan->features; n += PANEL, b += ((ptrdiff_t)plan->channels + 1) * PANEL) {
        multiply(&product, pixels, 2, in, b, c);
        for (int v = 0; v < PANEL; v += LANES) {
            V sum = {0};
            for (int i = 0; i < pixels; i++) sum += load(c[i] + v);
            store(out + n + v, sum / (float)pixels);
        }
    }
}

/* image: size x size x 3, 0 to 255. weights and arena begin at multiples of 64 bytes. */
EXPORT TARGET void NAME(embedonce_embed)(const Plan *plan, const Block *blocks, const float *weights, float *arena,
                                         float **pointers, const float *image, float *features)
{
    /* Scaled to -1 to 1, with zeros below and to the right, and on all sides of an odd size, as Keras pads */
    int size = plan->size, before = size % 2, line = 3 * (size + 1 + before);
    float *padded = arena + plan->padded;
    memset(padded, 0, before * line * sizeof(float));
    memset(padded + (ptrdiff_t)(size + before) * line, 0, line * sizeof(float));
    for (int y = 0; y < size; y++) {
        float *o = padded + (ptrdiff_t)(y + before) * line;
        const float *i = image + (ptrdiff_t)y * 3 * size;
        for (int edge = 0; edge < 3; edge++) o[edge] = o[line - 1 - edge] = 0;
        o += 3 * before;
        int x = 0;
        for (; x + LANES <= 3 * size; x += LANES) store(o + x, load(i + x) * (1 / 127.5f) - 1.0f);
        for (; x < 3 * size; x++) o[x] = __builtin_fmaf(i[x], 1 / 127.5f, -1.0f);
    }
    const float *in = padded;
    float *first = arena + plan->first, *second = arena + plan->second;
    for (int i = 0; i < plan->blocks; i++) {
        float *out = i % 2 ? second : first;
        NAME(run_block)(blocks + i, weights, in, out, arena, plan, pointers);
        in = out;
    }
    NAME(run_head)(plan, blocks + plan->blocks - 1, weights + plan->head, in, features, arena + plan->expanded,
                   pointers);
}

#undef NAME
#undef UNIT
#undef PANEL
#undef V
#undef I
#undef load
#undef store
#undef clamped
#undef multiply
#undef TILE
#undef ROWS_1
#undef ROWS_2
#undef ROWS_3
#undef ADDRESS
#undef COUNT
#undef LANES
#undef TARGET
#undef MINIMUM
#undef MAXIMUM
