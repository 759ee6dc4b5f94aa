"""Reduced decoding has another fingerprint and is never mixed with exact decoding."""

from __future__ import annotations

import numpy as np
import pytest
from embedonce.errors import FingerprintError
from embedonce.extract.recipe import recipe_of
from embedonce.extract.run import extract_features
from embedonce.extract.verification import verify


@pytest.fixture(scope="module")
def folder(tmp_path_factory, draw):
    """Two classes of large and small images, as JPEG and PNG."""
    path = tmp_path_factory.mktemp("decoding") / "images"
    for kind, name in enumerate(("ash", "birch")):
        (path / name).mkdir(parents=True)
        for number in range(3):
            draw(kind, number, 150, 200).save(path / name / f"large{number}.jpg")
            draw(kind, number, 150, 200).save(path / name / f"large{number}.png")
            draw(kind, number, 64, 64).save(path / name / f"small{number}.jpg")
            draw(kind, number, 127, 200).save(path / name / f"wide{number}.jpg")
    return path


@pytest.fixture(scope="module")
def caches(folder, tmp_path_factory, small):
    path = tmp_path_factory.mktemp("decoding")
    return {how: extract_features(folder, path / f"{how}.h5", decoding=how, **small) for how in ("exact", "reduced")}


def test_only_large_jpeg_files_get_other_features(caches):
    exact, reduced = caches["exact"], caches["reduced"]
    assert exact.paths == reduced.paths
    equal = (exact.features == reduced.features).all(1)
    large = np.array(["large" in path and path.endswith(".jpg") for path in exact.paths])
    np.testing.assert_array_equal(equal, ~large)
    cosine = (exact.features * reduced.features).sum(1)
    cosine /= np.linalg.norm(exact.features, axis=1) * np.linalg.norm(reduced.features, axis=1)
    assert cosine[large].min() > 0.9


def test_the_fingerprint_says_how_images_were_decoded(caches):
    exact, reduced = caches["exact"].fingerprint, caches["reduced"].fingerprint
    assert exact["decoder"] == "tensorflow decode_image"
    assert reduced == exact | {"decoder": "tensorflow decode_image, large JPEG reduced"}
    assert recipe_of(caches["exact"]).images.decoding == "exact"
    assert recipe_of(caches["reduced"]).images.decoding == "reduced"


@pytest.mark.parametrize(("there", "here"), [("exact", "reduced"), ("reduced", "exact")])
def test_a_cache_of_one_decoding_refuses_the_other(caches, folder, small, there, here):
    with pytest.raises(FingerprintError, match=r"another way: decoder is tensorflow decode_image.* there, .* here"):
        extract_features(folder, caches[there].path, decoding=here, **small)


@pytest.mark.parametrize("how", ["exact", "reduced"])
def test_images_are_verified_as_they_were_decoded(caches, folder, how):
    done = verify(caches[how].path, folder, sample=100)
    assert done.ok
    assert done.sampled == done.identical == 24
