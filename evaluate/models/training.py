"""Training one head and writing it to a file, with its held-out scores and its curves."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from ...cache import FeatureCache, display, make_folder, open_cache, refuse_input_as_output
from ...errors import ParameterError, check_mapping, check_path
from ...extract import Progress, as_progress
from ...heads import make_head
from ...heads.io import cache_metadata, keras_head, require_saveable, save_head
from ..duplicates import groups_for
from ..scoring import (
    EarlierRuns,
    HeadResult,
    fit_and_score,
    fit_head,
    notes_on_fits,
    open_views,
    record_scores,
    training_history,
    with_intervals,
)
from ..shared import Records, history_figure, replacing_files, try_figure
from ..splits import (
    GroupsLike,
    Split,
    SplitLike,
    check_class_sizes,
    check_test_fraction,
    every_row,
    notes_on,
    single_split,
)
from .decision_thresholds import choose_decisions, read_targets
from .decisions import Decision
from .image_model import build_image_model, decoding_notes, reference_of_cache, save_image_model
from .model_file import FeatureSource, names_model
from .novelty import NoveltyDetector


@dataclass(frozen=True)
class TrainedModel:
    """A head that was trained and written to a file.

    Attributes
    ----------
    head : scikit-learn classifier
        The fitted head.
    path : Path
        The model file.
    split : Split
    result : HeadResult or None
        Scores on the test part; None if every image was trained on.
    fit_seconds : float
    checked : int or None
        Number of images on which the written image model was compared with the cached features; None for a file that
        holds the head alone.
    notes : list of str
    curves : Path or None
        Figure of accuracy and loss per epoch.
    decisions : Records of Decision
        Rules that the model file has; empty without ``decide``.
    earlier : EarlierRuns or None
        Earlier runs that scored the test images, from the ledger next to the cache; None for a cache in memory.
    """

    head: Any
    path: Path
    split: Split
    result: HeadResult | None
    fit_seconds: float
    checked: int | None
    notes: list[str]
    curves: Path | None = None
    decisions: Records[Decision] = field(default_factory=Records)
    earlier: EarlierRuns | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return everything but head and split as JSON-serialisable values."""
        about: dict[str, Any] = {
            "model": str(self.path),
            "curves": None if self.curves is None else str(self.curves),
            "fit_seconds": self.fit_seconds,
            "scores": None if self.result is None else self.result.scores,
            "checked_images": self.checked,
            "notes": self.notes,
        }
        if self.decisions:
            about["decisions"] = self.decisions.to_dict()
        if self.earlier is not None:
            about["earlier_runs"] = self.earlier.to_dict()
        return about


