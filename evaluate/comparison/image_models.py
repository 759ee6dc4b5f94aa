"""Image models in a comparison: scored on the images of the test rows of the heads, where that is fair."""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ...cache import FeatureCache, display
from ...errors import HeadError, ImageError, ModelFileError, ParameterError, SplitError, check_paths
from ...extract import Progress, decoder_of
from ..metrics import align_probabilities, score
from ..models import ModelFile, short_hashes
from ..scoring import HeadResult
from ..shared import image_folder, read_unchanged
from ..splits import Groups, Split, SplitPlan

BATCH_SIZE = 32


@dataclass(frozen=True)
class ImageModel:
    """An image model of a comparison."""

    file: ModelFile

    @property
    def name(self) -> str:
        """The file's name."""
        return self.file.path.name

    @property
    def history_(self) -> dict[str, list[float]] | None:
        """History of its fine-tuning."""
        history: dict[str, list[float]] | None = (self.file.metadata.get("finetuned") or {}).get("history")
        return history

    @property
    def fit_seconds(self) -> float:
        """Seconds of its fine-tuning; 0 for a model that was not fine-tuned."""
        return float((self.file.metadata.get("finetuned") or {}).get("seconds", 0.0))

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return the values that results hold in place of the parameters of a head."""
        about = self.file.metadata.get("finetuned") or {}
        names = ("unfrozen", "learning_rate", "augment", "batch_size", "random_state", "best_epoch", "images")
        parameters = {"file": str(self.file.path), "head": self.file.metadata.get("head")}
        return parameters | {name: about[name] for name in names if name in about}


def open_models(
    paths: Sequence[Path | str] | Path | str, cache: FeatureCache, heads: Collection[str]
) -> list[ImageModel]:
    """Read the metadata of image models; their names must differ from those of the heads."""
    models: list[ImageModel] = []
    for path in check_paths("image_models", "compare", paths):
        file = ModelFile.open(path)
        metadata = file.metadata
        if path.suffix.lower() != ".keras" or not metadata.get("fingerprint") or not metadata.get("class_names"):
            raise ModelFileError(
                "parameter image_models of compare must be .keras files of embedonce export or finetune, from image to "
                f"class, got {file.name}"
            )
        if not file.training_hashes:
            raise ModelFileError(f"{file.name} does not list its training images, so it cannot be compared")
        classes = sorted(map(str, metadata["class_names"]))
        if classes != sorted(cache.class_names):
            raise HeadError(
                f"{file.name} must have the classes of the cache, {', '.join(map(display, cache.class_names))}, got "
                f"{', '.join(map(display, classes))}"
            )
        model = ImageModel(file)
        if model.name in {*heads, *(other.name for other in models)}:
            raise ParameterError(
                f"parameter image_models of compare names {model.name!r} twice. Rename one of the files"
            )
        models.append(model)
    return models


def choose_splits(
    models: Sequence[ImageModel], cache: FeatureCache, plans: Sequence[SplitPlan], groups: Groups | None
) -> tuple[list[list[ImageModel]], list[str]]:
    """Return the models that each plan can test fairly, and notes; the first plan must be able to test all."""
    # fair: not trained on a test image or its group, unless the heads that are trained on the split are, too
    if models and plans[0].has_folds:
        raise SplitError(
            f"parameter image_models of compare needs one split, because {models[0].name!r} was trained once and folds "
            "test every image. Leave out folds"
        )
    chosen: list[list[ImageModel]] = [[] for _ in plans]
    for plan, fair in zip(plans, chosen, strict=True):
        for model in models:
            leaked = int(_leaked(model, plan[0], cache, groups).sum())
            if leaked and plan is plans[0]:
                raise SplitError(_refusal(model, plan[0], leaked))
            if not leaked:
                fair.append(model)
    return chosen, _notes(models, chosen, cache, plans)


def score_model(model: ImageModel, cache: FeatureCache, split: Split, progress: Progress | None = None) -> HeadResult:
    """Score a model on the images of a split's test rows."""
    rows, progress = split.test, progress if progress is not None else Progress()
    network = model.file.keras_model()
    if len(getattr(network, "input_shape", None) or ()) != 4:
        raise ModelFileError(f"{model.file.name} takes no images. Write an image model with embedonce export")
    begin = time.perf_counter()
    progress.start(len(rows), f"classifying by {model.name}")
    try:
        with model.file.classifying():
            probabilities = _classify(network, model, cache, rows, progress)
    finally:
        progress.close()
    seconds = time.perf_counter() - begin
    names = np.array([str(name) for name in model.file.metadata["class_names"]], object)
    if probabilities.shape != (len(rows), len(names)) or not np.isfinite(probabilities).all():
        raise ModelFileError(f"{model.file.name} does not give probabilities of its classes")
    probabilities /= probabilities.sum(axis=1, keepdims=True)  # sums of float32 are not exactly 1
    aligned = align_probabilities(probabilities, names, cache.class_names)
    predicted = aligned.argmax(axis=1).astype(np.intp)
    scores = score(cache.labels[rows].astype(np.intp), predicted, aligned, cache.class_names)
    return HeadResult(model.name, model, predicted, aligned, scores, model.fit_seconds, seconds)


