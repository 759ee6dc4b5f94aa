"""Doubtful pairs, verified on the images."""

from __future__ import annotations

import numpy as np
import photographs
import pytest
from embedonce.errors import ImageError
from embedonce.evaluate.duplicates import gray_images as pictures_module
from embedonce.evaluate.duplicates import pair_tests
from embedonce.evaluate.duplicates.gray_images import PICTURE_SIDE, Pictures
from embedonce.evaluate.duplicates.neighbors import nearest_neighbors
from embedonce.evaluate.duplicates.registration import Registration
from embedonce.evaluate.duplicates.search import NEIGHBORS, find_duplicates
from embedonce.evaluate.duplicates.verification import verify
from embedonce.extract.image_signature import signature
from textures import Rows, features_of

TILES = photographs.tiles()
SIDE = PICTURE_SIDE


def in_place(count):
    """Return the maps of pairs that lie over each other as they are."""
    affine = np.tile(np.array([1, 0, 0, 0, 1, 0], np.float32), (count, 1))
    return Registration(np.full(count, 0.7, np.float32), np.zeros(count, bool), affine)


def pictures_of(images):
    return Pictures(lambda row: np.ascontiguousarray(images[row]))


def agreement(first, second):
    return verify(pictures_of([first, second]), np.array([0]), np.array([1]), in_place(1))[0]


def gray(luma):
    return np.repeat(np.asarray(luma).round().clip(0, 255).astype(np.uint8)[..., None], 3, axis=2)


def test_recompressed_darkened_and_resized_tiles_agree():
    for number, tile in enumerate(TILES):
        *_, recompressed, darker = photographs.variants(tile, number)
        assert agreement(tile, recompressed) > 0.6
        assert agreement(tile, darker) > 0.9
        assert agreement(tile, np.kron(tile, np.ones((2, 2, 1), np.uint8))) > 0.9


def test_other_tiles_do_not_agree():
    count = len(TILES)
    first, second = np.triu_indices(count, 1)
    assert verify(pictures_of(TILES), first, second, in_place(len(first))).max() < 0.6


def test_a_map_that_is_a_little_wrong_is_refined():
    rows = np.arange(len(TILES))
    registered = in_place(len(TILES))
    registered.affine[:, 2] += 0.5  # of 28 pixels
    registered.affine[:, 1] += 0.02
    assert verify(pictures_of(TILES), rows, rows, registered).min() > 0.85


def test_structure_that_repeats_itself_is_ambiguous():
    x, y = np.meshgrid(np.arange(SIDE), np.arange(SIDE))
    lattice = gray(128 + 50 * np.sin(2 * np.pi * x / 12) * np.sin(2 * np.pi * y / 12))
    assert agreement(lattice, lattice) == -1
    assert agreement(TILES[-1], TILES[-1]) > 0.9


def test_a_spot_before_a_flat_ground_is_too_little():
    x, y = np.meshgrid(np.arange(SIDE) - 40, np.arange(SIDE) - 50)
    round_spot, long_spot = (gray(80 + 100 * np.exp(-(x**2 + y**2 / by) / 30)) for by in (1, 1.5))
    assert agreement(round_spot, long_spot) == -1


def test_flat_images_do_not_agree():
    assert agreement(gray(np.full((SIDE, SIDE), 90)), gray(np.full((SIDE, SIDE), 90))) < 0.1


def test_an_image_that_cannot_be_read_gives_no_answer():
    def read(row):
        if row == 1:
            raise ImageError("is gone")
        return TILES[row]

    answers = verify(Pictures(read), np.array([0, 0, 1]), np.array([0, 1, 2]), in_place(3))
    assert np.isnan(answers).tolist() == [False, True, True]


def test_pictures_are_read_once_and_the_oldest_are_forgotten(monkeypatch):
    monkeypatch.setattr(pictures_module, "_CACHED", 2)
    read = []
    pictures = Pictures(lambda row: read.append(row) or TILES[row])
    for row in (0, 1, 0, 2, 0, 1):
        shown, there = pictures.rows(np.array([row]))
        assert shown.shape == (1, SIDE, SIDE)
        assert there.all()
    assert read == [0, 1, 2, 1]


