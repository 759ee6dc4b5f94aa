"""A trained head as one file from image to probabilities, for people without embedonce, proved before it is written."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..._keras import quiet_native_output
from ...cache import FeatureCache, display, make_folder, write_atomically
from ...errors import ModelFileError, ModelSuffixError, check_int
from ...extract import decode, find_images, least_size
from ...extract.engines import converter_for, open_interpreter
from ...heads.io import encode, keras_head, load_head, read_metadata, require_exportable, with_appended
from ..shared import evenly_spaced_indices
from .image_model import (
    FeatureSource,
    ReferencePredictions,
    build_image_model,
    check_image_model,
    open_same_cache,
    pixels_notes,
    proof_of_cache,
    require_float32,
    save_image_model,
)
from .prediction import embed_files, origin_of
from .training_images import training_mask

CHECKED_IMAGES = 100
SUFFIXES = (".keras", ".tflite")


@dataclass
class Exported:
    """A model that was written.

    Attributes
    ----------
    path : Path
    checked : int
        On how many images it gave the class of the head, and its probabilities within 1e-3.
    largest_difference : float
        Of a probability among them.
    notes : list of str
    """

    path: Path
    checked: int
    largest_difference: float
    notes: list[str]


def export(
    model: Path | str,
    path: Path | str,
    *,
    cache: FeatureCache | Path | str | None = None,
    images: Sequence[Path | str] | Path | str | None = None,
    check: int = CHECKED_IMAGES,
    weights: Path | str | None = None,
    trust: bool = False,
) -> Exported:
    """Write a trained head with everything before it as one file: image in, class probabilities out.

    Parameters
    ----------
    model : path-like
        Of ``embedonce train``, with a head softmax, logreg, linear-svm or svm.
    path : path-like
        ``.keras``, for ``keras.models.load_model``, or ``.tflite``, for LiteRT. Class names and fingerprint are in its
        entry ``embedonce.json``, in a ``.tflite`` file also in ``labels.txt``: both kinds can be read as zip archives.
    cache : FeatureCache or path-like, optional
        Whose images and features the model is checked on, by default the cache that it was trained on. Images that it
        was not trained on, if there are any.
    images : path-like or sequence of path-like, optional
        Image files and folders to check it on instead.
    check : int
        On how many of these, spread evenly.
    weights : path-like, optional
        The backbone's weights, when they are not where the model says.
    trust : bool
        Allow a model file that runs code when loaded.

    Raises
    ------
    ModelFileError
        When the model cannot be read, there is no image to check it on, or the export disagrees with the head: on the
        class of an image, or on a probability by more than 1e-3. An older file at ``path`` stays as it was.
    HeadError
        If the head cannot be exported.
    ParameterError
        If ``check`` is not an integer of at least 1.
    CacheError, WeightsError, FingerprintError
        When the cache, or the backbone, is gone or another one.
    ImageFolderError
        When there is no such image, or a folder holds none.
    OutputError
        When the file cannot be written.
    """
    path = Path(path)
    if path.suffix.lower() not in SUFFIXES:
        raise ModelSuffixError(f"an exported model must end in {' or '.join(SUFFIXES)}, got {display(str(path))}")
    check_int("check", "export", check, 1)
    metadata = read_metadata(model)
    origin = origin_of(model, metadata)
    require_float32(origin)
    head = load_head(model, trust=trust)
    require_exportable(head)
    make_folder(path.parent, "the model")  # before the work, not after it
    if images is not None:
        proof = _proof_of_images(head, origin, images, check, weights)
    else:
        proof = _proof_of_cache(head, origin, cache, check, metadata)
    if not proof.images:
        raise ModelFileError(
            f"{origin.shown} cannot be checked: of the images that it would be checked on none is there unchanged; "
            "give others with --images PATH. Nothing was written"
        )
    made = build_image_model(keras_head(head), origin, weights)
    metadata["class_names"] = [str(name) for name in head.classes_]
    metadata.setdefault("parameters", head.get_params(deep=False))  # to train the head again, beside its backbone
    if path.suffix.lower() == ".keras":
        softmax = head if head.head_name == "softmax" else None
        difference = save_image_model(made, path, proof, metadata, softmax)
    else:
        with quiet_native_output():
            converted = converter_for(made, (1, None, None, 3), "uint8").convert()
        data = with_appended(converted, encode(metadata), metadata["class_names"])
        difference = check_image_model(Classifier(data), proof)
        write_atomically(path, data)
    return Exported(path, len(proof.images), difference, pixels_notes(origin))


class Classifier:
    """An exported ``.tflite`` model: call it with an image of uint8, shape (1, height, width, 3).

    Parameters
    ----------
    model : bytes
    """

    def __init__(self, model: bytes) -> None:
        self._interpreter = open_interpreter(model)
        self._input = self._interpreter.get_input_details()[0]["index"]
        self._output = self._interpreter.get_output_details()[0]["index"]
        self._shape: tuple[int, ...] = ()

    def __call__(self, image: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Return the probabilities, shape (1, k)."""
        if image.shape != self._shape:
            self._interpreter.resize_tensor_input(self._input, image.shape)
            with quiet_native_output():
                self._interpreter.allocate_tensors()
            self._shape = image.shape
        self._interpreter.set_tensor(self._input, image)
        self._interpreter.invoke()
        answer: npt.NDArray[np.float32] = self._interpreter.get_tensor(self._output)
        return answer


def _proof_of_cache(
    head: Any, origin: FeatureSource, cache: FeatureCache | Path | str | None, count: int, metadata: dict[str, Any]
) -> ReferencePredictions:
    if cache is None:
        cache = origin.provenance.get("cache_path")
        if cache is None or not Path(cache).exists():
            raise ModelFileError(
                f"{origin.shown} is checked on images before it is written, and its cache is not where it was; give it "
                "with --cache CACHE, or images with --images PATH"
            )
    opened = open_same_cache(cache, origin.fingerprint)
    # images that it was not trained on, if any: there it is least sure of itself
    new = np.flatnonzero(~training_mask(opened, metadata))
    return proof_of_cache(head, opened, count, new if len(new) else None)


def _proof_of_images(
    head: Any, origin: FeatureSource, images: Sequence[Path | str] | Path | str, count: int, weights: Path | str | None
) -> ReferencePredictions:
    files = find_images([images] if isinstance(images, (str, os.PathLike)) else images).images
    chosen = [files[place] for place in evenly_spaced_indices(len(files), count)]
    embedded = embed_files(chosen, origin, weights)
    good = [(file.path, done.features) for file in chosen if (done := embedded[file.path]).features is not None]
    if not good:
        return ReferencePredictions([], [], np.zeros((0, len(head.classes_))))
    least = least_size(origin.fingerprint)
    return ReferencePredictions(
        [os.fsdecode(path) for path, _ in good],
        [decode(Path(os.fsdecode(path)).read_bytes(), least) for path, _ in good],
        head.predict_proba(np.stack([features for _, features in good])),
    )
