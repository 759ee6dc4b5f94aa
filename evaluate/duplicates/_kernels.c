/* The inner loops of the search for near-duplicates, for Python threads: nothing is allocated and no state is kept.
 *
 * They do what the NumPy code of registration.py and log_polar.py does, which runs where this is not compiled, up to
 * rounding: NumPy writes every intermediate array to memory, and takes twenty times as long.
 *
 * Vectors have 16 lanes on every processor; the compiler divides them where registers are shorter.
 */

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#if defined(_WIN32)
#define EXPORT __declspec(dllexport)
#else
#define EXPORT __attribute__((visibility("default")))
#endif

#define LANES 16

#if defined(__GNUC__) || defined(__clang__)

#if defined(__x86_64__) && defined(__linux__) && defined(__GLIBC__) && !defined(__clang__)
#define CLONES __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define CLONES
#endif
#define INLINE static inline __attribute__((always_inline))
#define UNROLL _Pragma("GCC unroll 64")

typedef float Floats __attribute__((vector_size(4 * LANES)));
typedef int32_t Ints __attribute__((vector_size(4 * LANES)));

INLINE Floats pick(Ints mask, Floats one, Floats other)
{
    return (Floats)((mask & (Ints)one) | (~mask & (Ints)other));
}

INLINE float sum(const Floats *lanes)
{
    float half[8];
    for (int l = 0; l < 8; l++) half[l] = (*lanes)[l] + (*lanes)[l + 8];
    for (int l = 0; l < 4; l++) half[l] += half[l + 4];
    return (half[0] + half[2]) + (half[1] + half[3]);
}

/* ---- registration.descend ---- */

#define MOST 96 /* pixels of a side */
#define VECTORS (MOST / LANES)

enum { COUNT, M, F, MM, FF, MF, SLOPES, SLOPE_X = SLOPES, SLOPE_Y = SLOPE_X + 9, SQUARES = SLOPE_Y + 9, SUMS = SQUARES + 18 };
/* SLOPE_X: the sums of the slope along x times 1, x and y (outer), each times 1, the moved and the fixed picture.
 * SQUARES: of the products xx, xy and yy of the slopes (outer), each times 1, x, y, xx, xy and yy. */

/* Solve (damped) A s = b for a symmetric positive definite 6 x 6 matrix; returns 0 if it is not. */
INLINE int solve(double a[6][6], double *b)
{
    for (int j = 0; j < 6; j++) {
        double pivot = a[j][j];
        for (int k = 0; k < j; k++) pivot -= a[j][k] * a[j][k];
        if (!(pivot > 0)) return 0;
        a[j][j] = sqrt(pivot);
        for (int i = j + 1; i < 6; i++) {
            double value = a[i][j];
            for (int k = 0; k < j; k++) value -= a[i][k] * a[j][k];
            a[i][j] = value / a[j][j];
        }
    }
    for (int i = 0; i < 6; i++) {
        for (int k = 0; k < i; k++) b[i] -= a[i][k] * b[k];
        b[i] /= a[i][i];
    }
    for (int i = 5; i >= 0; i--) {
        for (int k = i + 1; k < 6; k++) b[i] -= a[k][i] * b[k];
        b[i] /= a[i][i];
    }
    return 1;
}

