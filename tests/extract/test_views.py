"""Augmented views of images in caches next to that of the images."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
from click.testing import CliRunner
from embedonce import FeatureCache, extract_features
from embedonce.cli.app import main
from embedonce.errors import ParameterError
from embedonce.extract.verification import verify
from embedonce.extract.views import VIEW_TRANSFORMS, VIEWS, view_path
from PIL import Image

PILLOW = {
    "flip-left-right": Image.Transpose.FLIP_LEFT_RIGHT,
    "flip-top-bottom": Image.Transpose.FLIP_TOP_BOTTOM,
    "rotate-90": Image.Transpose.ROTATE_90,
    "rotate-180": Image.Transpose.ROTATE_180,
    "rotate-270": Image.Transpose.ROTATE_270,
    "transpose": Image.Transpose.TRANSPOSE,
    "transverse": Image.Transpose.TRANSVERSE,
}


@pytest.fixture(scope="module")
def viewed(images, small, tmp_path_factory):
    path = tmp_path_factory.mktemp("views") / "trees.h5"
    extract_features(images, path, views="dihedral", **small)
    return path


@pytest.mark.parametrize("name", VIEWS["dihedral"])
def test_a_view_of_pixels_is_pillows(name):
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    expected = np.asarray(Image.fromarray(pixels).transpose(PILLOW[name]))
    np.testing.assert_array_equal(VIEW_TRANSFORMS[name](pixels), expected)


def test_flips_are_the_views_that_keep_the_format_of_an_image():
    for name in VIEWS["flips"]:
        assert VIEW_TRANSFORMS[name](np.zeros((4, 6, 3), np.uint8)).shape == (4, 6, 3)


@pytest.mark.parametrize("name", ["flip-left-right", "rotate-90", "transverse"])
def test_features_of_a_view_are_those_of_the_turned_image_file(name, viewed, images, small, tmp_path):
    for source in images.rglob("*.png"):
        target = tmp_path / "turned" / source.relative_to(images)
        target.parent.mkdir(parents=True, exist_ok=True)
        Image.open(source).convert("RGB").transpose(PILLOW[name]).save(target)
    turned = extract_features(tmp_path / "turned", tmp_path / "turned.h5", **small)
    view = FeatureCache.open(view_path(viewed, name))
    rows = [view.paths.index(path) for path in turned.paths]
    assert len(rows) > 5
    np.testing.assert_allclose(view.features[rows], turned.features, atol=1e-4)


def test_every_view_has_the_images_of_the_cache(viewed, images):
    cache = FeatureCache.open(viewed)
    assert "view" not in cache.fingerprint
    for name in VIEWS["dihedral"]:
        view = FeatureCache.open(view_path(viewed, name))
        assert view.paths == cache.paths
        assert view.fingerprint == cache.fingerprint | {"view": name}
        assert not np.allclose(view.features, cache.features, atol=1e-3)
        assert verify(view_path(viewed, name), images, sample=4).ok


def test_again_embeds_only_what_is_new_in_every_view(images, small, tmp_path):
    folder, path = tmp_path / "images", tmp_path / "a.h5"
    shutil.copytree(images, folder)
    extract_features(folder, path, views="flips", **small)
    Image.fromarray(np.full((70, 90, 3), 7, np.uint8)).save(folder / "ash" / "new.png")
    options = ["--weights", small["weights"], "--alpha", small["alpha"], "--image-size", small["image_size"]]
    command = ["extract", folder, path, "--views", "flips", "--json", *options]
    done = CliRunner().invoke(main, list(map(str, command)))
    assert done.exit_code == 0, done.output
    report = json.loads(done.stdout)
    assert report["embedded"] == 1
    assert {name: view["embedded"] for name, view in report["views"].items()} == dict.fromkeys(VIEWS["flips"], 1)
    assert CliRunner().invoke(main, list(map(str, command[:5] + options))).stdout.count("0 embedded") == 3


def test_views_of_a_folder_of_shards_are_folders_of_shards(images, small, tmp_path):
    extract_features(images, tmp_path / "a.cache", views="flips", **small)
    for name in VIEWS["flips"]:
        assert view_path(tmp_path / "a.cache", name).is_dir()
        assert len(FeatureCache.open(view_path(tmp_path / "a.cache", name))) > 0


def test_an_unknown_choice_is_refused_before_any_work(images, tmp_path):
    with pytest.raises(ParameterError, match="parameter views must be one of none, flips, dihedral, got 'all'"):
        extract_features(images, tmp_path / "a.h5", views="all")
    assert not list(tmp_path.iterdir())