def train(
    cache: FeatureCache | Path | str,
    head: str,
    path: Path | str,
    *,
    parameters: dict[str, Any] | None = None,
    split: SplitLike | None = None,
    seed: int = 0,
    test_fraction: float | None = None,
    weights: str | Path | None = None,
    groups: GroupsLike | None = None,
    views: Literal["train", "average", "both"] | None = None,
    decide: str | None = None,
    progress: Progress | None = None,
) -> TrainedModel:
    """Train a head on a cache and write it to a file.

    The softmax head is written as an image model, once it has been checked on images; other heads are written alone.

    Parameters
    ----------
    cache : FeatureCache or path-like
    head : str
        Name of the head: see `make_head`.
    path : path-like
        ``.keras`` (image model) for softmax, ``.npz`` for any head of embedonce, ``.skops`` for classifiers of
        scikit-learn, ``.joblib`` for any head. See `save_head`.
    parameters : dict, default=None
        Parameters of the head.
    split : str, path-like, Split, pair of arrays, splitter or list, default=None
        One split, as `compare` takes it, or ``none`` to train on every image without scores. By default the grouped
        split that `compare` makes, or the random one if there are no near-duplicates.
    seed : int, default=0
        Random seed of the split.
    test_fraction : float, default=None
        Fraction of the images, or groups, for testing, of a random or grouped split; by default 0.2. A smaller test
        part is a part of a larger one with the same seed.
    weights : path-like, default=None
        File with the backbone's weights for an image model, if they are not where the cache says.
    groups : Groups, path-like, array, mapping or Series, default=None
        Images that belong together, by default near-duplicates: see `compare`. A head that calibrates by
        cross-validation keeps them together too.
    views : {"train", "average", "both"}, default=None
        Train on augmented views of the training images too, average probabilities over views for the scores, or both.
    decide : str, default=None
        ``accuracy=0.99``: store a threshold for `predict`, which then asks a person about less probable answers. On
        folds of the training images, which keep groups together, the other answers have this accuracy with 95 %
        confidence. ``coverage=0.95``: store a threshold for sets of labels, in which the label of an image of a further
        group is with this probability. Both with a comma.
    progress : Progress, default=None
        Shows what is being done; by default nothing.

    Returns
    -------
    TrainedModel

    Raises
    ------
    HeadError, SplitError, ModelFileError, WeightsError, OutputError
        If an argument is invalid or the file cannot be written. An older file at `path` stays as it was.

    See Also
    --------
    compare : Train and compare heads on one cache.
    predict : Classify images with the written file.
    evaluate_model : Score the written file on another cache.

    Examples
    --------
    >>> import tempfile, numpy as np, embedonce as eo
    >>> cache = eo.FeatureCache.from_arrays(np.eye(2).repeat(20, axis=0), ["ash"] * 20 + ["birch"] * 20)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     model = eo.train(cache, "knn", f"{folder}/trees.npz")
    >>> model.result.scores["accuracy"]
    1.0
    """
    if names_model(cache) and not names_model(path):
        raise ParameterError(
            f"parameter cache of train must be a cache, got the model file {display(str(cache))}: did you swap CACHE "
            "and the output?"
        )
    opened = open_cache(cache, "train").labelled("train")
    progress = as_progress(progress, "train")
    path = check_path("path", "train", path)
    estimator = make_head(head, **check_mapping("parameters", "train", parameters))
    require_saveable(estimator, path, f"head {head!r}")
    targets = read_targets(decide)
    image_model = path.suffix.lower() == ".keras"
    source = FeatureSource.of_cache(opened)
    if image_model:
        alternative = ", or write the head alone, to a file that ends in .npz"
        source.require_float32("an image model", alternative)
    opened_views = open_views(opened, views)
    refuse_input_as_output(path, opened.path, split, groups, weights)
    make_folder(path.parent, "the model")  # before the work, not after it
    check_test_fraction("train", test_fraction, opened, split)
    check_class_sizes(opened, split)
    opened_groups, group_notes = groups_for(opened, groups, split, progress)
    if isinstance(split, str) and split == "none":
        rows = every_row(opened)
    else:
        rows, split_notes = single_split(opened, split, seed, opened_groups, test_fraction)
        group_notes += split_notes
    decisions: list[Decision] = []
    result = None
    with contextlib.closing(progress):
        if targets:
            progress.now("choosing thresholds on held-out groups …")
            decisions = choose_decisions(head, estimator, opened, rows, opened_groups, opened_views, targets, seed)
        progress.now(f"training {display(head)} …")
        if len(rows.test):
            result = fit_and_score(head, estimator, opened, rows, opened_groups, opened_views)
            result = with_intervals(result, opened, rows.test, opened_groups, seed)
            seconds = result.fit_seconds
        else:
            seconds = fit_head(estimator, opened, rows, opened_groups, opened_views)
        progress.now("describing the training images, for images unlike them …")
        detector = NoveltyDetector.fit(
            lambda part: opened[rows.train[part]],
            opened.labels[rows.train].astype(np.intp),
            None if opened_groups is None else opened_groups.ids[rows.train],
        )
    metadata = cache_metadata(opened, rows.train) | {
        "head": head,
        "split": rows.to_dict(),
        "scores": None if result is None else result.scores,
        "views": list(opened_views.names) if opened_views is not None and opened_views.train else [],
        "novelty": detector.to_dict(),
    }
    if decisions:
        metadata["decisions"] = [one.to_dict() for one in decisions]
    checked = None
    curves = path.with_name(f"{path.stem}.curves.png")
    history = training_history(estimator)
    figure_notes = []
    with (
        replacing_files(path.parent, "the model", path.name, [curves.name]) as temporary,
        progress.working("writing the model …", "written"),
    ):
        if image_model:
            reference = reference_of_cache(estimator, opened)
            model = build_image_model(keras_head(estimator), source, weights)
            save_image_model(model, temporary / path.name, reference, metadata, estimator)
            checked = len(reference.images)
        else:
            save_head(estimator, temporary / path.name, metadata)
        if history:
            figure_notes = try_figure(lambda: history_figure({head: history}), temporary / curves.name)
    notes = group_notes + ([] if opened_views is None else [opened_views.note])
    scored = None if result is None else (head, result.predicted == opened.labels[rows.test])
    notes += notes_on(opened, rows, groups=opened_groups, scored=scored) + notes_on_fits({head: estimator})
    if image_model:
        notes += decoding_notes(source)
    if checked == 0:
        notes.append("the image model was not checked on images: the cache's image folder is gone or has changed")
    earlier = None
    if result is not None:
        earlier, ledger_notes = record_scores(
            opened.source, opened, rows.test, [result], "train", rows.method, rows.seed
        )
        notes += ledger_notes
    drawn = curves if history and not figure_notes else None
    return TrainedModel(
        estimator, path, rows, result, seconds, checked, notes + figure_notes, drawn, Records(decisions), earlier
    )