/* Pictures are of side * side floats; maps are changed in place to the best ones, whose scores are written. */
EXPORT CLONES void embedonce_descend(const float *first, const float *second, const uint8_t *mirror, float *maps,
                                     float *scores, int64_t pairs, int32_t side, int32_t stride, int32_t steps,
                                     float overlap, float damping)
{
    Floats fixed[MOST * VECTORS], x[VECTORS], sums[SUMS];
    Ints used[VECTORS];
    const int n = (side + stride - 1) / stride, vectors = (n + LANES - 1) / LANES;
    const float centre = (side - 1) / 2.0f, last = side - 1, limit = last - 1e-3f;
    const Floats zero = {0};
    for (int v = 0; v < vectors; v++)
        for (int l = 0; l < LANES; l++) {
            const int inside = v * LANES + l < n;
            x[v][l] = inside ? (v * LANES + l) * stride - centre : 0;
            used[v][l] = inside ? -1 : 0;
        }
    for (int64_t pair = 0; pair < pairs; pair++) {
        const float *one = first + pair * side * side, *other = second + pair * side * side;
        for (int i = 0; i < n; i++) {
            float *line = (float *)(fixed + i * vectors);
            for (int j = 0; j < n; j++) line[j] = other[i * stride * side + j * stride];
            for (int j = n; j < vectors * LANES; j++) line[j] = 0;
        }
        float map[6], best = -1;
        memcpy(map, maps + 6 * pair, sizeof map);
        for (int step = 0; step <= steps; step++) {
            for (int k = 0; k < SUMS; k++) sums[k] = zero;
            for (int i = 0; i < n; i++) {
                const float y = mirror[pair] ? centre - i * stride : i * stride - centre;
                const float across = map[1] * y + (map[2] + centre), down = map[4] * y + (map[5] + centre);
                for (int v = 0; v < vectors; v++) {
                    Floats column = map[0] * x[v] + across, row = map[3] * x[v] + down;
                    const Ints in = used[v] & (column >= zero) & (column <= last) & (row >= zero) & (row <= last);
                    column = pick(column > zero, column, zero);
                    row = pick(row > zero, row, zero);
                    column = pick(column < limit, column, zero + limit);
                    row = pick(row < limit, row, zero + limit);
                    const Ints left = __builtin_convertvector(column, Ints), top = __builtin_convertvector(row, Ints);
                    column -= __builtin_convertvector(left, Floats);
                    row -= __builtin_convertvector(top, Floats);
                    const Ints place = top * side + left;
                    Floats upper, upper_right, lower, lower_right;
                    UNROLL for (int l = 0; l < LANES; l++) {
                        const float *from = one + place[l];
                        upper[l] = from[0], upper_right[l] = from[1];
                        lower[l] = from[side], lower_right[l] = from[side + 1];
                    }
                    const Floats along_upper = upper_right - upper, along_lower = lower_right - lower;
                    upper += along_upper * column;
                    lower += along_lower * column;
                    Floats slope_y = lower - upper, slope_x = along_upper + (along_lower - along_upper) * row;
                    const Floats weight = (Floats)(in & (Ints)(zero + 1.0f));
                    const Floats f = fixed[i * vectors + v] * weight, m = (upper + slope_y * row) * weight;
                    slope_x *= weight;
                    slope_y *= weight;
                    sums[COUNT] += weight, sums[M] += m, sums[F] += f;
                    sums[MM] += m * m, sums[FF] += f * f, sums[MF] += m * f;
                    if (step == steps) continue;
                    const Floats slopes[2] = {slope_x, slope_y};
                    UNROLL for (int s = 0; s < 2; s++) {
                        const Floats parts[3] = {slopes[s], slopes[s] * m, slopes[s] * f};
                        UNROLL for (int p = 0; p < 3; p++) {
                            Floats *to = sums + SLOPES + 9 * s + 3 * p;
                            to[0] += parts[p], to[1] += parts[p] * x[v], to[2] += parts[p] * y;
                        }
                    }
                    const Floats squares[3] = {slope_x * slope_x, slope_x * slope_y, slope_y * slope_y};
                    UNROLL for (int s = 0; s < 3; s++) {
                        Floats *to = sums + SQUARES + 6 * s;
                        const Floats times_x = squares[s] * x[v], times_y = squares[s] * y;
                        to[0] += squares[s], to[1] += times_x, to[2] += times_y;
                        to[3] += times_x * x[v], to[4] += times_x * y, to[5] += times_y * y;
                    }
                }
            }
            double total[SUMS];
            for (int k = 0; k < (step == steps ? SLOPES : SUMS); k++) total[k] = sum(sums + k);
            const double count = total[COUNT] > 1 ? total[COUNT] : 1;
            const double mean_m = total[M] / count, mean_f = total[F] / count;
            const double norm_m = sqrt(fmax(total[MM] - mean_m * total[M], 0));
            const double norm_f = sqrt(fmax(total[FF] - mean_f * total[F], 0)) + 1e-6;
            float score = (float)((total[MF] - mean_m * total[F]) / (norm_m * norm_f + 1e-6));
            if (count < overlap * n * n) score = -1;
            if (score > best) {
                best = score;
                memcpy(maps + 6 * pair, map, sizeof map);
            }
            if (step == steps) break;
            const double ratio = norm_m / norm_f;
            double curvature[6][6], move[6];
            static const int factor[3][3] = {{3, 4, 1}, {4, 5, 2}, {1, 2, 0}}; /* of x, y and 1, by x, y and 1 */
            static const int power[3] = {1, 2, 0};
            for (int i = 0; i < 6; i++) {
                const double *slope = total + SLOPES + 9 * (i / 3) + power[i % 3];
                move[i] = ratio * (slope[6] - mean_f * slope[0]) - (slope[3] - mean_m * slope[0]);
                for (int j = 0; j < 6; j++)
                    curvature[i][j] = total[SQUARES + 6 * (i / 3 + j / 3) + factor[i % 3][j % 3]];
                curvature[i][i] = curvature[i][i] * damping + 1e-2;
            }
            if (!solve(curvature, move)) break; /* only of sums that are not numbers: the map is lost */
            for (int k = 0; k < 6; k++) map[k] += (float)move[k];
        }
        scores[pair] = best;
    }
}

