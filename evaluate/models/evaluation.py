"""Scores of a saved model on a cache, by default on the images that it was not trained on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ...cache import FeatureCache, display, open_cache
from ...errors import HeadError, ModelFileError, SplitError, check_flag, check_path
from ...extract import Progress, as_progress
from ..duplicates import groups_for
from ..scoring import HeadResult, score_head
from ..splits import read_split
from .model_file import ModelFile, check_order


@dataclass(frozen=True)
class Evaluation:
    """Scores of a model on a cache.

    Attributes
    ----------
    result : HeadResult
    rows : ndarray of intp, shape (t,)
        Rows of the cache that were scored.
    left_out : int
        Number of images that the model was trained on and that were not scored.
    notes : list of str
    """

    result: HeadResult
    rows: npt.NDArray[np.intp]
    left_out: int
    notes: list[str]

    def to_dict(self) -> dict[str, Any]:
        """Return the scores as JSON-serialisable values."""
        counts = {"images": len(self.rows), "left_out": self.left_out}
        return counts | {"scores": self.result.scores, "notes": self.notes}

    def to_frame(self) -> Any:
        """Return the scores as a pandas DataFrame of one row."""
        return self.result.to_frame()


def evaluate_model(
    model: Path | str,
    cache: FeatureCache | Path | str,
    *,
    split: Path | str | None = None,
    include_training: bool = False,
    trust: bool = False,
    progress: Progress | None = None,
) -> Evaluation:
    """Score a model file on the images of a cache.

    Parameters
    ----------
    model : path-like
        Model file of `train`, `finetune` or `save_head`.
    cache : FeatureCache or path-like
        Features of the same fingerprint as those that the model was trained on.
    split : path-like, default=None
        Split file whose test part is scored.
    include_training : bool, default=False
        Score also the images that the model was trained on.
    trust : bool, default=False
        Allow a model file that runs code when it is loaded.
    progress : Progress, default=None
        Shows the search for near-duplicates; by default nothing.

    Returns
    -------
    Evaluation
        Its notes say how many of the images have a near-duplicate in training.

    Raises
    ------
    ModelFileError
        If the model cannot be read, or needs `trust`.
    FingerprintError
        If the model was trained on features of another fingerprint.
    HeadError
        If the cache has a class that the model does not know.
    SplitError
        If no image is left to score.

    See Also
    --------
    compare : Train and compare heads on one cache.
    predict : Classify images.

    Examples
    --------
    >>> import tempfile, numpy as np, embedonce as eo
    >>> X = np.random.default_rng(0).normal(size=(40, 8))
    >>> cache = eo.FeatureCache.from_arrays(X, ["ash", "birch"] * 20)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     model = eo.train(cache, "knn", f"{folder}/trees.npz")
    ...     evaluation = eo.evaluate_model(model.path, cache)
    >>> len(evaluation.rows), evaluation.left_out
    (4, 36)
    """
    check_order("evaluate_model", model, "CACHE", cache)
    check_flag("include_training", "evaluate_model", include_training)
    split_file = None if split is None else check_path("split", "evaluate_model", split)
    opened = open_cache(cache, "evaluate_model").labelled("evaluate_model")
    progress = as_progress(progress, "evaluate_model")
    file = ModelFile.open(model, trust)
    notes = []
    if file.metadata.get("fingerprint"):
        file.source.require_same(opened.fingerprint)
    else:
        notes.append("the model file does not say which features it was trained on")
        width = getattr(file.head, "n_features_in_", opened.shape[1])
        if width != opened.shape[1]:
            raise ModelFileError(f"{file.name} takes {width} features, the cache has {opened.shape[1]}")
    unknown = sorted(set(opened.class_names) - set(file.classes))
    if unknown:
        raise HeadError(
            f"{file.name} knows the classes {', '.join(map(display, file.classes))}; the cache has also "
            f"{', '.join(map(display, unknown))}. Give the class folders the names that the model knows and run "
            "embedonce extract again, or train a model on this cache"
        )
    rows = np.arange(len(opened)) if split_file is None else read_split(split_file, opened).test
    trained_on = file.training_mask(opened)[rows]
    left_out = 0
    if not file.training_hashes:
        notes.append("the model file does not say which images it was trained on, so none were left out")
    elif include_training:
        notes.append(f"{int(trained_on.sum()):,} of the {len(rows):,} images were used in training")
    else:
        left_out, rows = int(trained_on.sum()), rows[~trained_on]
    if not len(rows):
        raise SplitError(
            "the model was trained on every one of these images. Give a cache of others, or --include-training"
        )
    notes[:0] = _leakage_notes(file, opened, rows, progress)
    name = file.metadata.get("head") or file.path.stem
    head, n_classes = file.head, len({*opened.class_names, *file.classes})
    with file.classifying():
        result = score_head(name, head, opened, rows)
        file.require_probabilities(result.probabilities, n_classes)
    return Evaluation(result, rows, left_out, notes)


def _leakage_notes(
    file: ModelFile, cache: FeatureCache, rows: npt.NDArray[np.intp], progress: Progress | None
) -> list[str]:
    """Return notes on near-duplicates of training images among the rows, as far as these are in the cache."""
    trained_on = file.training_mask(cache)
    if not file.training_hashes:
        return []
    if not trained_on.any():
        return [
            "near-duplicates of training images were not searched, because these are not in the cache. Scores are too "
            "high if there are any"
        ]
    groups, notes = groups_for(cache, None, None, progress)
    if groups is None:
        return notes
    new = rows[~trained_on[rows]]
    leaked = int(np.isin(groups.ids[new], groups.ids[trained_on]).sum())
    if leaked:
        notes.insert(
            0,
            f"{leaked:,} of the {len(new):,} images that it was not trained on have a near-duplicate in training, so "
            "every score is too high. Train with a grouped split",
        )
    return notes
