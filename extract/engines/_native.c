/* MobileNetV2 from pixels to pooled features, one image on one thread, for x86-64 processors with AVX2 and FMA.
 *
 * Why it is faster than a general runtime: an inverted residual block (expand, depthwise, project) is one pass over a
 * strip of rows, so that the expanded map, six times as wide as what goes in and out, never leaves the processor's
 * cache; and products are tiled so that almost no lane of a register is idle at 7 x 7, 14 x 14 and 28 x 28 places.
 *
 * Every sum is the bias and then one fused multiply-add after the other, in the order of its inputs. Tiles and strips
 * decide which output is computed when, never how: the bits are the same on every processor that can run this.
 *
 * native_plan.py says where everything lies; nothing is allocated here.
 */

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#if defined(_WIN32)
#define EXPORT __declspec(dllexport)
#else
#define EXPORT __attribute__((visibility("default")))
#endif

#define PANEL 16 /* channels that lie side by side in an expanded map */

/* One block. A pixel (y, x) of what goes in begins at y * line + x * step, and has `runs` runs of `run` values, `hop`
 * apart: its channels, or the three rows of a patch of the first convolution. Places and distances count floats. */
typedef struct {
    int32_t line, step, runs, run, hop;
    int32_t height, width;   /* of the expanded map */
    int32_t panels;          /* of it, PANEL channels each */
    int32_t stride, before;  /* of the depthwise convolution; rows and columns of zeros above and to the left */
    int32_t out_height, out_width, out_channels;
    int32_t residual;        /* whether what goes in is added to what comes out */
    int32_t strip, ring;     /* rows that come out at a time; rows of the expanded map that are kept */
    int64_t expand, depthwise, project; /* places in the weights */
} Block;

typedef struct {
    int32_t size, blocks, features, reserved;
    int64_t head; /* place of the last convolution in the weights */
    int64_t padded, first, second, expanded, deep, zeros; /* places in the arena */
    int64_t pixels; /* room in the table of pointers, for each of three kinds */
} Plan;

#if (defined(__x86_64__) || defined(_M_X64)) && (defined(__GNUC__) || defined(__clang__))

#include <immintrin.h>

#define AVX2 __attribute__((target("avx2,fma")))
#define UNROLL _Pragma("GCC unroll 16")
#define AHEAD 2048 /* bytes that weights are fetched ahead: those of the last blocks come from the third-level cache */

static AVX2 inline __m256 clamped(__m256 x) /* ReLU6; what is not a number stays so */
{
    return _mm256_min_ps(_mm256_set1_ps(6.0f), _mm256_max_ps(_mm256_setzero_ps(), x));
}

/* ROWS pixels times VECTORS * 8 columns. Pixel i is read at a[i] and written at c[i]; r[i], if any, is added. */
#define TILE(ROWS, VECTORS)                                                                                            \
    static AVX2 void tile_##ROWS##_##VECTORS(const float *const *a, int runs, int run, ptrdiff_t hop, const float *b, \
                                             float *const *c, const float *const *r, int clamp)                      \
    {                                                                                                                  \
        __m256 sum[ROWS][VECTORS];                                                                                     \
        const float *in[ROWS];                                                                                         \
        UNROLL for (int i = 0; i < ROWS; i++) {                                                                        \
            in[i] = a[i];                                                                                              \
            UNROLL for (int v = 0; v < VECTORS; v++) sum[i][v] = _mm256_load_ps(b + 8 * v);                            \
        }                                                                                                              \
        b += 8 * VECTORS;                                                                                              \
        for (int s = 0; s < runs; s++) {                                                                               \
            for (int k = 0; k < run; k++) {                                                                            \
                __m256 w[VECTORS];                                                                                     \
                if (VECTORS == 2) _mm_prefetch((const char *)b + AHEAD, _MM_HINT_T0);                                  \
                UNROLL for (int v = 0; v < VECTORS; v++) w[v] = _mm256_load_ps(b + 8 * v);                             \
                b += 8 * VECTORS;                                                                                      \
                UNROLL for (int i = 0; i < ROWS; i++) {                                                                \
                    __m256 x = _mm256_broadcast_ss(in[i] + k);                                                         \
                    UNROLL for (int v = 0; v < VECTORS; v++) sum[i][v] = _mm256_fmadd_ps(x, w[v], sum[i][v]);          \
                }                                                                                                      \
            }                                                                                                          \
            UNROLL for (int i = 0; i < ROWS; i++) in[i] += hop;                                                        \
        }                                                                                                              \
        UNROLL for (int i = 0; i < ROWS; i++) {                                                                        \
            UNROLL for (int v = 0; v < VECTORS; v++) {                                                                 \
                __m256 x = clamp ? clamped(sum[i][v]) : sum[i][v];                                                     \
                if (r) x = _mm256_add_ps(x, _mm256_loadu_ps(r[i] + 8 * v));                                            \
                _mm256_storeu_ps(c[i] + 8 * v, x);                                                                     \
            }                                                                                                          \
        }                                                                                                              \
    }

