"""Scoring a saved model on a cache: by default on what it has not been trained on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ...cache import FeatureCache, display
from ...errors import HeadError, ModelFileError, SplitError
from ...extract import require_same_fingerprint
from ...heads.io import load_head, read_metadata
from ..scoring import HeadResult, score_head
from ..splits import read_split
from .prediction import origin_of
from .training_images import training_mask


@dataclass
class Evaluation:
    """A model's scores on a cache.

    Attributes
    ----------
    result : HeadResult
    rows : ndarray of intp
        Of the cache, that were scored.
    left_out : int
        Images that the model was trained on and that were not scored.
    notes : list of str
    """

    result: HeadResult
    rows: npt.NDArray[np.intp]
    left_out: int
    notes: list[str]


def evaluate_model(
    model: Path,
    cache: FeatureCache,
    *,
    split: Path | None = None,
    include_training: bool = False,
    trust: bool = False,
) -> Evaluation:
    """Score a model file on the images of a cache.

    Parameters
    ----------
    model : Path
    cache : FeatureCache
        Of the fingerprint that the model was trained on.
    split : Path, optional
        Score the test part of this split file.
    include_training : bool
        Score also the images that the model was trained on.
    trust : bool
        Allow a model file that runs code when loaded.

    Raises
    ------
    ModelFileError
        When the model cannot be read, or needs ``trust``.
    FingerprintError
        When the model was trained on features made in another way.
    HeadError
        When the cache has a class that the model does not know.
    SplitError
        When no image is left to score.
    """
    head = load_head(model, trust=trust)
    metadata = read_metadata(model)
    notes = []
    if metadata.get("fingerprint"):
        require_same_fingerprint(metadata["fingerprint"], cache.fingerprint, origin_of(model, metadata).shown)
    else:
        notes.append("the model file does not say which features it was trained on")
        _check_width(model, head, cache)
    unknown = sorted(set(cache.class_names) - {str(name) for name in head.classes_})
    if unknown:
        raise HeadError(
            f"the model {display(str(model))} knows the classes {', '.join(display(str(n)) for n in head.classes_)}; "
            f"the cache has also {', '.join(map(display, unknown))}; give the class folders the names that the model "
            "knows and run embedonce extract again, or train a model on this cache"
        )
    rows = np.arange(len(cache)) if split is None else read_split(split, cache).test
    seen = training_mask(cache, metadata)[rows]
    left_out = 0
    if include_training:
        notes.append(f"{int(seen.sum()):,} of the {len(rows):,} images were used in training")
    elif seen.any():
        left_out = int(seen.sum())
        rows = rows[~seen]
    if not len(rows):
        raise SplitError(
            "the model was trained on every one of these images; give a cache of others, or --include-training"
        )
    return Evaluation(score_head(str(metadata.get("head", model.stem)), head, cache, rows), rows, left_out, notes)


def _check_width(model: Path, head: Any, cache: FeatureCache) -> None:
    width = getattr(head, "n_features_in_", cache.shape[1])
    if width != cache.shape[1]:
        raise ModelFileError(f"the model {display(str(model))} takes {width} features, the cache has {cache.shape[1]}")