/* ---- log_polar.correlate ---- */

#define RINGS 20
#define ANGLES 64
#define WAVES (ANGLES / 2 + 1)
#define QUARTER (ANGLES / 4)
#define SIZE (2 * RINGS * WAVES)
#define ROOM (RINGS + LANES) /* of the rings of one wave, with zeros around them */

/* Numbers of half precision, 16 at least, in single precision. */
INLINE void widened(const uint16_t *halves, float *out, int size)
{
    for (int i = 0; i < size; i += LANES) {
        Ints half;
        const int from = i + LANES <= size ? i : size - LANES; /* the last ones twice */
        for (int l = 0; l < LANES; l++) half[l] = halves[from + l];
        const Ints sign = (half & 0x8000) << 16, value = (half & 0x7fff) << 13, least = (Ints){0} + (113 << 23);
        const Floats small = (Floats)(value + least) - (Floats)least, normal = (Floats)(value + (112 << 23));
        const Floats whole = (Floats)((Ints)pick(value < (1 << 23), small, normal) | sign);
        memcpy(out + from, &whole, sizeof whole);
    }
}

/* Compare one image with others by the first waves; zooms, 2 * zooms + 1 of them, are the lanes of all vectors. */
EXPORT CLONES void embedonce_correlate(const uint16_t *halves, const float *energies, int64_t row, const int64_t *rows,
                                       int64_t count, int32_t zooms, int32_t waves, float *scores,
                                       uint8_t *mirrors, int64_t *best_zooms, int64_t *shifts)
{
    float real[WAVES][ROOM] = {{0}}, imaginary[WAVES][ROOM] = {{0}}, other[SIZE], wave[ANGLES][2];
    float cosine[QUARTER + 1][WAVES], sine[QUARTER + 1][WAVES];
    Floats inside[RINGS], energy = {0};
    const Floats zero = {0};
    widened(halves + row * SIZE, other, SIZE);
    for (int k = 0; k < WAVES; k++)
        for (int r = 0; r < RINGS; r++) {
            real[k][zooms + r] = other[2 * (k * RINGS + r)];
            imaginary[k][zooms + r] = other[2 * (k * RINGS + r) + 1];
        }
    for (int r = 0; r < RINGS; r++)
        for (int l = 0; l < LANES; l++) {
            const int ring = r + l - zooms, in = l <= 2 * zooms && ring >= 0 && ring < RINGS;
            inside[r][l] = in;
            energy[l] += in ? energies[row * RINGS + ring] : 0;
        }
    for (int a = 0; a < ANGLES; a++) {
        const double angle = 2 * 3.14159265358979323846 * a / ANGLES;
        wave[a][0] = (float)cos(angle), wave[a][1] = (float)sin(angle);
    }
    for (int t = 0; t <= QUARTER; t++)
        for (int k = 0; k < WAVES; k++) {
            const float weight = (k == 0 || k == WAVES - 1 ? 1.0f : 2.0f) / ANGLES;
            cosine[t][k] = weight * wave[k * t % ANGLES][0], sine[t][k] = weight * wave[k * t % ANGLES][1];
        }
    for (int64_t index = 0; index < count; index++) {
        const float *its = energies + rows[index] * RINGS;
        Floats re[2][WAVES], im[2][WAVES], norm = zero;
        widened(halves + rows[index] * SIZE, other, 2 * RINGS * waves);
        for (int k = 0; k < waves; k++) {
            Floats rr = zero, ii = zero, ri = zero, ir = zero, x, y;
            UNROLL for (int r = 0; r < RINGS; r++) {
                const float a = other[2 * (k * RINGS + r)], b = other[2 * (k * RINGS + r) + 1];
                memcpy(&x, real[k] + r, sizeof x);
                memcpy(&y, imaginary[k] + r, sizeof y);
                rr += a * x, ii += b * y;
                ri += a * y, ir += b * x;
            }
            re[0][k] = rr + ii, im[0][k] = ri - ir;
            re[1][k] = rr - ii, im[1][k] = ri + ir;
        }
        for (int r = 0; r < RINGS; r++) norm += its[r] * inside[r];
        norm *= energy;
        for (int l = 0; l < LANES; l++) norm[l] = l <= 2 * zooms ? 1 / sqrtf(norm[l] > 1e-12f ? norm[l] : 1e-12f) : 0;
        Floats largest = zero - 2.0f;
        Ints place = {0};
        for (int m = 0; m < 2; m++)
            for (int t = 0; t <= QUARTER; t += waves <= QUARTER ? 2 : 1) { /* without short waves, every second angle */
                Floats even = zero, odd = zero, even_sine = zero, odd_sine = zero;
                if (waves == WAVES) even = cosine[t][WAVES - 1] * re[m][WAVES - 1];
                for (int k = 0; k < waves - 1; k += 2) {
                    even += cosine[t][k] * re[m][k], odd += cosine[t][k + 1] * re[m][k + 1];
                    even_sine += sine[t][k] * im[m][k], odd_sine += sine[t][k + 1] * im[m][k + 1];
                }
                const Floats sum = even + odd, sines = even_sine + odd_sine;
                const Floats difference = even - odd, other_sines = odd_sine - even_sine;
                const Floats values[4] = {sum - sines, difference - other_sines, difference + other_sines, sum + sines};
                const int angles[4] = {t, ANGLES / 2 - t, ANGLES / 2 + t, (ANGLES - t) % ANGLES};
                UNROLL for (int q = 0; q < 4; q++) {
                    const Floats value = values[q] * norm;
                    const Ints larger = value > largest;
                    largest = pick(larger, value, largest);
                    place = (larger & (m * ANGLES + angles[q])) | (~larger & place);
                }
            }
        int best = 0;
        for (int l = 1; l <= 2 * zooms; l++)
            if (largest[l] > largest[best]) best = l;
        scores[index] = largest[best];
        mirrors[index] = place[best] >= ANGLES;
        shifts[index] = place[best] % ANGLES;
        best_zooms[index] = best - zooms;
    }
}

