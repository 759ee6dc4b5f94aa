"""Fixtures of all tests."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

if "PYTEST_XDIST_WORKER" in os.environ:  # there is a worker for every processor; BLAS reads this when it is loaded
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
import pytest
from hypothesis import settings
from PIL import Image

# The smallest backbone there is keeps the tests quick; random weights need no network.
SMALL = {"weights": "random:0", "alpha": 0.35, "image_size": 64}

settings.register_profile("embedonce", deadline=None)  # a busy machine is no failure
settings.load_profile("embedonce")


@pytest.fixture(scope="session", autouse=True)
def _own_home(tmp_path_factory):
    """Converted models go to a folder that the workers of a session share, never to the user's."""
    root = tmp_path_factory.getbasetemp()
    home = (root.parent if "PYTEST_XDIST_WORKER" in os.environ else root) / "home"
    home.mkdir(exist_ok=True)
    os.environ["EMBEDONCE_HOME"] = str(home)


@pytest.fixture(scope="session", autouse=True)
def _same_engine_on_every_processor():
    """``auto`` is the native engine wherever it runs, also in child processes; set EMBEDONCE_ENGINE for another one."""
    from embedonce.extract.engines.native import why_not_native

    os.environ.setdefault("EMBEDONCE_ENGINE", "litert" if why_not_native() else "native")


@pytest.fixture(scope="session")
def small():
    return dict(SMALL)


@pytest.fixture(scope="session")
def draw():
    """Return a function that draws an image of a class: stripes of a class's own direction and colour."""

    def draw_image(kind: int, number: int, height: int = 70, width: int = 90) -> Image.Image:
        generator = np.random.default_rng(1000 * kind + number)
        y, x = np.mgrid[:height, :width]
        angle = kind * np.pi / 3 + generator.normal(0, 0.05)
        wave = 0.5 + 0.5 * np.sin((x * np.cos(angle) + y * np.sin(angle)) / (3 + kind) + generator.uniform(0, 6))
        colour = np.eye(3)[kind % 3] * 160 + 60
        pixels = wave[..., None] * colour + generator.normal(0, 12, (height, width, 3))
        return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))

    return draw_image


@pytest.fixture(scope="session")
def make_images(draw) -> Callable[..., Path]:
    """Return a function that writes a class-per-folder data set in all formats."""

    def make(folder: Path, classes: tuple[str, ...] = ("ash", "birch", "cedar"), per_class: int = 8) -> Path:
        endings = (".jpg", ".png", ".jpeg", ".bmp")
        for kind, name in enumerate(classes):
            (folder / name).mkdir(parents=True)
            for number in range(per_class):
                draw(kind, number).save(folder / name / f"{number:03d}{endings[number % 4]}")
        return folder

    return make


@pytest.fixture(scope="session")
def images(tmp_path_factory, make_images) -> Path:
    """A data set that no test changes: 3 classes of 24 images."""
    return make_images(tmp_path_factory.mktemp("shared") / "images", per_class=24)


@pytest.fixture(scope="session")
def cache_path(tmp_path_factory, images, small) -> Path:
    """The cache of ``images``; no test changes it."""
    import embedonce

    path = tmp_path_factory.mktemp("shared") / "trees.h5"
    cache = embedonce.extract_features(images, path, **small)
    # no two images are near-duplicates, and a search takes seconds; it has its own tests
    rows = "".join(
        f"{name},g{row},{digest.tobytes().hex()}\n"
        for row, (name, digest) in enumerate(zip(cache.paths, cache.files.hashes, strict=True))
    )
    path.with_name("trees.h5.groups.csv").write_text(f"path,group,sha256\n{rows}")
    return path


@pytest.fixture(scope="module")
def cache(cache_path):
    """``cache_path``, opened."""
    from embedonce.cache import FeatureCache

    with FeatureCache.open(cache_path) as opened:
        yield opened


@pytest.fixture(scope="session")
def python():
    """Return a function that runs code in a fresh interpreter and returns what it prints."""

    def run(code: str, *arguments: object, status: int = 0) -> str:
        command = [sys.executable, "-c", code, *map(str, arguments)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300)
        assert done.returncode == status, done.stderr
        return done.stdout

    return run


@pytest.fixture(scope="session")
def keras_home(tmp_path_factory):
    """A Keras folder with weights where, and as, Keras keeps those of ImageNet; the values are random."""
    import h5py
    from embedonce._keras import import_keras

    import_keras()
    from embedonce.extract.backbone.keras_model import build_backbone
    from embedonce.extract.backbone.resolve import imagenet_path, resolve_weights
    from keras.src.legacy.saving.legacy_h5_format import save_weights_to_hdf5_group

    home = tmp_path_factory.mktemp("keras")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KERAS_HOME", str(home))
        path = imagenet_path(1.0, 224)
    path.parent.mkdir()
    with h5py.File(path, "w") as file:
        save_weights_to_hdf5_group(file, build_backbone(resolve_weights("random:1", 1.0, 224), 1.0, 224))
    return home


@pytest.fixture
def lung_data() -> Path:
    """The folder with lung images and weights that EMBEDONCE_TEST_DATA names."""
    folder = os.environ.get("EMBEDONCE_TEST_DATA")
    if not folder:
        pytest.skip("EMBEDONCE_TEST_DATA names no folder with lung_image_sets and weights")
    return Path(folder)
