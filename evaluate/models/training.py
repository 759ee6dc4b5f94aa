"""Training one head and keeping it: the head's file, its held-out scores, its curves."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from ...cache import FeatureCache, display, make_folder
from ...errors import ModelSuffixError
from ...heads import make_head
from ...heads.io import keras_head, save_head, suffixes_for
from ..duplicates import groups_for
from ..scoring import HeadResult, Views, approximations, fit_and_score, fit_head, open_views
from ..splits import Groups, GroupsLike, Split, SplitLike, every_row, make_split, notes_on
from .image_model import (
    FeatureSource,
    build_image_model,
    pixels_notes,
    proof_of_cache,
    require_float32,
    save_image_model,
)
from .novelty import NoveltyDetector
from .training_images import SEEN_BYTES


@dataclass
class TrainedHead:
    """A head that was trained and written.

    Attributes
    ----------
    head : sklearn classifier
    path : Path
        The model file.
    split : Split
    result : HeadResult or None
        Scores on the test part; None when every image was trained on.
    fit_seconds : float
    checked : int or None
        Images on which the written image model was compared with the cached features; None for a file
        that holds the head alone.
    notes : list of str
    curves : Path or None
        The figure of accuracy and loss per epoch.
    """

    head: Any
    path: Path
    split: Split
    result: HeadResult | None
    fit_seconds: float
    checked: int | None
    notes: list[str]
    curves: Path | None = None


def train(
    cache: FeatureCache,
    head_name: str,
    path: Path,
    *,
    parameters: dict[str, Any] | None = None,
    split: SplitLike = "random",
    seed: int = 0,
    weights: str | Path | None = None,
    groups: GroupsLike | None = None,
    views: str | None = None,
) -> TrainedHead:
    """Train a head on a cache and write it to a file.

    The softmax head is written as a whole Keras model from image to class, after it was checked on real
    images; other heads as the fitted head.

    Parameters
    ----------
    cache : FeatureCache
    head_name : str
        As :func:`embedonce.make_head` takes it.
    path : Path
        ``.keras`` for softmax; ``.skops`` (or ``.joblib``) for the others.
    parameters : dict, optional
        Of the head.
    split : str, path-like, Split, pair of arrays, splitter or list, default="random"
        One split, as :func:`embedonce.compare` takes it, or ``none`` to train on every image without scores.
    seed : int
        Of the random or grouped split.
    weights : str or path-like, optional
        The backbone's weights for an image model, when they are not where the cache says.
    groups : Groups or path-like, optional
        See :func:`embedonce.compare`. A head that calibrates by cross-validation keeps them together too.
    views : {"train", "average", "both"}, optional
        Train on the views of the training images too, or average probabilities over them for the scores: see
        :func:`embedonce.compare`. The model keeps which views it was trained on.

    Raises
    ------
    HeadError, SplitError, ModelFileError, WeightsError, OutputError
        An older file at ``path`` stays as it was.
    """
    head = make_head(head_name, **(parameters or {}))
    allowed = suffixes_for(head)
    if path.suffix.lower() not in allowed:
        raise ModelSuffixError(
            f"the model file of head {head_name!r} must end in {' or '.join(allowed)}, got {display(str(path))}"
        )
    if path.suffix.lower() == ".keras":
        require_float32(FeatureSource.of_cache(cache))
    turned = open_views(cache, views)
    make_folder(path.parent, "the model")  # before the work, not after it
    known, group_notes = groups_for(cache, groups, split)
    parts = every_row(cache) if isinstance(split, str) and split == "none" else make_split(cache, split, seed, known)
    result, seconds = _fit(head_name, head, cache, parts, known, turned)
    metadata = model_metadata(cache, parts, head_name, result)
    metadata["views"] = list(turned.names) if turned is not None and turned.train else []
    metadata["novelty"] = _novelty(cache, parts, known).as_dict()
    checked = None
    if path.suffix.lower() == ".keras":
        checked = _write_image_model(head, cache, path, metadata, weights)
    else:
        save_head(head, path, metadata)
    notes = (
        group_notes
        + ([turned.note] if turned is not None else [])
        + notes_on(cache, parts)
        + approximations({head_name: head})
    )
    if checked is not None:
        notes += pixels_notes(FeatureSource.of_cache(cache))
    if checked == 0:
        notes.append("the image model was not checked on images: the cache's image folder is gone or has changed")
    trained = TrainedHead(head, path, parts, result, seconds, checked, notes)
    history = getattr(head, "history_", None)
    if history:
        from ..shared import history_figure, save_figure

        trained.curves = path.with_name(f"{path.stem}.curves.png")
        save_figure(history_figure({head_name: history}), trained.curves)
    return trained


def _fit(
    name: str, head: Any, cache: FeatureCache, split: Split, groups: Groups | None, views: Views | None
) -> tuple[HeadResult | None, float]:
    if len(split.test):
        result = fit_and_score(name, head, cache, split, groups, views)
        return result, result.fit_seconds
    return None, fit_head(head, cache, split, groups, views)


def _novelty(cache: FeatureCache, split: Split, groups: Groups | None) -> NoveltyDetector:
    """Describe the training images of a split."""
    together = None if groups is None else groups.ids[split.train]
    codes = cache.labels[split.train].astype(np.intp)
    return NoveltyDetector.fit(lambda rows: cache.take(split.train[rows]), codes, together)


def _write_image_model(
    head: Any, cache: FeatureCache, path: Path, metadata: dict[str, Any], weights: str | Path | None
) -> int:
    model = build_image_model(keras_head(head), FeatureSource.of_cache(cache), weights)
    proof = proof_of_cache(head, cache)
    save_image_model(model, path, proof, metadata, head)
    return len(proof.images)


def model_metadata(cache: FeatureCache, split: Split, head_name: str, result: HeadResult | None) -> dict[str, Any]:
    """Return what a model file says about its origin, JSON-serialisable.

    ``trained_on`` holds the first 8 bytes of the content hash of every training image, so that an
    evaluation can tell which images the head has seen, whatever they are called by then.
    """
    return {
        "embedonce": version("embedonce"),
        "head": head_name,
        "class_names": cache.class_names,
        "fingerprint": cache.fingerprint,
        "weights": cache.provenance.get("weights"),
        "weights_path": cache.provenance.get("weights_path"),
        "cache_path": str(cache.path.resolve()),
        "split": split.to_dict(),
        "scores": result.scores if result is not None else None,
        "trained_on": cache.files.hashes[split.train, :SEEN_BYTES].tobytes().hex(),
    }
