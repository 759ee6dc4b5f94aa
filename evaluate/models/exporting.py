"""Export of a trained head as one file from image to probabilities, checked on images before it is written."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..._keras import quiet_native_output
from ...cache import FeatureCache, display, make_folder, refuse_input_as_output, write_atomically
from ...errors import ModelFileError, ModelSuffixError, check_int, check_path, check_paths
from ...extract import decoder_of, find_images, read_image
from ...extract.engines import converter_for
from ...heads.io import encode, keras_head, require_exportable, with_appended
from ..shared import evenly_spaced_indices
from .image_model import (
    ReferencePredictions,
    build_image_model,
    check_against_reference,
    decoding_notes,
    reference_of_cache,
    save_image_model,
)
from .litert_classifier import LiteRTClassifier
from .model_file import ModelFile
from .prediction import ROOT, embed_files

SUFFIXES = (".keras", ".tflite")


@dataclass(frozen=True)
class ExportedModel:
    """An exported model.

    Attributes
    ----------
    path : Path
    checked : int
        Number of images on which it gave the class of the head, and its probabilities within 1e-3.
    largest_difference : float
        Largest difference of a probability on these images.
    notes : list of str
    """

    path: Path
    checked: int
    largest_difference: float
    notes: list[str]

    def to_dict(self) -> dict[str, Any]:
        """Return the result as JSON-serialisable values."""
        return {
            "path": str(self.path),
            "checked_images": self.checked,
            "largest_difference": self.largest_difference,
            "notes": self.notes,
        }


def export(
    model: Path | str,
    path: Path | str,
    *,
    cache: FeatureCache | Path | str | None = None,
    images: Sequence[Path | str] | Path | str | None = None,
    check: int = 100,
    weights: Path | str | None = None,
    trust: bool = False,
) -> ExportedModel:
    """Write a trained head with everything before it as one file: image in, class probabilities out.

    Parameters
    ----------
    model : path-like
        Model file with a head softmax, logreg, linear-svm or svm.
    path : path-like
        ``.keras``, for ``keras.models.load_model``, or ``.tflite``, for LiteRT. Class names and fingerprint are in its
        entry ``embedonce.json``, in a ``.tflite`` file also in ``labels.txt``: both kinds can be read as zip archives.
    cache : FeatureCache or path-like, default=None
        Cache whose images and features the model is checked on, by default the one that it was trained on. Images that
        it was not trained on are preferred.
    images : path-like or sequence of path-like, default=None
        Image files and folders to check it on instead.
    check : int, default=100
        Number of images to check, spread evenly.
    weights : path-like, default=None
        File with the backbone's weights, if they are not where the model says.
    trust : bool, default=False
        Allow a model file that runs code when it is loaded.

    Returns
    -------
    ExportedModel

    Raises
    ------
    ModelFileError
        If the model cannot be read, there is no image to check it on, or the export disagrees with the head: on the
        class of an image, or on a probability by more than 1e-3. An older file at `path` stays as it was.
    HeadError
        If the head cannot be exported.
    ParameterError
        If `check` is not an integer of at least 1.
    CacheError, WeightsError, FingerprintError
        If the cache or the backbone is gone or is another one.
    ImageFolderError
        If there is no such image, or a folder holds none.
    OutputError
        If the file cannot be written.

    See Also
    --------
    train : Train a head and write it to a file.
    finetune : Train the last layers of an exported model's backbone.

    Examples
    --------
    >>> import embedonce as eo
    >>> eo.export("photos.npz", "photos.tflite").checked  # doctest: +SKIP
    100
    """
    path = check_path("path", "export", path)
    if path.suffix.lower() not in SUFFIXES:
        raise ModelSuffixError(f"an exported model must end in {' or '.join(SUFFIXES)}, got {display(str(path))}")
    check_int("check", "export", check, 1)
    chosen = None if images is None else check_paths("images", "export", images)
    file = ModelFile.open(model, trust)
    source = file.source
    source.require_float32("an image model")
    head = file.head
    require_exportable(head)
    refuse_input_as_output(path, file.path, weights, getattr(cache, "path", cache), *(chosen or ()))
    make_folder(path.parent, "the model")  # before the work, not after it
    with file.classifying():
        if chosen is not None:
            reference = _reference_of_images(file, chosen, check, weights)
        else:
            opened = file.open_cache(cache, "export", ", or images with --images PATH")
            new = np.flatnonzero(~file.training_mask(opened))  # there the head is least confident
            reference = reference_of_cache(head, opened, check, new if len(new) else None)
        head_model = keras_head(head)
    file.require_probabilities(reference.expected, len(file.classes))
    if not reference.images:
        raise ModelFileError(
            f"{file.name} cannot be checked, since none of the images to check it on is there unchanged. Give others "
            "with --images PATH. Nothing was written"
        )
    image_model = build_image_model(head_model, source, weights)
    metadata = file.metadata | {"class_names": file.classes}
    # to train the head again in finetune
    metadata["parameters"] = metadata.get("parameters") or head.get_params(deep=False)
    if path.suffix.lower() == ".keras":
        difference = save_image_model(image_model, path, reference, metadata, head)
    else:
        with quiet_native_output():
            converted = converter_for(image_model, (1, None, None, 3), "uint8").convert()
        data = with_appended(converted, encode(metadata), metadata["class_names"])
        difference = check_against_reference(LiteRTClassifier(data), reference)
        write_atomically(path, data)
    return ExportedModel(path, len(reference.images), difference, decoding_notes(source))


def _reference_of_images(
    file: ModelFile, images: Sequence[Path], count: int, weights: Path | str | None
) -> ReferencePredictions:
    files = find_images(images).images
    chosen = [files[index] for index in evenly_spaced_indices(len(files), count)]
    embedded = embed_files(chosen, file.source, weights)
    features = {image.path: row for image in chosen if (row := embedded[image.path].features) is not None}
    if not features:
        return ReferencePredictions([], [], np.zeros((0, len(file.classes))))
    decode = decoder_of(file.source.fingerprint)
    names = [os.fsdecode(path) for path in features]
    pixels = [decode(read_image(ROOT, image)[0]) for image in chosen if image.path in features]
    return ReferencePredictions(names, pixels, file.head.predict_proba(np.stack(list(features.values()))))
