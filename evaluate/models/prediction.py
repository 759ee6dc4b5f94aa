"""Classes of images by a saved model: images are embedded as the training images were, then classified by its head."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from ...cache import FeatureCache, counted
from ...errors import HeadError, ParameterError, check_int, check_paths
from ...extract import (
    EmbedResult,
    ImageFile,
    KnownContent,
    Progress,
    as_progress,
    embed_images,
    find_images,
    notes_on_oddities,
    reading_order,
    recipe_of,
    view_names,
)
from ...extract.engines import make_engine
from ...heads.io import SHORT_HASH_BYTES
from ..shared import Records
from .decisions import ANSWER, ASK, Decision, decisions_of
from .litert_classifier import classify_images
from .model_file import FeatureSource, ModelFile, check_order
from .novelty import NoveltyDetector

ROOT = Path(os.sep)
"""Folder that absolute paths are relative to."""


@dataclass(frozen=True)
class Prediction:
    """Classes of one image, as a model predicts them.

    Attributes
    ----------
    path : str
    classes : tuple of (str, float or None)
        The most probable classes with their probabilities, the predicted one first. A head without probabilities
        gives the predicted class alone, with None. Empty for an image that could not be read.
    reason : str
        The reason if there is no prediction.
    novelty : float or None
        Distance from the training images. 1 is the distance that one in a thousand of these exceeds. None if the model
        file does not describe its training images.
    decision : {"answer", "ask a person"} or None
        Whether the probability reaches the threshold of ``train --decide accuracy=VALUE``. None for other models.
    labels : tuple of str or None
        The set of labels of ``train --decide coverage=VALUE``, the most probable first. None for other models.
    in_training : bool
        Whether the model was trained on an image of the same content.
    """

    path: str
    classes: tuple[tuple[str, float | None], ...] = ()
    reason: str = ""
    novelty: float | None = None
    decision: str | None = None
    labels: tuple[str, ...] | None = None
    in_training: bool = False

    @property
    def unlike_training(self) -> bool:
        """True if the image is farther from the training images than nearly all of these."""
        return self.novelty is not None and self.novelty > 1

    def to_dict(self) -> dict[str, Any]:
        """Return the prediction as JSON-serialisable values."""
        if self.reason:
            return {"path": self.path, "error": self.reason}
        classes = [{"class": name, "probability": probability} for name, probability in self.classes]
        return (
            {"path": self.path}
            | classes[0]
            | {"classes": classes, "novelty": self.novelty, "unlike_training": self.unlike_training}
            | {"in_training": self.in_training}
            | ({} if self.decision is None else {"decision": self.decision})
            | ({} if self.labels is None else {"labels": list(self.labels)})
        )


def predict(
    model: Path | str,
    images: Sequence[Path | str] | Path | str,
    *,
    top: int = 1,
    cache: FeatureCache | Path | str | None = None,
    weights: Path | str | None = None,
    engine: str = "auto",
    trust: bool = False,
    views: Literal["none", "flips", "dihedral"] = "none",
    progress: Progress | None = None,
) -> Records[Prediction]:
    """Predict the classes of images.

    Parameters
    ----------
    model : path-like
        Model file of `train`, `finetune`, `export` or `save_head`. A ``.tflite`` file of `export` classifies from
        pixels, without its backbone's weights, novelty and notes on oddities; with it, `cache`, `weights`, `engine` and
        `views` stay at their defaults.
    images : path-like or sequence of path-like
        Image files, and folders and ``.zip`` and ``.tar`` archives, whose images are all taken at any depth. Names that
        begin with a dot are left out.
    top : int, default=1
        Number of classes for each image.
    cache : FeatureCache or path-like, default=None
        Cache from which the features of images with the same content are taken.
    weights : path-like, default=None
        File with the backbone's weights, if they are not where the model says.
    engine : str, default="auto"
        Engine that computes the features: see `extract_features`.
    trust : bool, default=False
        Allow a model file that runs code when it is loaded.
    views : {"none", "flips", "dihedral"}, default="none"
        Average probabilities over the image and these augmented views of it, each of which takes as long as the image.
    progress : Progress, default=None

    Returns
    -------
    Records of Prediction
        A tuple in the order given, folders by path. An image that cannot be read has a reason. Images of other formats
        come last. Its `notes` count images whose EXIF orientation or range of values the model ignores.

    Raises
    ------
    ModelFileError
        If the model cannot be read, needs `trust`, or does not say how its features were made.
    WeightsError, FingerprintError
        If the backbone is gone or is another one.
    ImageFolderError
        If there is no such file or folder, or a folder holds no image.
    HeadError
        If a head without probabilities is to average over views.
    ParameterError
        If `top` is not an integer of at least 1, or there are no such views.

    See Also
    --------
    explain : Find the regions of an image that speak for a class.
    evaluate_model : Score a model on labelled images.

    Examples
    --------
    >>> import embedonce as eo
    >>> predictions = eo.predict("photos.npz", "new", top=2)  # doctest: +SKIP
    >>> predictions[0].classes  # doctest: +SKIP
    (('birch', 0.97), ('ash', 0.02))
    """
    check_int("top", "predict", top, 1)
    names = view_names(views)
    progress = as_progress(progress, "predict")
    paths_given = check_paths("images", "predict", images)
    check_order("predict", model, "IMAGES", *paths_given)
    file = ModelFile.open(model, trust)
    files, unread = find_images(paths_given)
    decisions = decisions_of(file.metadata, file.name)
    if file.is_whole:
        given = {"cache": cache is not None, "weights": weights is not None, "views": names, "engine": engine != "auto"}
        if any(given.values()):
            name = next(name for name, value in given.items() if value)
            raise ParameterError(
                f"parameter {name} of predict is for models that take features, but {file.name} goes from pixels to "
                "probabilities. Leave it out, or give the model that it was exported from"
            )
        classified = _classify(file, files, progress)
    else:
        if names and not hasattr(file.predictor, "predict_proba"):
            raise HeadError("parameter views of predict must be 'none' for a head without probabilities to average")
        opened = None if cache is None else file.open_cache(cache, "predict")
        classified = _embed_and_classify(file, files, opened, weights, engine, names, progress)
    predictions, trained_on = [], set(file.training_hashes)
    for image in files:
        one = classified.by_path[image.path]
        if isinstance(one, str):
            predictions.append(Prediction(os.fsdecode(image.path), reason=one))
            continue
        decided = {decision.kind: _decide(decision, one.classes) for decision in decisions}
        shown, accuracy, coverage = tuple(one.classes[:top]), decided.get("accuracy"), decided.get("coverage")
        known = one.digest[:SHORT_HASH_BYTES] in trained_on
        predictions.append(Prediction(os.fsdecode(image.path), shown, "", one.novelty, accuracy, coverage, known))
    unknown = [Prediction(os.fsdecode(path), reason=reason) for path, reason in unread]
    result = Records([*predictions, *unknown])
    oddities = notes_on_oddities(classified.oddities, predicted=True)
    used = sum(prediction.in_training for prediction in predictions)
    text = "image(s) (was|were) used in training, where a model is too certain"
    on_training = [counted(used, text)] if used else []
    result.notes = [*_notes_on_decisions(decisions, result, bool(names)), *on_training, *oddities]
    return result


class _Classes(NamedTuple):
    """All classes of an image, the most probable first, its SHA-256 and its novelty."""

    classes: list[tuple[str, float | None]]
    digest: bytes
    novelty: float | None = None


class _Classified(NamedTuple):
    """The classes of every image by its path, or why it cannot be read; and the paths of images with an oddity."""

    by_path: dict[bytes, _Classes | str]
    oddities: dict[str, list[bytes]]


def _classify(file: ModelFile, files: Sequence[ImageFile], progress: Progress) -> _Classified:
    """Classify images from their pixels."""
    progress.start(len(files), "classifying")
    try:
        with file.classifying():
            fingerprint = file.source.fingerprint
            found, reasons = classify_images(file.path, fingerprint, ROOT, files, progress.advance)
    finally:
        progress.close()
    by_path: dict[bytes, _Classes | str] = {**reasons}
    for path, (row, digest) in found.items():
        file.require_probabilities(row[None], len(file.classes))
        by_path[path] = _Classes(_ranked(file.classes, row), digest)
    return _Classified(by_path, {})


def _embed_and_classify(
    file: ModelFile,
    files: Sequence[ImageFile],
    cache: FeatureCache | None,
    weights: Path | str | None,
    engine: str,
    views: Sequence[str],
    progress: Progress,
) -> _Classified:
    """Embed images, or take their features from a cache, and classify them by the head."""
    source, detector = file.source, NoveltyDetector.of_metadata(file.metadata, file.name)
    rows: dict[bytes, Any] = (
        {} if cache is None else {content.tobytes(): row for row, content in enumerate(cache.files.hashes)}
    )
    head = file.predictor
    progress.start(len(files), "classifying")
    try:
        embedded = embed_files(files, source, weights, engine=engine, known_content=rows, advance=progress.advance)
    finally:
        progress.close()
    by_path: dict[bytes, _Classes | str] = {image.path: embedded[image.path].reason for image in files}
    readable = [image for image in files if not embedded[image.path].reason]
    if readable:
        paths = [image.path for image in readable]
        features = _features(paths, embedded, cache)
        view_sources = [replace(source, fingerprint=source.fingerprint | {"view": name}) for name in views]
        others = [_features(paths, embed_files(readable, view, weights, engine=engine), None) for view in view_sources]
        with file.classifying():
            novelty = [None] * len(paths) if detector is None else detector.novelty(features).tolist()
            ranked = _classes(file, head, [features, *others])
        digests = [embedded[path].digest for path in paths]
        by_path |= {path: _Classes(*one) for path, *one in zip(paths, ranked, digests, novelty, strict=True)}
    oddities: dict[str, list[bytes]] = defaultdict(list)
    for image in readable:
        for name in embedded[image.path].oddities:
            oddities[name].append(image.path)
    return _Classified(by_path, oddities)


def embed_files(
    files: Sequence[ImageFile],
    source: FeatureSource,
    weights: Path | str | None = None,
    *,
    engine: str = "auto",
    known_content: KnownContent | None = None,
    advance: Callable[[int], None] = lambda count: None,
) -> dict[bytes, EmbedResult]:
    """Embed images with absolute paths as the training images of a model were embedded; return the results by path."""
    recipe = recipe_of(source, weights)
    prepared = make_engine(engine, recipe)
    source.require_same(recipe.fingerprint(prepared.hashes))
    results: dict[bytes, EmbedResult] = {}

    def collect(segment: list[EmbedResult]) -> None:
        results.update((result.image.path, result) for result in segment)

    workers = prepared.default_workers()
    ordered = sorted(files, key=lambda image: reading_order(ROOT, image.path))
    embed_images(ROOT, ordered, known_content or {}, recipe, prepared, workers, collect, advance)
    return results


def _features(paths: list[bytes], embedded: dict[bytes, EmbedResult], cache: FeatureCache | None) -> Any:
    """Return the features of images, those that a cache holds read from it: float32, shape (n, d)."""
    rows = [embedded[path].copy_of for path in paths]
    cached = iter(() if cache is None else cache[np.array([row for row in rows if row is not None], np.intp)])
    features: list[Any] = [
        embedded[path].features if row is None else next(cached) for path, row in zip(paths, rows, strict=True)
    ]
    return np.stack(features)


def _decide(decision: Decision, classes: Sequence[tuple[str, float | None]]) -> Any:
    """Return whether to answer, or the set of labels, by all classes of an image."""
    probable = [name for name, probability in classes if probability is not None and probability >= decision.threshold]
    first = classes[0][0]
    if decision.kind == "accuracy":
        return ANSWER if first in probable else ASK
    return tuple(dict.fromkeys([first, *probable]))


def _notes_on_decisions(decisions: Sequence[Decision], predictions: Sequence[Prediction], views: bool) -> list[str]:
    """Return how many images are for a person, and a note if probabilities are others than in training."""
    notes = []
    for one in decisions:
        readable = [prediction for prediction in predictions if not prediction.reason]
        if one.kind == "accuracy":
            asked = sum(prediction.decision == ASK for prediction in readable)
            below = f", with a probability below {one.threshold:.4g}" if asked else ""
            notes.append(f"{asked:,} of {len(readable):,} images are for a person{below}")
        else:
            several = sum(len(prediction.labels or ()) > 1 for prediction in readable)
            notes.append(f"{several:,} of {len(readable):,} images have several possible labels")
    if decisions and views:
        notes.append("decisions were chosen without augmented views, so they promise nothing with them")
    return notes


def _classes(file: ModelFile, head: Any, features: list[Any]) -> list[list[tuple[str, float | None]]]:
    """Return all classes, the most probable first, by the features of images, and those of their views, if any."""
    predicted = [str(name) for name in head.predict(features[0])]
    if not hasattr(head, "predict_proba"):
        return [[(name, None)] for name in predicted]
    names = [str(name) for name in head.classes_]
    probabilities = np.mean([head.predict_proba(rows) for rows in features], axis=0)
    file.require_probabilities(probabilities, len(names))
    if len(features) > 1:
        predicted = [names[index] for index in probabilities.argmax(axis=1)]
    ranked: list[list[tuple[str, float | None]]] = []
    for name, row in zip(predicted, probabilities, strict=True):
        ranked.append(sorted(_ranked(names, row), key=lambda one: one[0] != name))
    return ranked


def _ranked(names: Sequence[str], probabilities: Any) -> list[tuple[str, float | None]]:
    """Return all classes with their probabilities (k,), the most probable first."""
    return [(names[index], float(probabilities[index])) for index in np.argsort(-probabilities, kind="stable").tolist()]
