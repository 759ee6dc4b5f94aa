"""Measure what products in bfloat16 would give the native engine, and what they would cost.

    python benchmarks/bfloat16.py IMAGES --weights FILE [--alpha 1.0] [--count 15]

Two tables:

- the rate of multiply-adds in float32 (AVX-512), bfloat16 (AVX512-BF16) and bfloat16 tiles (AMX), one thread, operands
  in the first-level cache, the best of 40 rounds. This needs gcc, Linux and a processor that has all three;
- the largest difference of features from float32, computed with NumPy, when the inputs of all products are rounded to
  bfloat16 and sums stay float32: both inputs, activations alone, both except in the first four blocks, and each number
  as the sum of two of bfloat16, which takes three products.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
from embedonce.extract.backbone import BLOCKS, block_prefix, weights_from
from embedonce.extract.decoding import decode
from embedonce.extract.engines import reference
from embedonce.extract.engines.fold import Folded, fold
from embedonce.extract.recipe import make_recipe
from embedonce.extract.resizing import resize_into
from embedonce.extract.scan import scan_folder
from processes import extraction_parser

Array = npt.NDArray[np.float32]
Product = Callable[[Array, Array, int], Array]  # of activations and weights in a block

RATES = r"""
#include <immintrin.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
#define N 200000
#define TILE(NAME, TARGET, VECTOR, ZERO, LOAD, BROADCAST, ADD, PER)                                                    \
    __attribute__((target(TARGET))) static double NAME(float *b)                                                       \
    {                                                                                                                  \
        __m512 s[28];                                                                                                  \
        for (int i = 0; i < 28; i++) s[i] = ZERO;                                                                      \
        double t = now();                                                                                              \
        for (int n = 0; n < N; n++) {                                                                                  \
            VECTOR v = LOAD(b + 32 * (n & 31)), w = LOAD(b + 16 + 32 * (n & 31));                                      \
            _Pragma("GCC unroll 14") for (int i = 0; i < 14; i++) {                                                    \
                VECTOR x = BROADCAST(b + 1024 + 32 * i + (n & 31));                                                    \
                s[2 * i] = ADD(s[2 * i], x, v), s[2 * i + 1] = ADD(s[2 * i + 1], x, w);                                \
            }                                                                                                          \
        }                                                                                                              \
        t = now() - t;                                                                                                 \
        for (int i = 1; i < 28; i++) s[0] = _mm512_add_ps(s[0], s[i]);                                                 \
        _mm512_store_ps(b + 4096, s[0]);                                                                               \
        return 2.0 * N * 28 * PER / t / 1e9;                                                                           \
    }
#define FMA(sum, x, w) _mm512_fmadd_ps(x, w, sum)
#define ONES(p) _mm512_set1_ps(*(p))
#define LOAD_PAIRS(p) (__m512bh) _mm512_load_si512(p)
#define ONE_PAIR(p) (__m512bh) _mm512_set1_epi32(*(int *)(p))
static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return t.tv_sec + 1e-9 * t.tv_nsec;
}
TILE(float32, "avx512f", __m512, _mm512_setzero_ps(), _mm512_load_ps, ONES, FMA, 16)
TILE(dots, "avx512f,avx512bf16", __m512bh, _mm512_setzero_ps(), LOAD_PAIRS, ONE_PAIR, _mm512_dpbf16_ps, 32)
__attribute__((target("amx-tile,amx-bf16"))) static double tiles(float *b)
{
    struct __attribute__((packed)) {
        uint8_t palette, start, rest[14];
        uint16_t columns[16];
        uint8_t rows[16];
    } c = {1};
    if (syscall(SYS_arch_prctl, 0x1023, 18)) return 0; /* permission of the system */
    for (int i = 0; i < 8; i++) c.columns[i] = 64, c.rows[i] = 16;
    _tile_loadconfig(&c);
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    double t = now();
    for (int n = 0; n < N / 8; n++) {
        float *at = b + 256 * (n & 3);
        _tile_loadd(4, at, 64);
        _tile_loadd(5, at + 1024, 64);
        _tile_loadd(6, at + 2048, 64);
        _tile_loadd(7, at + 3072, 64);
        _tile_dpbf16ps(0, 4, 6);
        _tile_dpbf16ps(1, 4, 7);
        _tile_dpbf16ps(2, 5, 6);
        _tile_dpbf16ps(3, 5, 7);
    }
    t = now() - t;
    _tile_stored(0, b + 4096, 64);
    _tile_release();
    return 2.0 * (N / 8) * 4 * 16 * 16 * 32 / t / 1e9;
}
int main(void)
{
    static float b[8192] __attribute__((aligned(64)));
    double best[3] = {0};
    for (int round = 0; round < 40; round++) {
        double rates[3] = {float32(b), dots(b), tiles(b)};
        for (int i = 0; i < 3; i++) best[i] = rates[i] > best[i] ? rates[i] : best[i];
    }
    printf("%.0f %.0f %.0f", best[0], best[1], best[2]);
}
"""


def print_rates() -> None:
    """Compile and run the loops, and print GFLOP/s."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "rates.c").write_text(RATES)
        subprocess.run(["gcc", "-O3", "rates.c", "-o", "rates"], cwd=folder, check=True)
        done = subprocess.run([f"{folder}/rates"], stdout=subprocess.PIPE, text=True, check=True)
    rates = [float(rate) for rate in done.stdout.split()]
    for name, rate in zip(("float32", "AVX512-BF16", "AMX"), rates, strict=True):
        print(f"{name:12} {rate:6.0f} GFLOP/s {rate / rates[0]:6.2f}")