/* 12 of the 16 registers hold sums: 6 x 16 columns, or 4 x 24, which suits 24, 40, 56 and 72 channels. */
TILE(1, 1) TILE(2, 1) TILE(3, 1) TILE(4, 1) TILE(5, 1) TILE(6, 1)
TILE(1, 2) TILE(2, 2) TILE(3, 2) TILE(4, 2) TILE(5, 2) TILE(6, 2)
TILE(1, 3) TILE(2, 3) TILE(3, 3) TILE(4, 3)

typedef void (*Tile)(const float *const *, int, int, ptrdiff_t, const float *, float *const *, const float *const *,
                     int);

static const Tile tiles[3][6] = {
    {tile_1_1, tile_2_1, tile_3_1, tile_4_1, tile_5_1, tile_6_1},
    {tile_1_2, tile_2_2, tile_3_2, tile_4_2, tile_5_2, tile_6_2},
    {tile_1_3, tile_2_3, tile_3_3, tile_4_3, 0, 0},
};
static const int most_rows[3] = {6, 6, 4};

/* Pixels times one panel of weights, in tiles as even as can be: 49 are 4 of 6 and 5 of 5, not 8 of 6 and 1 of 1. */
static AVX2 void multiply(int pixels, int vectors, const float *const *a, int runs, int run, ptrdiff_t hop,
                          const float *b, float *const *c, const float *const *r, int clamp)
{
    if (pixels == 0) return;
    int most = most_rows[vectors - 1], count = (pixels + most - 1) / most;
    int rows = pixels / count, larger = pixels % count;
    for (int t = 0, i = 0; t < count; t++) {
        int now = rows + (t < larger);
        tiles[vectors - 1][now - 1](a + i, runs, run, hop, b, c + i, r ? r + i : 0, clamp);
        i += now;
    }
}

/* One row of one panel, in two halves of 8 channels, whose weights stay in registers. */
static AVX2 void depthwise_row(const float *const rows[3], int width, int stride, const float *weights, float *out)
{
    for (int half = 0; half < PANEL; half += 8) {
        const float *top = rows[0] + half, *middle = rows[1] + half, *bottom = rows[2] + half;
        float *o = out + half;
        __m256 w[10];
        UNROLL for (int i = 0; i < 10; i++) w[i] = _mm256_load_ps(weights + half + PANEL * i);
        for (int x = 0; x < width; x++) {
            __m256 sum = w[0];
            UNROLL for (int j = 0; j < 3; j++) sum = _mm256_fmadd_ps(w[1 + j], _mm256_load_ps(top + PANEL * j), sum);
            UNROLL for (int j = 0; j < 3; j++) sum = _mm256_fmadd_ps(w[4 + j], _mm256_load_ps(middle + PANEL * j), sum);
            UNROLL for (int j = 0; j < 3; j++) sum = _mm256_fmadd_ps(w[7 + j], _mm256_load_ps(bottom + PANEL * j), sum);
            _mm256_store_ps(o, clamped(sum));
            top += PANEL * stride, middle += PANEL * stride, bottom += PANEL * stride, o += PANEL;
        }
    }
}

