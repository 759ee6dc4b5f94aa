from __future__ import annotations

import numpy as np
import pytest
from embedonce.evaluate.duplicates import log_polar as polar
from embedonce.evaluate.duplicates.kernels import kernels
from embedonce.evaluate.duplicates.thumbnails import PIXELS, Thumbnails
from textures import texture, thumbnail, view

PICTURE = texture(3)


def compare(*pictures):
    spectra = polar.ring_spectra(Thumbnails(np.stack([thumbnail(picture) for picture in pictures])))
    return polar.correlate(spectra, 0, np.arange(1, len(pictures)))


def angle_of(found):
    """Return the angles of maps in degrees, -180 to 180."""
    _, affine = polar.as_affine(found)
    return np.rad2deg(np.arctan2(affine[:, 3], affine[:, 0]))


@pytest.mark.parametrize("turns", [0, 1, 2, 3])
@pytest.mark.parametrize("mirror", [False, True])
def test_each_of_eight_positions_is_found_exactly(turns, mirror):
    found = compare(PICTURE, np.rot90(PICTURE[::-1] if mirror else PICTURE, turns))
    assert found.score[0] > 0.99
    assert found.mirror[0] == mirror
    assert found.zoom[0] == 0


@pytest.mark.parametrize("angle", [-25, -10, 10, 25, 60])
def test_a_rotation_is_found_with_its_angle(angle):
    found = compare(PICTURE, view(PICTURE, angle), view(PICTURE, -angle))
    assert found.score.min() > 0.85
    assert not found.mirror.any()
    first, second = angle_of(found)
    assert abs(abs(first) - abs(angle)) < 360 / polar.ANGLES
    assert abs(first + second) < 360 / polar.ANGLES


@pytest.mark.parametrize("zoom", [1.0, 1.2, 1.4])
def test_a_zoom_is_found_with_its_ratio(zoom):
    found = compare(PICTURE, view(PICTURE, zoom=zoom))
    _, affine = polar.as_affine(found)
    assert found.score[0] > 0.85
    assert np.hypot(affine[0, 0], affine[0, 3]) == pytest.approx(1 / zoom, rel=polar.RATIO - 1)


def test_the_score_does_not_depend_on_brightness_and_contrast():
    found = compare(PICTURE, view(PICTURE, 15), view(PICTURE, 15) * 0.6 + 30)
    assert found.score[0] == pytest.approx(found.score[1], abs=0.02)


def test_a_pair_scores_the_same_either_way_round():
    pictures = [PICTURE, view(PICTURE, 17, zoom=1.2), texture(4)]
    spectra = polar.ring_spectra(Thumbnails(np.stack([thumbnail(picture) for picture in pictures])))
    for first, second in [(0, 1), (0, 2), (1, 2)]:
        there = polar.correlate(spectra, first, np.array([second])).score[0]
        back = polar.correlate(spectra, second, np.array([first])).score[0]
        assert there == pytest.approx(back, abs=1e-4)


def test_unrelated_pictures_score_below_copies():
    found = compare(PICTURE, view(PICTURE, 25), *(texture(1000 + number) for number in range(100)))
    assert found.score[0] > 0.85
    assert found.score[1:].max() < 0.6


def test_a_flat_picture_has_score_0_and_no_warning():
    spectra = polar.ring_spectra(Thumbnails(np.full((3, PIXELS), 7, np.uint8)))
    with np.errstate(all="raise"):
        score = polar.correlate(spectra, 0, np.arange(3)).score
    np.testing.assert_allclose(score, 0, atol=1e-6)


def test_blocks_do_not_change_the_rings():
    thumbnails = Thumbnails(np.stack([thumbnail(texture(number)) for number in range(5)]))
    whole, parts = polar.ring_spectra(thumbnails), polar.Spectra(thumbnails)
    for rows in ([3, 1], [1, 0, 2], [4]):
        parts.add(np.array(rows))
    np.testing.assert_allclose(whole.values(np.arange(5)), parts.values(np.arange(5)), atol=1e-4)
    np.testing.assert_allclose(whole.energy, parts.energy, rtol=1e-5)


def test_no_thumbnails_have_no_rings():
    assert polar.ring_spectra(Thumbnails(np.zeros((0, PIXELS), np.uint8))).halves.shape[0] == 0


@pytest.mark.skipif(kernels() is None, reason="there was no compiler")
def test_compiled_and_numpy_correlations_agree(monkeypatch):
    signatures = np.stack([*(thumbnail(texture(number)) for number in range(6)), np.full(PIXELS, 9, np.uint8)])
    spectra, others = polar.ring_spectra(Thumbnails(signatures)), np.array([5, 1, 1, 6, 0])
    compiled = polar.correlate(spectra, 0, others)
    monkeypatch.setattr(polar, "kernels", lambda: None)
    plain = polar.correlate(spectra, 0, others)
    np.testing.assert_allclose(compiled.score, plain.score, atol=1e-5)
    for one, other in zip(compiled[1:], plain[1:], strict=True):
        np.testing.assert_array_equal(one[others < 6], other[others < 6])  # the last one is flat: all its angles agree
