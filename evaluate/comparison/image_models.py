"""Whole image models beside frozen heads: scored on the images of the same test rows, where that is fair."""

from __future__ import annotations

import os
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ...cache import FeatureCache, display
from ...errors import HeadError, ImageError, ModelFileError, ParameterError, SplitError
from ...extract import NullProgress, Progress, decode, least_size
from ..metrics import align_probabilities, score
from ..models import ModelFile, short_hashes
from ..scoring import HeadResult
from ..shared import image_folder, read_unchanged
from ..splits import Groups, Split

BATCH_SIZE = 32


@dataclass
class ImageModel:
    """A file from image to class, as a comparison knows it.

    Attributes
    ----------
    file : ModelFile
    """

    file: ModelFile

    @property
    def name(self) -> str:
        """The file's name, which a comparison calls it by."""
        return self.file.path.name

    @property
    def history_(self) -> dict[str, list[float]] | None:
        """History of its fine-tuning."""
        history: dict[str, list[float]] | None = self.file.metadata.get("finetuned", {}).get("history")
        return history

    @property
    def fit_seconds(self) -> float:
        """Seconds of its fine-tuning, as the file says; 0 for a model that was not fine-tuned."""
        return float(self.file.metadata.get("finetuned", {}).get("seconds", 0.0))

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return what results say of it in the place of a head's parameters."""
        about = self.file.metadata.get("finetuned", {})
        shown = ("unfrozen", "learning_rate", "augment", "batch_size", "random_state", "best_epoch", "images")
        parameters = {"file": str(self.file.path), "head": self.file.metadata.get("head")}
        return parameters | {name: about[name] for name in shown if name in about}

    def seen(self, cache: FeatureCache) -> npt.NDArray[np.bool_]:
        """Return which rows of a cache hold an image that it was trained on: bool, shape (n,)."""
        return self.file.training_mask(cache)


def open_models(
    paths: Sequence[Path | str] | Path | str, cache: FeatureCache, heads: Collection[str]
) -> list[ImageModel]:
    """Open the files that a comparison was given, before anything is trained.

    Parameters
    ----------
    paths : path-like or sequence of path-like
    cache : FeatureCache
    heads : collection of str
        The other names in the comparison.

    Returns
    -------
    list of ImageModel

    Raises
    ------
    ModelFileError
        When a file is no image model of ours, or does not say what it was trained on.
    HeadError
        When it knows other classes than the cache, or its name is taken.
    """
    if isinstance(paths, (str, os.PathLike)):
        paths = [paths]
    models: list[ImageModel] = []
    for path in map(Path, paths):
        file = ModelFile.open(path)
        metadata = file.metadata
        if path.suffix.lower() != ".keras" or not metadata.get("fingerprint") or not metadata.get("class_names"):
            raise ModelFileError(
                "parameter image_models of compare must be .keras files of embedonce export or finetune, from image to "
                f"class, got {file.name}"
            )
        if not file.training_hashes:
            raise ModelFileError(f"{file.name} does not say which images it was trained on, so it cannot be compared")
        theirs = sorted(map(str, metadata["class_names"]))
        if theirs != sorted(cache.class_names):
            raise HeadError(
                f"{file.name} knows the classes {', '.join(map(display, theirs))}. To be compared it must know those "
                f"of the cache, {', '.join(map(display, cache.class_names))}"
            )
        model = ImageModel(file)
        if model.name in {*heads, *(other.name for other in models)}:
            raise ParameterError(
                f"parameter image_models of compare names {model.name!r} twice. Rename one of the files"
            )
        models.append(model)
    return models


def choose_splits(
    models: Sequence[ImageModel], cache: FeatureCache, plans: Sequence[Sequence[Split]], groups: Groups | None
) -> tuple[list[list[ImageModel]], list[str]]:
    """Return the models that each plan can fairly test, and what to know of it.

    A model must not have been trained on a test image, nor on a group mate of one, where the heads that are trained
    on the split's training part are not either.

    Parameters
    ----------
    models : sequence of ImageModel
    cache : FeatureCache
    plans : sequence of sequence of Split
        As :func:`embedonce.evaluate.comparison.run.plan_splits` returns them.
    groups : Groups, optional

    Raises
    ------
    SplitError
        When a model cannot be tested on the first plan, or there are folds.
    """
    if models and len(plans[0]) > 1:
        raise SplitError(
            f"parameter image_models of compare is for one split, since {models[0].name!r} was trained once and folds "
            "test every image; leave out folds"
        )
    chosen: list[list[ImageModel]] = [[] for _ in plans]
    for number, (split, *_) in enumerate(plans):
        for model in models:
            known = int(_flattered(model, split, cache, groups).sum())
            if known and not number:
                raise SplitError(_refusal(model, split, known))
            if not known:
                chosen[number].append(model)
    return chosen, _notes(models, chosen, cache, plans)


