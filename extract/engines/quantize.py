"""The backbone with weights and activations of 8 bits. Everything here needs TensorFlow, and imports it when called.

To round activations, the converter must have seen which values each layer takes. It sees images that are the same for
everybody, scikit-learn's two photographs cut, turned and recoloured, so that the model, and with it the fingerprint,
does not depend on anybody's data.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from ..._keras import quiet_native_output
from ...errors import EngineError
from ..decoding import resize
from .convert import converter_of
from .litert import Interpreter

_SIDES = (427, 300, 224, 112, 64)  # from a whole photograph to a detail, which leaves a smooth picture
_CROPS = 32  # of each photograph
_PROVED = 4  # every fourth of them is looked at again

LEAST_AGREEMENT = 0.8
"""The least median cosine between the features of Keras and of the quantised model, less their mean over the images.

Over trained and random weights, alpha 0.35 and 1.0, 32 to 224 pixels it was 0.95 to 0.98, and -0.18 to 0.08 between
the features of one image and those of another. The median, because single smooth images lose more."""


def quantize(embedder: Any, image_size: int) -> bytes:
    """Convert the way from pixels to features to 8 bits, and check the result against Keras.

    Parameters
    ----------
    embedder : keras.Model
        As :func:`embedonce.extract.backbone.keras_model.build_embedder` makes it.
    image_size : int

    Returns
    -------
    bytes
        LiteRT model: float32 (1, s, s, 3), 0 to 255, to float32 (1, d). The same bytes whenever the same TensorFlow
        makes it on the same kind of processor.

    Raises
    ------
    EngineError
        When the quantised model has lost what Keras says of the images.
    """
    import tensorflow as tf

    with quiet_native_output(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of missing statistics of the input, which stays float32
        converter = converter_of(embedder, image_size)
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.representative_dataset = lambda: ([image[None]] for image in calibration_images(image_size))
        model: bytes = converter.convert()
    _prove(embedder, model, image_size)
    return model


def calibration_images(image_size: int) -> Iterator[npt.NDArray[np.float32]]:
    """Yield 64 images, float32 of shape (image_size, image_size, 3), 0 to 255; always the same."""
    from sklearn.datasets import load_sample_images

    generator = np.random.RandomState(0)  # whose stream is frozen for good
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


def _prove(embedder: Any, model: bytes, image_size: int) -> None:
    """Refuse a model that does not tell the images apart as Keras does."""
    session = Interpreter(model)
    expected, got = [], []
    for number, image in enumerate(calibration_images(image_size)):
        if number % _PROVED == 0:
            expected.append(np.asarray(embedder(image[None], training=False))[0])
            np.copyto(session.slot(0), image)
            got.append(session.run(1)[0])
    centre = np.mean(expected, axis=0)
    a, b = np.array(expected) - centre, np.array(got) - centre
    with np.errstate(invalid="ignore", divide="ignore"):  # what is not a number is refused below
        cosines = (a * b).sum(axis=1) / (np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1))
    agreement = float(np.median(cosines))
    if not agreement >= LEAST_AGREEMENT:
        raise EngineError(
            f"the model of 8 bits agrees too little with Keras on this machine: median cosine {agreement:.2f}, "
            f"{LEAST_AGREEMENT} is the least; use --precision float32"
        )
