from __future__ import annotations

import numpy as np
import pytest
from embedonce.evaluate.duplicates import log_polar as polar
from embedonce.evaluate.duplicates import registration, translation
from embedonce.evaluate.duplicates.kernels import kernels
from embedonce.evaluate.duplicates.registration import register
from embedonce.evaluate.duplicates.thumbnails import PIXELS, Thumbnails
from embedonce.evaluate.duplicates.translation import shift_hypotheses
from textures import crop, jpeg, texture, thumbnail, view

PICTURES = [texture(number) for number in range(6)]

CENTRED = {
    "rotation by 10 degrees": lambda picture: view(picture, 10),
    "rotation by 25 degrees": lambda picture: view(picture, 25),
    "rotation by -25 degrees": lambda picture: view(picture, -25),
    "flip": lambda picture: picture[:, ::-1],
    "flip upside down": lambda picture: picture[::-1],
    "transposition": lambda picture: picture.T,
    "quarter turn": lambda picture: np.rot90(picture),
    "half turn": lambda picture: np.rot90(picture, 2),
    "three quarter turns": lambda picture: np.rot90(picture, 3),
    "mirrored rotation": lambda picture: view(picture, 25, mirror=True),
    "zoom to 1.2": lambda picture: view(picture, zoom=1.2),
    "zoom to 1.4": lambda picture: view(picture, zoom=1.4),
    "stretching": lambda picture: view(picture, stretch=1.4),
    "turned stretching": lambda picture: view(np.rot90(picture), stretch=1.4),
    "brightening": lambda picture: picture * 1.2,
    "darkening": lambda picture: picture * 0.8,
    "contrast": lambda picture: (picture - 128) * 0.4 + 128,
    "JPEG": lambda picture: jpeg(picture, 30),
}


def pairs_of(change):
    count = len(PICTURES)
    thumbnails = Thumbnails(np.stack([thumbnail(p) for p in PICTURES] + [thumbnail(change(p)) for p in PICTURES]))
    return thumbnails, np.arange(count), np.arange(count, 2 * count)


def from_the_centre(thumbnails, first, second):
    spectra = polar.ring_spectra(thumbnails)
    found = [polar.correlate(spectra, a, np.array([b])) for a, b in zip(first, second, strict=True)]
    start = polar.as_affine(polar.Centred(*(np.concatenate(column) for column in zip(*found, strict=True))))
    return register(thumbnails, first, second, [start]).score


def from_shifts(thumbnails, first, second):
    return register(thumbnails, first, second, shift_hypotheses(thumbnails, first, second)).score


@pytest.mark.parametrize("change", CENTRED)
def test_a_copy_about_the_centre_is_laid_over_its_original(change):
    assert from_the_centre(*pairs_of(CENTRED[change])).min() > 0.9


@pytest.mark.parametrize("corner", [(0, 0), (1, 1), (0, 1), (0.5, 1)])
@pytest.mark.parametrize(
    "position", [lambda p: p, lambda p: p[:, ::-1], np.rot90], ids=["upright", "flipped", "turned"]
)
def test_a_crop_of_nine_tenths_is_registered(corner, position):
    assert from_shifts(*pairs_of(lambda picture: position(crop(picture, 0.9, corner)))).min() > 0.9


def test_a_crop_of_three_quarters_is_registered():
    corners = [(0, 0), (1, 1), (0, 1), (0.5, 1)]
    scores = [from_shifts(*pairs_of(lambda picture, at=at: crop(picture, 0.75, at))) for at in corners]
    assert np.min(scores) > 0.9


def test_unrelated_pictures_do_not_agree():
    thumbnails = Thumbnails(np.stack([thumbnail(texture(1000 + number)) for number in range(100)]))
    scores = from_the_centre(thumbnails, np.arange(99), np.arange(1, 100))
    assert scores.max() < 0.6


def test_the_score_is_the_same_under_brightness_and_contrast():
    plain = from_the_centre(*pairs_of(lambda picture: view(picture, 12)))
    changed = from_the_centre(*pairs_of(lambda picture: view(picture, 12) * 0.5 + 40))
    np.testing.assert_allclose(plain, changed, atol=0.02)


def test_flat_pictures_have_no_score_that_counts():
    thumbnails = Thumbnails(np.full((2, PIXELS), 200, np.uint8))
    score = from_the_centre(thumbnails, np.array([0]), np.array([1]))
    assert np.isfinite(score).all()
    assert score[0] < 0.1


def test_a_map_that_leaves_no_common_area_has_score_minus_one():
    thumbnails = Thumbnails(np.stack([thumbnail(picture) for picture in PICTURES[:2]]))
    away = np.float32([[1, 0, 100, 0, 1, 100]])
    score = register(thumbnails, np.array([0]), np.array([1]), [(np.zeros(1, bool), away)]).score
    assert score.tolist() == [-1]


def test_pairs_registered_together_score_as_alone():
    thumbnails, first, second = pairs_of(lambda picture: view(picture, 20))
    together = from_the_centre(thumbnails, first, second)
    alone = [from_the_centre(thumbnails, first[k : k + 1], second[k : k + 1])[0] for k in range(len(first))]
    np.testing.assert_allclose(together, alone, atol=1e-4)


@pytest.mark.skipif(kernels() is None, reason="there was no compiler")
@pytest.mark.parametrize(("side", "stride"), [(28, 2), (28, 1), (48, 1), (15, 2)])
def test_compiled_and_numpy_steps_agree(side, stride):
    pictures = np.stack([texture(number)[:side, :side].ravel() for number in (0, 0, 1, 2)]).astype(np.float32)
    pictures = (pictures - pictures.mean(1, keepdims=True)) / pictures.std(1, keepdims=True)
    pictures[3] = 0
    affine = np.tile(np.array([1, 0.05, 0.6, -0.05, 1, -0.4], np.float32), (4, 1))
    mirror = np.array([False, True, False, False])
    given = pictures, pictures, mirror, affine, 4, stride
    compiled, maps = registration.descend(*given)
    plain, plain_maps = registration._descend(*given)
    np.testing.assert_allclose(compiled, plain, atol=1e-4)
    np.testing.assert_allclose(maps[:2], plain_maps[:2], atol=1e-2)


@pytest.mark.skipif(kernels() is None, reason="there was no compiler")
def test_compiled_and_numpy_shifts_agree():
    pictures = np.stack([thumbnail(PICTURES[0]), thumbnail(crop(np.rot90(PICTURES[0]), 0.8)), thumbnail(PICTURES[1])])
    bands = Thumbnails(pictures).bands(np.array([0, 0, 1]), 1.5), Thumbnails(pictures).bands(np.array([1, 2, 2]), 1.5)
    scores, steps = translation._best_shifts(*bands)
    plain_scores, plain_steps = np.empty_like(scores), np.empty_like(steps)
    translation._fill_best_shifts(*bands, plain_scores, plain_steps)
    np.testing.assert_allclose(scores, plain_scores, atol=1e-5)
    np.testing.assert_array_equal(steps, plain_steps)
