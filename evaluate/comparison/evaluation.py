"""Scores of a saved model on a cache, by default on the images that it was not trained on."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ...cache import FeatureCache, display, open_cache
from ...errors import (
    EmbedonceError,
    HeadError,
    ModelFileError,
    SplitError,
    check_flag,
    check_path,
    first_line,
)
from ...extract import Progress, as_progress
from ..duplicates import groups_for, near_duplicates_in
from ..metrics import MetricsLike, read_metrics
from ..models import DecisionScores, ModelFile, check_order, decisions_of, score_decisions, short_hashes
from ..report import Figures
from ..scoring import (
    EarlierRuns,
    HeadResult,
    TrainingOverlap,
    part_of,
    record_scores,
    score_head,
    with_intervals,
    with_own_metrics,
)
from ..shared import Records
from ..splits import Groups, GroupsLike, Split, notes_on_size, read_split
from .own_metrics import score_own_metrics
from .result import Comparison


@dataclass(frozen=True)
class Evaluation:
    """Scores of a model on a cache.

    Attributes
    ----------
    result : HeadResult
        Scores of all rows, with their intervals.
    independent : HeadResult or None
        Scores of the rows without a near-duplicate, or an image of their group, in training; None if no row has one, or
        all rows have one.
    rows : ndarray of intp, shape (t,)
        Rows of the cache that were scored.
    left_out : int
        Number of images that the model was trained on and that were not scored.
    near_duplicates : int
        Number of scored images that have a near-duplicate, or an image of their group, in training.
    notes : list of str
    relation : str
        What these images have in training, in words.
    comparison : Comparison
        The result as a comparison of one head, which `save` writes.
    decisions : Records of DecisionScores
        What the rules of ``train --decide`` do on the independent images; empty for other models.
    earlier : EarlierRuns or None
        Earlier runs that scored these images, from the ledger next to the cache; None for a cache in memory.
    """

    result: HeadResult
    independent: HeadResult | None
    rows: npt.NDArray[np.intp]
    left_out: int
    near_duplicates: int
    notes: list[str]
    relation: str
    comparison: Comparison = field(repr=False)
    decisions: Records[DecisionScores] = field(default_factory=Records)

    @property
    def earlier(self) -> EarlierRuns | None:
        """Earlier runs that scored these images."""
        return self.comparison.earlier

    def to_dict(self) -> dict[str, Any]:
        """Return the scores as JSON-serialisable values."""
        about: dict[str, Any] = {
            "images": len(self.rows),
            "left_out": self.left_out,
            "near_duplicates": self.near_duplicates,
        }
        about |= {"scores": self.result.scores, "intervals": self.result.intervals, "notes": self.notes}
        if self.independent is not None:
            about["independent"] = {
                "images": len(self.independent.predicted),
                "scores": self.independent.scores,
                "intervals": self.independent.intervals,
            }
        if self.decisions:
            about["decisions"] = self.decisions.to_dict()
        if self.earlier is not None:
            about["earlier_runs"] = self.earlier.to_dict()
        return about

    def to_frame(self) -> Any:
        """Return the scores as a pandas DataFrame of one row."""
        return self.result.to_frame()

    def save(self, folder: Path | str, *, figures: Figures = "all") -> list[Path]:
        """Write the report, all numbers and all figures into a folder: see `Comparison.save`."""
        return self.comparison.save(folder, figures=figures)


def evaluate_model(
    model: Path | str,
    cache: FeatureCache | Path | str,
    *,
    split: Path | str | None = None,
    groups: GroupsLike | None = None,
    metrics: MetricsLike = (),
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
    groups : Groups, path-like, array, mapping or Series, default=None
        Groups of images, by which the intervals are computed: see `compare`. By default the near-duplicates.
    metrics : callable, str, sequence of them, or mapping from name, default=()
        Further metrics: see `compare`.
    include_training : bool, default=False
        Score also the images that the model was trained on.
    trust : bool, default=False
        Allow a model file that runs code when it is loaded.
    progress : Progress, default=None
        Shows what is being done; by default nothing.

    Returns
    -------
    Evaluation
        Near-duplicates of training images are searched in the cache and, if the training images are in another one,
        in that cache too. If there are any, the scores without them are given as well.

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
    path = opened.source
    own_metrics = read_metrics(metrics, opened.class_names, "evaluate_model")
    progress = as_progress(progress, "evaluate_model")
    file = ModelFile.open(model, trust)
    stored = decisions_of(file.metadata, file.name)
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
    known_groups, group_notes = groups_for(opened, groups, None, progress)
    related, relation, leakage_notes = _related_to_training(file, opened, rows, known_groups, progress)
    notes = leakage_notes + notes + group_notes
    name = file.metadata.get("head") or file.path.stem
    known = sorted({*opened.class_names, *file.classes})
    if known != opened.class_names:
        opened = opened.with_labels(opened.label_names, known)
    with file.classifying():
        result = score_head(name, file.head, opened, rows)
        file.require_probabilities(result.probabilities, len(known))
    independent = None
    if related.any() and not related.all():
        independent = with_intervals(part_of(result, opened, rows, ~related), opened, rows[~related], known_groups)
    result = with_intervals(result, opened, rows, known_groups)
    decisions = Records[DecisionScores]()
    if stored and result.probabilities is not None:
        kept = ~related if independent is not None else np.ones(len(rows), np.bool_)
        ids = None if known_groups is None else known_groups.ids[rows[kept]]
        true = opened.labels[rows[kept]].astype(np.intp)
        decisions = Records(score_decisions(stored, true, result.predicted[kept], result.probabilities[kept], ids))
        notes += [one.text for one in decisions]
    test = Split(np.zeros(0, np.intp), rows, "model")
    notes += notes_on_size(opened, test, groups=known_groups, scored=(name, result.predicted == opened.labels[rows]))
    earlier, ledger_notes = record_scores(path, opened, rows, [result], "evaluate", test.method)
    comparison = Comparison(opened, test, [result], notes + ledger_notes, groups=known_groups)
    comparison.earlier = earlier
    score_own_metrics(comparison, own_metrics)
    (result,) = comparison.results
    notes = list(comparison.notes)
    if independent is not None:
        independent = with_own_metrics(independent, comparison.own_metrics, opened, rows[~related], known_groups)
    comparison.next_command = ["predict", str(model), "IMAGES"]
    searched = known_groups is not None and bool(file.training_hashes) and not leakage_notes
    if (searched or related.any()) and not (include_training and trained_on.any()):
        comparison.overlap = TrainingOverlap(int(related.sum()), relation, independent)
    return Evaluation(
        result,
        independent,
        rows,
        left_out,
        int(related.sum()),
        notes,
        relation,
        comparison,
        decisions,
    )


def _related_to_training(
    file: ModelFile,
    cache: FeatureCache,
    rows: npt.NDArray[np.intp],
    groups: Groups | None,
    progress: Progress | None,
) -> tuple[npt.NDArray[np.bool_], str, list[str]]:
    """Return which rows have a near-duplicate among the training images, or share a group with one, and notes.

    The text says what they have in training.
    """
    trained_on, related = file.training_mask(cache), np.zeros(len(rows), np.bool_)
    relation = "a near-duplicate" if groups is None or groups.source == "found" else "an image of their group"
    hashes = set(file.training_hashes)
    if not hashes:
        return related, relation, []
    if groups is not None and trained_on.any():
        related = np.isin(groups.ids[rows], groups.ids[trained_on]) & ~trained_on[rows]
    notes = []
    elsewhere = hashes - set(short_hashes(cache))
    if elsewhere:
        searched, reason = 0, ""
        try:
            with file.open_cache(owner="evaluate_model") as training:
                chosen = np.array([content in elsewhere for content in short_hashes(training)], np.bool_)
                if chosen.any():
                    found = near_duplicates_in(cache.select(rows), training.select(chosen), progress)
                    related |= found & ~trained_on[rows]
                    if found.any() and "near-duplicate" not in relation:
                        relation += " or a near-duplicate"
                searched = int(chosen.sum())
        except EmbedonceError as error:
            reason = f": {first_line(error)}"
        if searched < len(elsewhere):
            notes.append(
                f"near-duplicates of {len(elsewhere) - searched:,} training images were not searched, because these "
                f"are in no cache here, so scores may be too high{reason}"
            )
    if related.any():
        notes.insert(
            0,
            f"{int(related.sum()):,} of the {int((~trained_on[rows]).sum()):,} images that it was not trained on have "
            f"{relation} in training, so the scores of all images are too high",
        )
    return related, relation, notes
