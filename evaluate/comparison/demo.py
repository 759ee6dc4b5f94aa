"""The demo: the whole workflow on images that scikit-learn has, also offline."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ...cache import FeatureCache, display, make_folder
from ...errors import OutputError, WeightsError
from ...extract import Progress, extract_features, make_recipe
from ...extract.backbone import imagenet_path, imagenet_url
from .result import Comparison
from .run import DEFAULT_HEADS, compare

IMAGE_SIZE = 96
"""The smallest size that has ImageNet weights: the digits are 8 x 8 pixels."""
DOWNLOAD_SECONDS = 4.0
RATE = 0.01
"""Learning rate of softmax on features of random weights: the default takes hundreds of epochs there."""


@dataclass(frozen=True)
class Demo:
    """Extraction and comparison of the demo, the folder of its images, and that for its results."""

    cache: FeatureCache
    comparison: Comparison
    images: Path
    results: Path


def run_demo(folder: Path, progress: Progress) -> Demo:
    """Write the digits as a class-per-folder data set, embed them, and compare three heads."""
    images = write_digits(make_folder(folder, "the demo") / "digits")
    weights = _weights(progress)
    path = folder / f"digits-{weights.replace(':', '-')}.h5"
    cache = extract_features(images, path, weights=weights, image_size=IMAGE_SIZE, progress=progress)
    heads: dict[str, dict[str, Any]] = {name: {} for name in DEFAULT_HEADS}
    if weights != "imagenet":
        heads["softmax"]["learning_rate"] = RATE
    comparison = compare(cache, heads, progress=progress)
    return Demo(cache, comparison, images, folder / "results")


def write_digits(folder: Path) -> Path:
    """Write scikit-learn's 1,797 scanned digits (UCI, 8 x 8 pixels) as PNG; existing files stay."""
    from PIL import Image
    from sklearn.datasets import load_digits

    digits = load_digits()
    for name in digits.target_names:
        make_folder(folder / str(name), "the demo")
    for number, (pixels, digit) in enumerate(zip(digits.images, digits.target, strict=True)):
        path = folder / str(digit) / f"{number:04d}.png"
        buffer = io.BytesIO()
        Image.fromarray(np.round(pixels * (255 / 16)).astype(np.uint8)).save(buffer, format="PNG")
        try:
            if not path.is_file() or path.read_bytes() != buffer.getvalue():
                path.write_bytes(buffer.getvalue())  # a file that a crash spoils is written again
        except OSError as error:
            raise OutputError(error.errno, f"cannot write {display(str(path))}: {error.strerror}") from error
    return folder


def _weights(progress: Progress) -> str:
    try:
        make_recipe("imagenet", 1.0, IMAGE_SIZE, timeout=DOWNLOAD_SECONDS)
    except WeightsError:
        progress.say(
            "Notice: the ImageNet weights are not on this machine and cannot be downloaded. The demo uses random "
            "weights (random:0): it shows the workflow, not the accuracy. To use the ImageNet weights, put "
            f"{imagenet_url(1.0, IMAGE_SIZE)} at {display(str(imagenet_path(1.0, IMAGE_SIZE)))}"
        )
        return "random:0"
    return "imagenet"