typedef struct {
    float *expanded, *deep, *zeros;
    const float **a, **r;
    float **c;
} Room;

/* Expand, depthwise, project. A row of the expanded map has a column of zeros at either end; row y lies at y % ring.
 * When one strip is the whole map, the panels follow each other through the same place. */
static AVX2 void run_block(const Block *k, const float *weights, const float *in, float *out, const Room *room)
{
    ptrdiff_t row_floats = (ptrdiff_t)(k->width + 2) * PANEL;
    ptrdiff_t panel_floats = k->strip < k->out_height ? row_floats * k->ring : 0;
    ptrdiff_t expand_floats = ((ptrdiff_t)k->runs * k->run + 1) * PANEL;
    ptrdiff_t rows_kept = panel_floats ? (ptrdiff_t)k->ring * k->panels : k->ring;
    for (ptrdiff_t y = 0; y < rows_kept; y++) {
        memset(room->expanded + y * row_floats, 0, PANEL * sizeof(float));
        memset(room->expanded + (y + 1) * row_floats - PANEL, 0, PANEL * sizeof(float));
    }
    memset(room->zeros, 0, row_floats * sizeof(float));
    int done = 0; /* rows of the expanded map */
    for (int from = 0; from < k->out_height; from += k->strip) {
        int to = from + k->strip < k->out_height ? from + k->strip : k->out_height;
        int need = (to - 1) * k->stride - k->before + 3;
        if (need > k->height) need = k->height;
        int fresh = 0;
        for (int y = done; y < need; y++)
            for (int x = 0; x < k->width; x++, fresh++) {
                room->a[fresh] = in + (ptrdiff_t)y * k->line + (ptrdiff_t)x * k->step;
                room->c[fresh] = room->expanded + (y % k->ring) * row_floats + (ptrdiff_t)(x + 1) * PANEL;
            }
        done = need;
        int pixels = (to - from) * k->out_width;
        for (int p = 0; p < k->panels; p++) {
            multiply(fresh, 2, room->a, k->runs, k->run, k->hop, weights + k->expand + p * expand_floats, room->c, 0, 1);
            const float *map = room->expanded + p * panel_floats;
            float *deep = room->deep + (ptrdiff_t)p * pixels * PANEL;
            for (int y = from; y < to; y++, deep += (ptrdiff_t)k->out_width * PANEL) {
                const float *rows[3];
                for (int j = 0; j < 3; j++) {
                    int at = y * k->stride - k->before + j;
                    const float *row = at < 0 || at >= k->height ? room->zeros : map + (at % k->ring) * row_floats;
                    rows[j] = row + (1 - k->before) * PANEL;
                }
                depthwise_row(rows, k->out_width, k->stride, weights + k->depthwise + (ptrdiff_t)p * 10 * PANEL, deep);
            }
            if (panel_floats)
                for (int i = 0; i < fresh; i++) room->c[i] += panel_floats;
        }
        for (int i = 0; i < pixels; i++) {
            ptrdiff_t at = ((ptrdiff_t)from * k->out_width + i) * k->out_channels;
            room->a[i] = room->deep + (ptrdiff_t)i * PANEL;
            room->c[i] = out + at;
            room->r[i] = in + at; /* with a residual, what goes in has the shape of what comes out */
        }
        const float *b = weights + k->project;
        for (int left = k->out_channels; left > 0;) {
            int vectors = left % 16 == 0 ? 2 : left >= 24 ? 3 : 1;
            multiply(pixels, vectors, room->a, k->panels, PANEL, (ptrdiff_t)pixels * PANEL, b, room->c,
                     k->residual ? room->r : 0, 0);
            b += ((ptrdiff_t)k->panels * PANEL + 1) * 8 * vectors;
            left -= 8 * vectors;
            for (int i = 0; i < pixels; i++) room->c[i] += 8 * vectors, room->r[i] += 8 * vectors;
        }
    }
}

