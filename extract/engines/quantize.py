"""The backbone with weights and activations of 8 bits. Imports TensorFlow when called."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from ..._keras import quiet_native_output
from ...errors import EngineError
from ..resizing import resize
from .convert import converter_of
from .litert import Interpreter

_SIDES = (427, 300, 224, 112, 64)  # from a whole photograph to a detail, which gives a smooth picture
_CROPS = 32  # per photograph
_CHECKED = 4  # every fourth crop is compared with Keras

MINIMUM_AGREEMENT = 0.8
"""Minimum of the median cosine between features of Keras and of the quantised model, both less their mean over images.

It was 0.95 to 0.98 for trained and random weights, alpha 0.35 and 1.0, 32 to 224 pixels, and -0.18 to 0.08 between
different images. It is the median, because single smooth images lose more."""


def quantize(embedder: Any, image_size: int) -> bytes:
    """Convert an embedder of Keras to a LiteRT model of 8 bits, and compare its features with those of Keras."""
    # input and output stay float32; one TensorFlow on one kind of processor always gives the same bytes
    import tensorflow as tf

    with quiet_native_output(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # missing statistics of the input, which stays float32
        converter = converter_of(embedder, image_size)
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.representative_dataset = lambda: ([image[None]] for image in calibration_images(image_size))
        model: bytes = converter.convert()
    _check_agreement(embedder, model, image_size)
    return model


def calibration_images(image_size: int) -> Iterator[npt.NDArray[np.float32]]:
    """Yield 64 images, float32 of shape (image_size, image_size, 3), 0 to 255; always the same."""
    # the model, and with it the fingerprint, must not depend on the user's data
    from sklearn.datasets import load_sample_images

    generator = np.random.RandomState(0)  # its stream never changes
    for photograph in load_sample_images().images:
        height, width = photograph.shape[:2]
        for number in range(_CROPS):
            side = _SIDES[number % len(_SIDES)]
            top, left = generator.randint(0, height - side + 1), generator.randint(0, width - side + 1)
            crop = np.rot90(photograph[top : top + side, left : left + side], number % 4)
            if number % 3 == 1:
                crop = 255 - crop
            elif number % 3 == 2:
                crop = crop[..., generator.permutation(3)]
            yield resize(np.ascontiguousarray(crop), image_size)


def _check_agreement(embedder: Any, model: bytes, image_size: int) -> None:
    """Raise EngineError when a model does not tell the images apart as Keras does."""
    session = Interpreter(model)
    expected, quantized = [], []
    for number, image in enumerate(calibration_images(image_size)):
        if number % _CHECKED == 0:
            expected.append(np.asarray(embedder(image[None], training=False))[0])
            np.copyto(session.slot(0), image)
            quantized.append(session.run(1)[0])
    centre = np.mean(expected, axis=0)
    a, b = np.array(expected) - centre, np.array(quantized) - centre
    with np.errstate(invalid="ignore", divide="ignore"):  # NaN is refused below
        cosines = (a * b).sum(axis=1) / (np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1))
    agreement = float(np.median(cosines))
    if not agreement >= MINIMUM_AGREEMENT:
        raise EngineError(
            f"the model of 8 bits agrees too little with Keras on this machine: median cosine {agreement:.2f}, the "
            f"minimum is {MINIMUM_AGREEMENT}. Use --precision float32"
        )
