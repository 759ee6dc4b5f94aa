from __future__ import annotations

import numpy as np
import pytest
from embedonce.evaluate.duplicates import search as duplicates
from embedonce.evaluate.duplicates.neighbors import nearest_neighbors
from embedonce.evaluate.duplicates.pair_tests import Thresholds
from embedonce.evaluate.duplicates.pairs import Pairs
from embedonce.evaluate.duplicates.registration import Registration
from embedonce.evaluate.duplicates.search import _Search, find_duplicates
from embedonce.evaluate.duplicates.thumbnails import PIXELS, Thumbnails
from scipy import sparse
from scipy.sparse.csgraph import connected_components
from textures import Rows, crop, features_of, texture, thumbnail, variants, view

ORIGINALS = 24


def find(signatures, features=None, hashes=None, labels=None, **further):
    count = len(signatures)
    features = features_of(np.arange(count)) if features is None else features
    hashes = different(count) if hashes is None else hashes
    labels = np.zeros(count, np.int32) if labels is None else labels
    neighbors = nearest_neighbors(Rows(features), duplicates.NEIGHBORS)
    return find_duplicates(signatures, neighbors, hashes, labels, **further)


def different(count, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (count, 32), np.uint8)


def partition(groups):
    """Return groups as sets of rows, without their numbers."""
    return {frozenset(np.flatnonzero(groups == group).tolist()) for group in np.unique(groups)}


def components(links, count):
    graph = sparse.coo_array((np.ones(len(links.first)), (links.first, links.second)), shape=(count, count))
    return connected_components(graph, directed=False)[1]


def fraction_grouped(groups):
    sizes = np.bincount(groups)[groups]
    return (sizes > 1).mean()


def as_signatures(pictures):
    return np.stack([thumbnail(picture) for picture in pictures])


def flips(picture):
    """Return exact near-duplicates, for tests of anything but registration."""
    return [picture, picture[:, ::-1], np.rot90(picture), picture * 0.8]


@pytest.fixture(scope="module")
def exact():
    """Signatures and originals of 24 pictures in four versions each."""
    signatures = as_signatures([flip for number in range(ORIGINALS) for flip in flips(texture(number))])
    return signatures, np.repeat(np.arange(ORIGINALS), 4)


@pytest.fixture(scope="module")
def augmented():
    """Signatures and originals of 24 pictures with eight near-duplicates each."""
    pictures = [[texture(number), *variants(texture(number), number)] for number in range(ORIGINALS)]
    return as_signatures([variant for part in pictures for variant in part]), np.repeat(np.arange(ORIGINALS), 9)


@pytest.fixture(scope="module")
def found_exact(exact):
    return find(exact[0], features_of(exact[1]))


@pytest.fixture(scope="module")
def found_augmented(augmented):
    return find(augmented[0], features_of(augmented[1]))


def test_near_duplicates_are_grouped_and_nothing_else(exact, found_exact):
    original, found = exact[1], found_exact
    assert partition(found.groups) == partition(original)
    np.testing.assert_array_equal(found.groups, original)  # numbered by first member
    assert found.flat == 0


def test_augmented_originals_are_never_joined(augmented, found_augmented):
    original = augmented[1]
    for rows in partition(found_augmented.groups):
        assert len(set(original[list(rows)])) == 1


def test_every_augmented_variant_is_found(augmented, found_augmented):
    assert partition(found_augmented.groups) == partition(augmented[1])


def test_links_connect_groups_and_exceed_the_threshold(exact, found_exact):
    (signatures, original), found = exact, found_exact
    assert (found.links.score >= min(found.thresholds.centred, found.thresholds.shifted)).all()
    assert (original[found.links.first] == original[found.links.second]).all()
    assert partition(components(found.links, len(signatures))) == partition(original)
    for pair in found.doubtful:
        assert abs(pair.score - pair.limit) < duplicates.DOUBT
        assert pair.accepted == (pair.score >= pair.limit)
        assert not pair.on_images