/* The last convolution and the mean over all places, panel after panel. */
static AVX2 void run_head(int pixels, int channels, int features, const float *b, const float *in, float *out,
                          const Room *room)
{
    for (int i = 0; i < pixels; i++) {
        room->a[i] = in + (ptrdiff_t)i * channels;
        room->c[i] = room->expanded + (ptrdiff_t)i * PANEL;
    }
    __m256 count = _mm256_set1_ps((float)pixels);
    for (int n = 0; n < features; n += PANEL, b += ((ptrdiff_t)channels + 1) * PANEL) {
        multiply(pixels, 2, room->a, 1, channels, 0, b, room->c, 0, 1);
        __m256 low = _mm256_setzero_ps(), high = low;
        for (int i = 0; i < pixels; i++) {
            low = _mm256_add_ps(low, _mm256_load_ps(room->c[i]));
            high = _mm256_add_ps(high, _mm256_load_ps(room->c[i] + 8));
        }
        _mm256_storeu_ps(out + n, _mm256_div_ps(low, count));
        _mm256_storeu_ps(out + n + 8, _mm256_div_ps(high, count));
    }
}

/* Whether this processor, and its operating system, can run the rest. */
EXPORT int embedonce_supported(void)
{
    __builtin_cpu_init();
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
}

/* Whether the vectors of the kernels are the widest that the processor has. */
EXPORT int embedonce_widest(void) { return embedonce_supported() && !__builtin_cpu_supports("avx512f"); }

/* image: size x size x 3, 0 to 255. weights and arena begin at multiples of 64 bytes. */
EXPORT AVX2 void embedonce_embed(const Plan *plan, const Block *blocks, const float *weights, float *arena,
                                 void **pointers, const float *image, float *features)
{
    Room room = {arena + plan->expanded, arena + plan->deep, arena + plan->zeros,
                 (const float **)pointers, (const float **)pointers + plan->pixels,
                 (float **)pointers + 2 * plan->pixels};
    /* Scaled to -1 to 1, with zeros below and to the right, and on all sides of an odd size, as Keras pads */
    int size = plan->size, before = size % 2, line = 3 * (size + 1 + before);
    float *padded = arena + plan->padded;
    memset(padded, 0, sizeof(float) * line * (size + 1 + before));
    for (int y = 0; y < size; y++) {
        float *o = padded + (ptrdiff_t)(y + before) * line + 3 * before;
        const float *i = image + (ptrdiff_t)y * 3 * size;
        for (int x = 0; x < 3 * size; x++) o[x] = i[x] * (1 / 127.5f) - 1.0f;
    }
    const float *in = padded;
    float *first = arena + plan->first, *second = arena + plan->second;
    for (int i = 0; i < plan->blocks; i++) {
        float *out = i % 2 ? second : first;
        run_block(blocks + i, weights, in, out, &room);
        in = out;
    }
    const Block *last = blocks + plan->blocks - 1;
    run_head(last->out_height * last->out_width, last->out_channels, plan->features, weights + plan->head, in, features,
             &room);
}

#else /* another processor, or a compiler that cannot compile for one that it does not run on */

EXPORT int embedonce_supported(void) { return 0; }

EXPORT int embedonce_widest(void) { return 0; }

EXPORT void embedonce_embed(const Plan *plan, const Block *blocks, const float *weights, float *arena, void **pointers,
                            const float *image, float *features)
{
    (void)plan, (void)blocks, (void)weights, (void)arena, (void)pointers, (void)image, (void)features;
}

#endif

/* Python builds, installs and finds the library as a module; native.py calls the functions through ctypes. */
static struct PyModuleDef definition = {PyModuleDef_HEAD_INIT, .m_name = "_native", .m_size = 0};

PyMODINIT_FUNC PyInit__native(void) { return PyModule_Create(&definition); }