def _leaked(model: ImageModel, split: Split, cache: FeatureCache, groups: Groups | None) -> npt.NDArray[np.bool_]:
    """Return which test rows leaked into the training of a model and not into that of the split's heads."""
    trained = model.file.training_mask(cache)
    hashes = short_hashes(cache)
    of_heads = {hashes[row] for row in split.train}
    leaked = trained & np.array([content not in of_heads for content in hashes], np.bool_)
    if groups is not None:
        leaked |= np.isin(groups.ids, groups.ids[trained]) & ~np.isin(groups.ids, groups.ids[split.train])
    of_test: npt.NDArray[np.bool_] = leaked[split.test]
    return of_test


def _notes(
    models: Sequence[ImageModel],
    chosen: Sequence[Sequence[ImageModel]],
    cache: FeatureCache,
    plans: Sequence[SplitPlan],
) -> list[str]:
    notes = []
    for plan, fair in zip(plans, chosen, strict=True):
        left_out = [display(model.name) for model in models if model not in fair]
        if left_out:
            verb = "is" if len(left_out) == 1 else "are"
            notes.append(
                f"{', '.join(left_out)} {verb} not tested on the {plan.method} split, because its test part holds "
                f"training images of the model{_or_related(plan[0])}"
            )
    train = plans[0][0].train
    for model in models:
        trained = int(model.file.training_mask(cache)[train].sum())
        if trained < len(train):
            notes.append(f"{display(model.name)} was trained on {trained:,} of the {len(train):,} training images")
    if models:
        unknown = [display(model.name) for model in models if not model.fit_seconds]
        notes.append(
            f"{', '.join(display(model.name) for model in models)}: predict time includes decoding and the backbone; "
            "fit time is that of the fine-tuning" + (f" (unknown for {', '.join(unknown)})" if unknown else "")
        )
    return notes


def _refusal(model: ImageModel, split: Split, leaked: int) -> str:
    trained = model.file.metadata.get("split") or {}
    advice = "Give a split whose test part it was not trained on"
    if trained.get("method") in ("random", "grouped"):
        given = f"--split {trained['method']} --seed {trained.get('seed')}"
        advice = f"Give {given}, on which it was trained, or train it again with --split {split.method}"
    elif trained.get("method") == "file":
        advice = "Give the split file on which it was trained with --split"
    return (
        f"{model.file.name} was trained on {leaked:,} of the {len(split.test):,} test images of the "
        f"{split.method} split{_or_related(split, ', or on')}. {advice}"
    )


def _or_related(split: Split, words: str = " or") -> str:
    """Return words for the images that the groups add to training images."""
    if split.groups is None:
        return ""
    related = "near-duplicates of them" if split.has_near_duplicates else "images of their groups"
    return f"{words} {related}"


def _classify(
    network: Any, model: ImageModel, cache: FeatureCache, rows: npt.NDArray[np.intp], progress: Progress
) -> npt.NDArray[np.float64]:
    """Return the probabilities of images in their original sizes; consecutive images of one size are one batch."""
    root, decode = image_folder(cache), decoder_of(model.file.metadata["fingerprint"])
    probabilities: list[npt.NDArray[np.float64]] = []
    batch: list[npt.NDArray[np.uint8]] = []

    def flush() -> None:
        if batch:
            probabilities.append(np.asarray(network.predict_on_batch(np.stack(batch)), np.float64))
            progress.advance(len(batch))
            batch.clear()

    for row in rows.tolist():
        try:
            pixels = decode(read_unchanged(cache, root, row))
        except ImageError as error:
            raise ImageError(
                f"{display(model.name)} must classify every test image, but {display(cache.paths[row])} in "
                f"{display(str(root))}: {error}. Restore it, or run embedonce extract again"
            ) from error
        if batch and (len(batch) == BATCH_SIZE or batch[0].shape != pixels.shape):
            flush()
        batch.append(pixels)
    flush()
    return np.concatenate(probabilities)