@pytest.fixture(scope="module")
def copied():
    """Tiles with five copies each: images, signatures, originals, and features of a mediocre backbone."""
    images = [image for number, tile in enumerate(TILES) for image in (tile, *photographs.variants(tile, number))]
    signatures = np.stack([signature(np.ascontiguousarray(image)) for image in images])
    original = np.repeat(np.arange(len(TILES)), 1 + len(photographs.KINDS))
    return images, signatures, original, features_of(original, noise=2)


def find(signatures, features, pictures):
    count = len(signatures)
    hashes = np.random.default_rng(0).integers(0, 256, (count, 32), np.uint8)
    neighbors = nearest_neighbors(Rows(features), NEIGHBORS)
    return find_duplicates(signatures, neighbors, hashes, np.zeros(count, np.int32), pictures=pictures)


def test_photographs_are_grouped_by_their_images(copied):
    images, signatures, original, features = copied
    found = find(signatures, features, pictures_of(images))
    by_signature = find(signatures, features, None)
    for group in np.unique(found.groups):
        assert len(set(original[found.groups == group])) == 1
    step = 1 + len(photographs.KINDS)
    first = found.groups[::step]
    recall = {kind: np.mean(found.groups[place::step] == first) for place, kind in enumerate(photographs.KINDS, 1)}
    assert min(recall.values()) > 0.8, recall
    assert len(found.verified.first)
    assert (found.verified.score >= found.thresholds.images).all()
    assert (found.rejected.score < found.thresholds.images).all()
    assert (original[found.verified.first] == original[found.verified.second]).all()
    assert np.isnan(by_signature.thresholds.images)
    assert not len(by_signature.verified.first)
    assert by_signature.thresholds.centred >= found.thresholds.centred


def test_tiles_of_one_photograph_are_not_grouped():
    signatures = np.stack([signature(np.ascontiguousarray(tile)) for tile in TILES])
    found = find(signatures, features_of(np.zeros(len(TILES), int)), pictures_of(TILES))
    assert len(np.unique(found.groups)) == len(TILES)
    assert len(found.rejected.first)


def test_no_image_is_opened_unless_a_pair_is_in_doubt():
    signatures = np.random.default_rng(0).integers(0, 256, (60, 784)).astype(np.uint8)
    opened = []
    found = find(signatures, features_of(np.zeros(60, int)), Pictures(opened.append))
    assert found.tested > 100
    assert opened == []
    assert found.thresholds.images == 0.75


def test_no_pair_is_compared_twice_on_its_images(copied, monkeypatch):
    images, signatures, _, features = copied
    seen = []

    def spy(pictures, first, second, registered):
        seen.extend(zip(first.tolist(), second.tolist(), registered.affine.ravel()[::6].tolist(), strict=True))
        return verify(pictures, first, second, registered)

    monkeypatch.setattr(pair_tests, "verify", spy)
    find(signatures, features, pictures_of(images))
    assert len(seen) == len(set(seen)) > 100


@pytest.mark.parametrize(("agreement", "compared"), [(0.3, 100), (0.6, 400)])
def test_more_unrelated_pairs_are_compared_if_they_agree_well(monkeypatch, agreement, compared):
    tests = pair_tests.PairTests(None, None, None, None)
    monkeypatch.setattr(tests, "verify", lambda first, second, registered: scores[: len(first)])
    scores = np.random.default_rng(0).normal(agreement, 0.05, 400).astype(np.float32)
    limit = tests._null_limit(np.arange(400), np.arange(400), in_place(400))
    assert limit == pair_tests.null_limit(scores[:compared])
    assert (limit > pair_tests.MINIMUM_SCORE) == (compared == 400)


def test_where_images_cannot_be_read_signatures_decide(copied):
    _, signatures, _, features = copied

    def gone(row):
        raise ImageError("is gone")

    without, blind = find(signatures, features, None), find(signatures, features, Pictures(gone))
    np.testing.assert_array_equal(without.groups, blind.groups)
