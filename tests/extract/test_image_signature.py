"""The signature that is other while an image is decoded."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from embedonce.cache.format import SIGNATURE_BYTES
from embedonce.extract.decoding import decode
from embedonce.extract.image_signature import SIGNATURE_SIZE, signature
from embedonce.extract.resizing import resize
from embedonce.extract.run import extract_features
from hypothesis import given, settings
from hypothesis import strategies as st

WEIGHTS = np.array([0.299, 0.587, 0.114])


def slowly(image):
    """Return the luma of 28 x 28 areas before it is rounded, as FORMAT.md defines it."""
    borders = [int(np.floor(number * len(image) / 28 + 0.5)) for number in range(29)]
    means = [
        [image[top:bottom, left:right].mean((0, 1), dtype=np.float64) for left, right in pairwise(borders)]
        for top, bottom in pairwise(borders)
    ]
    return (np.array(means) @ WEIGHTS).reshape(-1)


def assert_rounded(luma, exact):
    assert luma.dtype == np.uint8
    assert luma.shape == (SIGNATURE_BYTES,) == (SIGNATURE_SIZE**2,)
    assert np.abs(luma - exact).max() <= 0.5 + 1e-4  # float32 sums of fractions; which way halves go is open


@given(size=st.one_of(st.integers(28, 120), st.sampled_from([160, 224, 299])), seed=st.integers(0, 99))
@settings(max_examples=60)
def test_it_is_the_luma_of_the_means_of_areas(size, seed):
    generator = np.random.default_rng(seed)
    scale = generator.uniform(0, 1, (1, 1, 3)) if seed % 2 else 1.0
    image = (generator.uniform(0, 255, (size, size, 3)) * scale).astype(np.float32)
    assert_rounded(signature(image), slowly(image))
    whole = image.astype(np.uint8)
    assert_rounded(signature(whole), slowly(whole))
    assert (signature(whole) == signature(whole.astype(np.float32))).all()


@pytest.mark.parametrize("size", [32, 56, 224, 250])
def test_a_plain_image_has_its_own_luma_everywhere(size):
    for colour, luma in (
        ((0, 0, 0), 0),
        ((255, 255, 255), 255),
        ((255, 0, 0), 76),
        ((0, 255, 0), 150),
        ((0, 0, 255), 29),
    ):
        assert (signature(np.full((size, size, 3), colour, np.uint8)) == luma).all()


def test_of_224_pixels_each_area_is_a_block_of_8_by_8():
    image = np.zeros((224, 224, 3), np.float32)
    image[16:24, 40:48] = 255
    found = signature(image).reshape(28, 28)
    assert found[2, 5] == 255
    assert found.sum() == 255


def test_both_ways_of_adding_rows_give_the_same_bytes():
    """Sizes that 28 divides are added in one call, others run by run."""
    image = np.random.default_rng(0).uniform(0, 255, (224, 224, 3)).astype(np.float32)
    lines = image.reshape(224, -1)
    one_by_one = np.stack([np.add.reduce(lines[start : start + 8], axis=0) for start in range(0, 224, 8)])
    np.testing.assert_array_equal(lines.reshape(28, 8, -1).sum(axis=1), one_by_one)


def test_signatures_do_not_depend_on_the_number_of_workers(images, tmp_path, small, cache):
    for row in (0, 1, 2, 3, 40):
        pixels = decode((images / cache.paths[row]).read_bytes())
        assert_rounded(cache.signatures[row], slowly(resize(pixels, small["image_size"])))
    for workers in (1, 3):
        other = extract_features(images, tmp_path / f"{workers}.h5", workers=workers, **small)
        np.testing.assert_array_equal(other.signatures, cache.signatures)