/* ---- translation.shift_hypotheses ---- */

#define HALF 14 /* pixels of a side */
#define MAPS (2 * HALF - 1)
#define WIDE (2 * LANES)

typedef float Padded[HALF][HALF + WIDE]; /* with zeros on the left and on the right */

INLINE void pad(const float *picture, Padded out)
{
    memset(out, 0, sizeof(Padded));
    for (int y = 0; y < HALF; y++) memcpy(out[y] + HALF - 1, picture + y * HALF, sizeof(float) * HALF);
}

/* Sum one[p] * other[p + shift] over all p, for shifts by up to `reach` pixels; one vector holds few shifts. */
INLINE void correlation(const float *one, Padded other, int reach, float out[MAPS][WIDE])
{
    const int narrow = 2 * reach < LANES, from = narrow ? HALF - 1 - reach : 0;
    for (int down = -reach; down <= reach; down++) {
        Floats sums[2][4] = {{{0}}};
        const int first = down < 0 ? -down : 0, end = down < 0 ? HALF : HALF - down;
        for (int y = first; y < end; y++) {
            const float *line = other[y + down] + from;
            UNROLL for (int x = 0; x < HALF; x++) {
                Floats left, right;
                memcpy(&left, line + x, sizeof left);
                sums[0][x % 4] += one[y * HALF + x] * left;
                if (narrow) continue;
                memcpy(&right, line + x + LANES, sizeof right);
                sums[1][x % 4] += one[y * HALF + x] * right;
            }
        }
        const Floats left = (sums[0][0] + sums[0][1]) + (sums[0][2] + sums[0][3]);
        const Floats right = (sums[1][0] + sums[1][1]) + (sums[1][2] + sums[1][3]);
        memcpy(out[down + HALF - 1] + from, &left, sizeof left);
        if (!narrow) memcpy(out[down + HALF - 1] + LANES, &right, sizeof right);
    }
}

/* Find the best shift of each pair in 3 zooms and 8 positions. Pictures are given in both sizes, (pairs, 2, 14 * 14);
 * masks of both sizes; allowed shifts of the zooms, (3, 27 * 27). Scores: (24, pairs), shifts: (24, pairs, 2). */