def test_unrelated_pictures_are_not_grouped():
    # as candidates for each other, in small clusters of the features, as in a data set of one tissue
    found = find(as_signatures([texture(5000 + number) for number in range(60)]), features_of(np.arange(60) // 6))
    assert len(np.unique(found.groups)) == 60
    assert found.tested > 60


@pytest.fixture(scope="module")
def digits():
    """Handwritten digits as pictures: signatures, features and labels."""
    from sklearn.datasets import load_digits

    pixels, labels = (part[:240] for part in load_digits(return_X_y=True))
    large = np.kron(pixels.reshape(-1, 8, 8), np.ones((4, 4)))[:, 2:30, 2:30] * 15.9
    return large.round().astype(np.uint8).reshape(-1, PIXELS), pixels.astype(np.float32), labels


@pytest.mark.slow
@pytest.mark.parametrize("classes", [10, 1])
def test_plain_pictures_are_almost_never_grouped(digits, classes):
    signatures, features, labels = digits
    assert fraction_grouped(find(signatures, features, labels=labels % classes).groups) < 0.01


def test_flat_pictures_are_never_grouped():
    levels = np.random.default_rng(0).integers(0, 256, (40, 1))
    signatures = np.repeat(levels, PIXELS, 1).astype(np.uint8)
    found = find(signatures, np.ones((40, 8)))
    assert len(np.unique(found.groups)) == found.flat == 40
    assert found.tested == 0


def test_pictures_with_a_little_noise_are_flat():
    noise = np.random.default_rng(0).integers(0, 3, (30, PIXELS)).astype(np.uint8) + 120
    found = find(noise, np.ones((30, 8)))
    assert found.flat == 30
    assert len(np.unique(found.groups)) == 30


def test_identical_files_are_grouped_even_if_flat():
    signatures = np.concatenate([np.full((3, PIXELS), 9, np.uint8), as_signatures([texture(n) for n in range(3)])])
    hashes = different(6)
    hashes[4] = hashes[1] = hashes[0]
    found = find(signatures, hashes=hashes)
    assert partition(found.groups) == {frozenset({0, 1, 4}), frozenset({2}), frozenset({3}), frozenset({5})}
    assert found.links.score.tolist() == [1, 1]


def test_within_class_keeps_classes_apart(exact):
    signatures, original = (part[: 4 * 6] for part in exact)
    labels = np.tile([0, 0, 1, 1], 6).astype(np.int32)
    across = find(signatures, features_of(original), labels=labels)
    within = find(signatures, features_of(original), labels=labels, within_class=True)
    assert partition(across.groups) == partition(original)
    assert partition(within.groups) == partition(original * 2 + labels)


def test_within_class_separates_identical_files():
    signatures = as_signatures([texture(0)] * 4)
    hashes = np.zeros((4, 32), np.uint8)
    labels = np.array([0, 1, 0, 1], np.int32)
    assert partition(find(signatures, hashes=hashes, labels=labels).groups) == {frozenset(range(4))}
    within = find(signatures, hashes=hashes, labels=labels, within_class=True)
    assert partition(within.groups) == {frozenset({0, 2}), frozenset({1, 3})}


def test_the_order_of_the_rows_does_not_matter(exact):
    signatures, original = (part[: 4 * 8] for part in exact)
    order = np.random.default_rng(0).permutation(len(signatures))
    features = features_of(original)
    assert partition(find(signatures[order], features[order]).groups) == partition(original[order])


def test_the_number_of_threads_does_not_matter(monkeypatch, augmented):
    signatures, features = augmented[0][: 9 * 8], features_of(augmented[1][: 9 * 8], noise=2)
    results = []
    for threads in (1, 3):
        monkeypatch.setattr(duplicates, "cpu_count", lambda threads=threads: threads)
        results.append(find(signatures, features))
    one, other = results
    np.testing.assert_array_equal(one.groups, other.groups)
    np.testing.assert_array_equal(one.links.first, other.links.first)
    np.testing.assert_array_equal(one.links.second, other.links.second)
    assert one.tested == other.tested


def test_a_chain_of_zooms_is_one_group():
    # each is a near-duplicate of the next; the ends overlap only in a part
    zooms = 1.15 ** np.arange(6)
    chain = [view(texture(1), zoom=zoom) for zoom in zooms]
    others = [texture(5000 + number) for number in range(20)]
    found = find(as_signatures([*chain, *others]), features_of(np.array([0] * 6 + list(range(1, 21)))))
    assert partition(found.groups) == {frozenset(range(6)), *(frozenset({row}) for row in range(6, 26))}


def test_a_near_crop_joins_its_original():
    pictures = [texture(number) for number in range(20)]
    features = features_of(np.array([*range(20), *range(10)]))
    found = find(as_signatures([*pictures, *(crop(picture, 0.9, (0, 1)) for picture in pictures[:10])]), features)
    assert partition(found.groups) == {
        *(frozenset({number, 20 + number}) for number in range(10)),
        *(frozenset({number}) for number in range(10, 20)),
    }


@pytest.mark.parametrize("count", [0, 1])
def test_no_image_or_one_has_no_pairs(count):
    found = find(as_signatures([texture(0)])[:count], np.ones((count, 4)))
    assert found.groups.tolist() == list(range(count))
    assert found.tested == 0


@pytest.mark.parametrize(("second", "groups"), [(lambda p: p[:, ::-1], [0, 0]), (lambda p: texture(2), [0, 1])])
def test_two_images_are_enough(second, groups):
    signatures = as_signatures([texture(1), second(texture(1))])
    assert find(signatures, np.eye(2)).groups.tolist() == groups


def test_progress_counts_every_row_once(exact):
    signatures = exact[0][:24]
    counted = {}
    find(signatures, advance=lambda what, count: counted.update({what: counted.get(what, 0) + count}))
    assert counted["comparing"] == len(signatures)


def test_bands_of_flat_thumbnails_are_zero():
    signatures = np.stack([np.full(PIXELS, 200, np.uint8), thumbnail(texture(0))])
    thumbnails = Thumbnails(signatures)
    bands = thumbnails.bands(np.arange(2))
    assert not bands[0].any()
    assert bands[1].std() == pytest.approx(1, abs=1e-5)
    assert thumbnails.textured().tolist() == [False, True]


@pytest.mark.parametrize(("agreement", "read"), [(0.0, [256, 256, 0]), (1.0, [2000, 2000])])
def test_reading_stops_if_no_likely_pair_agrees(agreement, read):
    rows = np.arange(2000)
    pairs = Pairs(rows, rows[::-1], np.linspace(0.9, 0.5, 2000, dtype=np.float32))
    registered = Registration(pairs.score, np.zeros(2000, bool), np.zeros((2000, 6), np.float32))

    class Tests:
        def verify(self, first, second, registered):
            return np.full(len(first), agreement, np.float32)

    search = _Search(
        Thumbnails(np.zeros((2000, 784), np.uint8)),
        None,
        np.zeros((2000, 32), np.uint8),
        rows,
        False,
        None,
        lambda *_: None,
    )
    search.tests, search.thresholds = Tests(), Thresholds(images=0.75)
    for expected in read:
        asked, tested = search._verified(rows, pairs, registered)
        assert len(asked) == len(tested.first) == expected
