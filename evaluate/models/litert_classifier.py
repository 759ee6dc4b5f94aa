"""Exported .tflite models: from the pixels of an image to the probabilities of its classes."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..._keras import quiet_native_output
from ...errors import ImageError
from ...extract import ImageFile, decoder_of, read_image
from ...extract.engines import open_interpreter


class LiteRTClassifier:
    """An exported .tflite model that maps an image of uint8, shape (1, height, width, 3), to probabilities (1, k)."""

    def __init__(self, model: bytes) -> None:
        self._interpreter = open_interpreter(model)
        self._input = self._interpreter.get_input_details()[0]["index"]
        self._output = self._interpreter.get_output_details()[0]["index"]
        self._shape: tuple[int, ...] = ()

    def __call__(self, image: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Return the probabilities."""
        if image.shape != self._shape:
            self._interpreter.resize_tensor_input(self._input, image.shape)
            with quiet_native_output():
                self._interpreter.allocate_tensors()
            self._shape = image.shape
        self._interpreter.set_tensor(self._input, image)
        self._interpreter.invoke()
        probabilities: npt.NDArray[np.float32] = self._interpreter.get_tensor(self._output)
        return probabilities


def classify_images(
    model: Path,
    fingerprint: Mapping[str, Any],
    root: Path,
    images: Sequence[ImageFile],
    advance: Callable[[int], None],
) -> tuple[dict[bytes, tuple[npt.NDArray[np.float64], bytes]], dict[bytes, str]]:
    """Return the probabilities (k,) and the SHA-256 of every image by its path, and why others cannot be read."""
    classify, decode = LiteRTClassifier(model.read_bytes()), decoder_of(fingerprint)
    classified: dict[bytes, tuple[npt.NDArray[np.float64], bytes]] = {}
    reasons: dict[bytes, str] = {}
    for image in images:
        try:
            data = read_image(root, image)[0]
            pixels = decode(data)
        except ImageError as error:
            reasons[image.path] = str(error)
        else:
            probabilities = classify(pixels[None])[0].astype(np.float64)
            classified[image.path] = probabilities, hashlib.sha256(data).digest()
        advance(1)
    return classified, reasons