EXPORT CLONES void embedonce_shift(const float *ones, const float *others, const float *masks, const uint8_t *allowed,
                                   int64_t pairs, float *scores, float *shifts)
{
    static const int sizes[3][2] = {{0, 0}, {0, 1}, {1, 0}};
    Padded padded_masks[2], padded;
    float product[MAPS][WIDE], energy[3][2][MAPS][WIDE], square[HALF * HALF], moved[HALF * HALF];
    int16_t from[8][HALF * HALF], turned[8][MAPS * WIDE], shift[3][MAPS * MAPS];
    int number[3] = {0}, reach[3] = {0}; /* of the allowed shifts of each zoom, and the largest of them */
    for (int s = 0; s < 2; s++) pad(masks + s * HALF * HALF, padded_masks[s]);
    for (int z = 0; z < 3; z++)
        for (int p = 0; p < MAPS * MAPS; p++) {
            const int v = abs(p / MAPS - HALF + 1), u = abs(p % MAPS - HALF + 1), larger = v > u ? v : u;
            if (!allowed[z * MAPS * MAPS + p]) continue;
            if (larger > reach[z]) reach[z] = larger;
            shift[z][number[z]++] = (int16_t)(p / MAPS * WIDE + p % MAPS);
        }
    for (int position = 0; position < 8; position++) { /* where a pixel, and the energy of a shift, come from */
        const int turns = position % 4, mirror = position / 4 ? -1 : 1;
        const int sine = (turns == 1) - (turns == 3), cosine = (turns == 0) - (turns == 2);
        for (int y = 0; y < MAPS; y++)
            for (int x = 0; x < MAPS; x++) {
                const int v = y - HALF + 1, u = x - HALF + 1;
                const int down = mirror * (cosine * v - sine * u), across = sine * v + cosine * u;
                turned[position][y * WIDE + x] = (int16_t)((down + HALF - 1) * WIDE + across + HALF - 1);
            }
        for (int y = 0; y < HALF; y++)
            for (int x = 0; x < HALF; x++) {
                const int v = 2 * y - HALF + 1, u = 2 * x - HALF + 1; /* twice the distance from the middle */
                const int down = mirror * (cosine * v - sine * u), across = sine * v + cosine * u;
                from[position][y * HALF + x] = (int16_t)((down + HALF - 1) / 2 * HALF + (across + HALF - 1) / 2);
            }
    }
    for (int64_t pair = 0; pair < pairs; pair++) {
        const float *one = ones + pair * 2 * HALF * HALF, *other = others + pair * 2 * HALF * HALF;
        for (int z = 0; z < 3; z++) {
            const float *pictures[2] = {one + sizes[z][0] * HALF * HALF, other + sizes[z][1] * HALF * HALF};
            for (int p = 0; p < HALF * HALF; p++) square[p] = pictures[0][p] * pictures[0][p];
            correlation(square, padded_masks[sizes[z][1]], reach[z], energy[z][0]);
            for (int p = 0; p < HALF * HALF; p++) square[p] = pictures[1][p] * pictures[1][p];
            pad(square, padded);
            correlation(masks + sizes[z][0] * HALF * HALF, padded, reach[z], energy[z][1]);
        }
        for (int position = 0; position < 8; position++)
            for (int size = 0; size < 2; size++) {
                for (int p = 0; p < HALF * HALF; p++) moved[p] = other[size * HALF * HALF + from[position][p]];
                pad(moved, padded);
                for (int z = 0; z < 3; z++) {
                    if (sizes[z][1] != size) continue;
                    correlation(one + sizes[z][0] * HALF * HALF, padded, reach[z], product);
                    const float *values = product[0], *its = energy[z][0][0], *other_energy = energy[z][1][0];
                    float best = -2;
                    int place = 0;
                    for (int i = 0; i < number[z]; i++) {
                        const int p = shift[z][i];
                        float norm = its[p] * other_energy[turned[position][p]];
                        norm = norm > 1e-6f ? norm : 1e-6f;
                        if (best > 0 && (values[p] <= 0 || values[p] * values[p] <= best * best * norm)) continue;
                        const float score = values[p] / sqrtf(norm);
                        if (score > best) best = score, place = p;
                    }
                    const int64_t at = (z * 8 + position) * pairs + pair;
                    scores[at] = best;
                    shifts[2 * at] = place % WIDE - (HALF - 1);
                    shifts[2 * at + 1] = place / WIDE - (HALF - 1);
                }
            }
    }
}

#endif

/* Python builds, installs and finds the library as a module; kernels.py calls the functions through ctypes. */
static struct PyModuleDef definition = {PyModuleDef_HEAD_INIT, .m_name = "_kernels", .m_size = 0};

PyMODINIT_FUNC PyInit__kernels(void) { return PyModule_Create(&definition); }