def rounded(values: Array) -> Array:
    """Return the nearest numbers of bfloat16."""
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
    return ((bits + 0x7FFF + (bits >> 16 & 1)) & np.uint32(0xFFFF0000)).view(np.float32)


def in_halves(maps: Array, weights: Array, block: int) -> Array:
    """Return a product of numbers that are sums of two of bfloat16."""
    high, weights_high = rounded(maps), rounded(weights)
    low, weights_low = rounded(maps - high), rounded(weights - weights_high)
    return high @ weights_high + (high @ weights_low + low @ weights_high)


PRODUCTS: dict[str, Product] = {
    "both inputs": lambda maps, weights, block: rounded(maps) @ rounded(weights),
    "activations alone": lambda maps, weights, block: rounded(maps) @ weights,
    "both, from the fifth block": lambda maps, weights, block: (
        maps @ weights if block < 4 else rounded(maps) @ rounded(weights)
    ),
    "three products of halves": in_halves,
}


def features(folded: Folded, image: Array, product: Product) -> Array:
    """Embed an image (s, s, 3), 0 to 255, as `reference_features` does, with another product."""

    def convolution(name: str, maps: Array, block: int) -> Array:
        kernel = folded[f"{name}.kernel"]
        return product(maps, kernel.reshape(-1, kernel.shape[-1]), block) + folded[f"{name}.bias"]

    maps = image * np.float32(1 / 127.5) - np.float32(1)
    maps = reference._relu6(convolution("Conv1", np.concatenate(reference._taps(maps, 2), axis=-1), 0))
    for block, (_, stride) in enumerate(BLOCKS):
        before, prefix = maps, block_prefix(block)
        if block:
            maps = reference._relu6(convolution(f"{prefix}expand", maps, block))
        rows = folded[f"{prefix}depthwise.kernel"].reshape(9, -1)
        taps = zip(reference._taps(maps, stride), rows, strict=True)
        maps = reference._relu6(sum((tap * row for tap, row in taps), start=folded[f"{prefix}depthwise.bias"]))
        maps = convolution(f"{prefix}project", maps, block)
        if stride == 1 and maps.shape == before.shape:
            maps = maps + before
    pooled: Array = reference._relu6(convolution("Conv_1", maps, len(BLOCKS))).mean(axis=(0, 1))
    return pooled


def main() -> None:
    """Print both tables."""
    parser = extraction_parser(__doc__)
    parser.add_argument("--count", type=int, default=15, help="images")
    options = parser.parse_args()
    print_rates()
    folded = fold(weights_from(make_recipe(options.weights, options.alpha, 224).weights, options.alpha))
    files = scan_folder(options.images).images
    differences: dict[str, list[float]] = {name: [] for name in PRODUCTS}
    for file in files[:: max(1, len(files) // options.count)][: options.count]:
        image = np.empty((224, 224, 3), np.float32)
        resize_into(image, decode((options.images / os.fsdecode(file.path)).read_bytes()))
        expected = features(folded, image, lambda maps, weights, block: maps @ weights)
        for name, product in PRODUCTS.items():
            differences[name].append(float(np.abs(features(folded, image, product) - expected).max()))
    for name, values in differences.items():
        print(f"{name:28} difference: median {np.median(values):.4f}, largest {max(values):.4f}")


if __name__ == "__main__":
    main()