def score_model(model: ImageModel, cache: FeatureCache, split: Split, progress: Progress | None = None) -> HeadResult:
    """Score a model on the images of a split's test rows.

    Parameters
    ----------
    model : ImageModel
    cache : FeatureCache
    split : Split
    progress : Progress, optional

    Raises
    ------
    ImageError
        When an image is gone or is not the one that was embedded.
    ModelFileError
        When Keras cannot load the file, or it gives something else than probabilities.
    """
    rows, shown = split.test, progress if progress is not None else NullProgress()
    whole = _load(model)
    begin = time.perf_counter()
    shown.start(len(rows), f"classifying by {model.name}")
    try:
        probabilities = _classify(whole, model, cache, rows, shown)
    finally:
        shown.close()
    seconds = time.perf_counter() - begin
    names = np.array([str(name) for name in model.file.metadata["class_names"]], object)
    if probabilities.shape != (len(rows), len(names)) or not np.isfinite(probabilities).all():
        raise ModelFileError(f"{model.file.name} does not give probabilities of its classes")
    # float32 sums to 1 only nearly
    shares = probabilities / probabilities.sum(axis=1, keepdims=True)
    aligned = align_probabilities(shares, names, cache.class_names)
    predicted = aligned.argmax(axis=1).astype(np.intp)
    scores = score(cache.labels[rows].astype(np.intp), predicted, aligned, cache.class_names)
    return HeadResult(model.name, model, predicted, aligned, scores, model.fit_seconds, seconds)


def _flattered(model: ImageModel, split: Split, cache: FeatureCache, groups: Groups | None) -> npt.NDArray[np.bool_]:
    """Return which test rows the model knows, or knows a group mate of, while a head of the split does not."""
    seen = model.seen(cache)
    known = short_hashes(cache)
    learnt = {known[row] for row in split.train}
    unfair = seen & np.array([content not in learnt for content in known], np.bool_)
    if groups is not None:
        mates = np.isin(groups.ids, groups.ids[seen]) & ~np.isin(groups.ids, groups.ids[split.train])
        unfair |= mates
    found: npt.NDArray[np.bool_] = unfair[split.test]
    return found


def _notes(
    models: Sequence[ImageModel],
    chosen: Sequence[Sequence[ImageModel]],
    cache: FeatureCache,
    plans: Sequence[Sequence[Split]],
) -> list[str]:
    """Return what to know of models in a comparison, in few sentences."""
    notes = []
    for (split, *_), taken in zip(plans, chosen, strict=True):
        left_out = [display(model.name) for model in models if model not in taken]
        if left_out:
            verb = "takes" if len(left_out) == 1 else "take"
            notes.append(
                f"{', '.join(left_out)} {verb} no part in the {split.method} split, since its test part holds images "
                "of their training or copies of them"
            )
    train = plans[0][0].train
    for model in models:
        trained = int(model.seen(cache)[train].sum())
        if trained < len(train):
            notes.append(f"{display(model.name)} was trained on {trained:,} of the {len(train):,} training images")
    if models:
        unknown = [display(model.name) for model in models if not model.fit_seconds]
        notes.append(
            f"{', '.join(display(model.name) for model in models)}: the time to predict is from image file to class, "
            "that of the heads from features; the time to fit is that of the fine-tuning, as the file says"
            + (f" (none for {', '.join(unknown)})" if unknown else "")
        )
    return notes


def _refusal(model: ImageModel, split: Split, known: int) -> str:
    own = model.file.metadata.get("split") or {}
    advice = "give a split whose test part it has not seen"
    if own.get("method") in ("random", "grouped"):
        advice = f"it was trained on the {own['method']} split of seed {own.get('seed')}: give --split {own['method']} "
        advice += f"--seed {own.get('seed')}, or train it again with --split {split.method}"
    elif own.get("method") == "file":
        advice = "it was trained on the training part of a split file: give that with --split"
    return (
        f"{model.file.name} was trained on {known:,} of the {len(split.test):,} test images of the "
        f"{split.method} split, or on copies of them; {advice}"
    )


def _load(model: ImageModel) -> Any:
    whole = model.file.keras_model()
    if len(getattr(whole, "input_shape", None) or ()) != 4:
        raise ModelFileError(f"{model.file.name} takes no images; write a whole image model with embedonce export")
    return whole


def _classify(
    whole: Any, model: ImageModel, cache: FeatureCache, rows: npt.NDArray[np.intp], progress: Progress
) -> npt.NDArray[np.float64]:
    """Return the probabilities of images in their own sizes; those of one size in a row go in together."""
    root, least = image_folder(cache), least_size(model.file.metadata["fingerprint"])
    answers: list[npt.NDArray[np.float64]] = []
    waiting: list[npt.NDArray[np.uint8]] = []

    def flush() -> None:
        if waiting:
            answers.append(np.asarray(whole.predict_on_batch(np.stack(waiting)), np.float64))
            progress.advance(len(waiting))
            waiting.clear()

    for row in rows.tolist():
        try:
            pixels = decode(read_unchanged(cache, root, row), least)
        except ImageError as error:
            raise ImageError(
                f"{display(model.name)} must see every test image, but {display(cache.paths[row])} in "
                f"{display(str(root))}: {error}; bring it back, or run embedonce extract again"
            ) from error
        if waiting and (len(waiting) == BATCH_SIZE or waiting[0].shape != pixels.shape):
            flush()
        waiting.append(pixels)
    flush()
    return np.concatenate(answers)
