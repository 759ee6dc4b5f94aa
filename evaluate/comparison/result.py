"""Result of a comparison of heads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..report import Figures, comparison_results, save_comparison
from ..scoring import ComparisonData


class Comparison(ComparisonData):
    """Results of heads that were trained and tested on the same rows.

    Attributes
    ----------
    cache : FeatureCache
    split : Split
        With folds, its test part holds the rows of all folds.
    results : list of HeadResult
        In the order of the heads.
    table : Records of HeadResult
        The best first.
    notes : list of str
        Facts that limit what the scores say.
    leaky : Comparison or None
        The same heads on a random split, which ignores groups; only when both splits were made.
    grouped : Comparison or None
        The same heads on a grouped split; only when groups are on both sides of the split of the image folder.
    leakage_gap : Records of LeakageGap
        Accuracy of every head on both splits, and the difference.
    groups : Groups or None
    differences : Records of HeadDifference
        Significance test of every two heads.
    folds : list of Split
        All folds of all repeats; empty for a single split.
    learning_curve : Records of LearningPoint
        Leading score against the number of training images; empty unless it was asked for.
    learning_outlook : LearningOutlook or None
        Whether more training images help, and how many more groups would show a difference of 2 points.
    subgroups : Records of SubgroupScore
        Scores of the values of columns, the lowest first; empty unless `by` was given.
    caches : Records of CacheScore
        Best score on each of several caches and the costs of its features, the best first; empty for one cache.
    head_seeds : Records of SeedScores
        Scores of random heads by seed; empty unless `head_seeds` was given.
    own_metrics : dict of str to OwnMetric
        The metrics of the user by name, with the differences between heads; their values are in ``results``.
    shortcuts : ShortcutAudit or None
        How well the classes are told apart by values that hold no object, such as the sizes of the files; None without.
    external : list of ExternalSet
        Scores on the external sets.
    earlier : EarlierRuns or None
        Earlier runs that scored the same test images, from the ledger next to the cache; None for a cache in memory.
    timings : dict of str to float
        Wall time in seconds of each phase.
    failed : dict of str to EmbedonceError
        The heads that could not be trained or tested, which have no results, and why.

    See Also
    --------
    embedonce.compare : Returns it.
    embedonce.diff : Compare two saved comparisons.

    Examples
    --------
    >>> import embedonce as eo, numpy as np
    >>> X = np.repeat(np.eye(2, 1280, dtype=np.float32), 20, axis=0)
    >>> cache = eo.FeatureCache.from_arrays(X, ["cat"] * 20 + ["dog"] * 20)
    >>> comparison = eo.compare(cache, ["logreg", "knn"], split="random")
    >>> [difference.verdict for difference in comparison.differences]
    ['undecided']
    >>> comparison.confusion("knn").shape
    (2, 2)
    """

    def to_dict(self) -> dict[str, Any]:
        """Return all results as ``results.json`` holds them."""
        return comparison_results(self)

    def save(self, folder: Path | str, *, maps: bool = False, figures: Figures = "all") -> list[Path]:
        """Write the report, all numbers and all figures into a folder.

        Parameters
        ----------
        folder : path-like
            Created if it does not exist; files of the same names are replaced.
        maps : bool, default=False
            Show in the report which regions of wrongly classified images supported the predicted class, for heads that
            `explain` takes. It needs the backbone's weights.
        figures : {"none", "report", "all"}, default="all"
            Figures to draw: none; those of the report, inside it; or also PNG and SVG files of all figures.

        Returns
        -------
        list of Path
            The files.

        Raises
        ------
        ParameterError
            When `figures` is another value.
        OutputError
            When the folder or a file cannot be written.
        """
        return save_comparison(self, folder, maps=maps, figures=figures)
