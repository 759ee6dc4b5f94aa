"""The class of images by a saved model: embedded as the training images were, then handed to its head."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ...cache import FeatureCache, display
from ...errors import HeadError, ModelFileError, check_int
from ...extract import (
    EmbedResult,
    ImageFile,
    KnownContent,
    embed_images,
    find_images,
    format_of,
    recipe_of,
    require_same_fingerprint,
    view_names,
)
from ...extract.engines import make_engine
from ...heads.io import load_head, load_plain, read_metadata
from .image_model import FeatureSource, open_same_cache
from .novelty import NoveltyDetector


@dataclass
class Prediction:
    """What a model says of one image.

    Attributes
    ----------
    path : str
    classes : list of (str, float or None)
        The most probable classes with their probabilities, the predicted one first; a head without probabilities
        gives the predicted class alone, with None. Empty for an image that could not be read.
    reason : str
        Why there is no prediction.
    novelty : float or None
        Its distance from the training images in units of that which one in a thousand of these exceeds, see
        :class:`embedonce.evaluate.models.novelty.NoveltyDetector`; None where the model does not know.
    """

    path: str
    classes: list[tuple[str, float | None]] = field(default_factory=list)
    reason: str = ""
    novelty: float | None = None

    @property
    def unlike_training(self) -> bool:
        """Whether the image is farther from the training images than nearly all of these."""
        return self.novelty is not None and self.novelty > 1

    def as_dict(self) -> dict[str, Any]:
        """Return it JSON-serialisable."""
        if self.reason:
            return {"path": self.path, "error": self.reason}
        best = [{"class": name, "probability": share} for name, share in self.classes]
        first = {"path": self.path, "class": self.classes[0][0], "probability": self.classes[0][1], "classes": best}
        return first | {"novelty": self.novelty, "unlike_training": self.unlike_training}


def predict(
    model: Path | str,
    images: Sequence[Path | str] | Path | str,
    *,
    top: int = 1,
    cache: FeatureCache | Path | str | None = None,
    weights: Path | str | None = None,
    engine: str = "auto",
    trust: bool = False,
    views: str = "none",
    advance: Callable[[int], None] = lambda count: None,
) -> list[Prediction]:
    """Predict the class of images.

    Parameters
    ----------
    model : path-like
        Of ``embedonce train``.
    images : path-like or sequence of path-like
        Image files, and folders whose images are all taken, however deep. Names that begin with a dot are left out.
    top : int
        How many classes of each.
    cache : FeatureCache or path-like, optional
        Where features are taken from when it holds an image of the same content.
    weights : path-like, optional
        The backbone's weights, when they are not where the model says.
    engine : str
        What computes: see :func:`embedonce.extract_features`.
    trust : bool
        Allow a model file that runs code when loaded.
    views : {"none", "flips", "dihedral"}
        Average probabilities over the image and these views of it, which takes as many times as long.
    advance : callable
        Called with a number of images that are done.

    Returns
    -------
    list of Prediction
        In the order given, folders by path. An image that cannot be read has a reason; those of a folder whose formats
        are not read come last.

    Raises
    ------
    ModelFileError
        When the model cannot be read, needs ``trust``, or does not say how its features were made.
    WeightsError, FingerprintError
        When the backbone is gone or is another one.
    ImageFolderError
        When there is no such file or folder, or a folder holds no image.
    HeadError
        If a head without probabilities is to average over augmented views.
    ParameterError
        If ``top`` is not an integer of at least 1, or the augmented views are unknown.
    """
    check_int("top", "predict", top, 1)
    files, unread = find_images([images] if isinstance(images, (str, os.PathLike)) else images)
    metadata = read_metadata(model)
    origin = origin_of(model, metadata)
    turned = [_view(origin, name) for name in view_names(views)]
    detector = NoveltyDetector.of_metadata(metadata, origin.shown)
    head = load_plain(model) or load_head(model, trust=trust)
    opened = None if cache is None else open_same_cache(cache, origin.fingerprint)
    known: dict[bytes, Any] = (
        {} if opened is None else {digest.tobytes(): row for row, digest in enumerate(opened.files.hashes)}
    )
    found = embed_files(files, origin, weights, engine=engine, known=known, advance=advance)
    good = [file for file in files if not found[file.path].reason]
    rows = [file.path for file in good]
    said: dict[bytes, tuple[Any, float | None]] = {}
    if rows:
        features = _features(rows, found, opened)
        novelty = (
            [None] * len(rows) if detector is None else (detector.distances(features) / detector.threshold).tolist()
        )
        of_views = [_features(rows, embed_files(good, view, weights, engine=engine), None) for view in turned]
        said = dict(zip(rows, zip(_classes(head, [features, *of_views], top), novelty, strict=True), strict=True))
    nothing: tuple[Any, float | None] = ([], None)
    predictions = [
        Prediction(os.fsdecode(file.path), classes, found[file.path].reason, distance)
        for file in files
        for classes, distance in [said.get(file.path, nothing)]
    ]
    reason = "its format {} is not known; convert it to JPEG or PNG"
    return predictions + [Prediction(os.fsdecode(path), reason=reason.format(format_of(path))) for path in unread]


def origin_of(model: Path | str, metadata: dict[str, Any]) -> FeatureSource:
    """Return what the metadata of a model file say about how its features were made.

    Raises
    ------
    ModelFileError
        When they say nothing.
    """
    shown = f"the model {display(str(model))}"
    if not metadata.get("fingerprint"):
        raise ModelFileError(f"{shown} does not say how its features were made; train it with embedonce train")
    kept = ("weights", "weights_path", "cache_path")
    provenance = {name: metadata[name] for name in kept if metadata.get(name)}
    if metadata.get("finetuned"):
        shown += f", fine-tuned with a backbone of its own (extract with --weights {display(str(model))}),"
        provenance["weights_path"] = str(model)  # the only place where that backbone is
    return FeatureSource(metadata["fingerprint"], provenance, shown)


def embed_files(
    files: Sequence[ImageFile],
    origin: FeatureSource,
    weights: Path | str | None = None,
    *,
    engine: str = "auto",
    known: KnownContent | None = None,
    advance: Callable[[int], None] = lambda count: None,
) -> dict[bytes, EmbedResult]:
    """Embed images as the training images of a model were embedded.

    Parameters
    ----------
    files : sequence of ImageFile
        With absolute paths.
    origin : Origin
    weights, engine, advance
        See :func:`predict`.
    known : mapping, optional
        Content hashes of images that need not be embedded, and their rows.

    Returns
    -------
    dict
        By path.
    """
    recipe = recipe_of(origin, weights)
    made = make_engine(engine, recipe)
    require_same_fingerprint(origin.fingerprint, recipe.fingerprint(made.hashes), origin.shown)
    found: dict[bytes, EmbedResult] = {}

    def keep(done: list[EmbedResult]) -> None:
        found.update((one.image.path, one) for one in done)

    embed_images(Path(os.sep), list(files), known or {}, recipe, made, made.default_workers(), keep, advance)
    return found


def _features(paths: list[bytes], found: dict[bytes, EmbedResult], cache: FeatureCache | None) -> Any:
    """Return the features of images, those that a cache holds read from it: float32, shape (n, d)."""
    stored = [found[path].copy_of for path in paths]
    copies = iter(() if cache is None else cache.take(np.array([row for row in stored if row is not None], np.intp)))
    features: list[Any] = [
        found[path].features if row is None else next(copies) for path, row in zip(paths, stored, strict=True)
    ]
    return np.stack(features)


def _view(origin: FeatureSource, name: str) -> FeatureSource:
    """Return how the features of a view are made."""
    return FeatureSource(origin.fingerprint | {"view": name}, origin.provenance, origin.shown)


def _classes(head: Any, features: list[Any], top: int) -> list[list[tuple[str, float | None]]]:
    """Return the most probable classes by the features of images and of views of them."""
    predicted = [str(name) for name in head.predict(features[0])]
    if not hasattr(head, "predict_proba"):
        if len(features) > 1:
            raise HeadError("parameter views of predict must be 'none' for a head without probabilities to average")
        return [[(name, None)] for name in predicted]
    names = [str(name) for name in head.classes_]
    shares = np.mean([head.predict_proba(rows) for rows in features], axis=0)
    if len(features) > 1:
        predicted = [names[place] for place in shares.argmax(axis=1)]
    answers: list[list[tuple[str, float | None]]] = []
    for name, row in zip(predicted, shares, strict=True):
        by_share = np.argsort(-row, kind="stable")
        ordered = [names.index(name), *(place for place in by_share.tolist() if names[place] != name)]
        answers.append([(names[place], float(row[place])) for place in ordered[:top]])
    return answers
