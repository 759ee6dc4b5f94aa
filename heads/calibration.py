"""Probabilities for heads with margins, in agreement with their predictions.

With Platt's method (a sigmoid per class, normalised), as in ``SVC(probability=True)``, the most probable class may
differ from the predicted one. Here one inverse temperature a > 0 scales the margins. It minimises the log loss on rows
that the margins' model was not fitted on.

- two classes, margin d: p = 1 / (1 + exp(-a d));
- one margin d_i per class: p_i proportional to exp(a d_i);
- one margin m_ij per pair: p_i proportional to the product over j of 1 / (1 + exp(-a m_ij)). Where this disagrees with
  the votes, which is rare, the probability of the voted class is raised (`align_argmax`). Its log loss was the lowest
  of several formulas: 0.109 on images of 3 classes without near-duplicates in training, softmax of the votes 0.120.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils.metaestimators import available_if

from ..errors import HeadError
from .base import StandardizedHead
from .numerics import Array
from .predictors import StandardizedPredictor

Codes = NDArray[np.intp]

FOLDS = 5
# one factor needs no more rows than this; further folds would only cost time
ENOUGH_ROWS = 1000
# of all held-out rows: bounds memory and time with thousands of classes, whose pairs are millions
MOST_MARGINS = 10_000_000
# the folds are shuffled in the same way every time, so that fitting twice gives the same head
FOLD_SEED = 0


def _group_folds(n_splits: int) -> Any:
    """Return a StratifiedGroupKFold that gives the same folds in a fifth of the time."""
    from sklearn.model_selection import StratifiedGroupKFold

    class GroupFolds(StratifiedGroupKFold):  # type: ignore[misc]
        def _find_best_fold(self, y_counts_per_fold: Array, y_cnt: Array, group_y_counts: Array) -> int:
            tried = np.repeat(y_counts_per_fold[None], self.n_splits, axis=0)
            tried[range(self.n_splits), range(self.n_splits)] += group_y_counts
            spreads = np.std(tried / y_cnt, axis=1).mean(axis=1).tolist()
            sizes = y_counts_per_fold.sum(axis=1).tolist()
            best = 0
            for fold in range(1, self.n_splits):
                near = abs(spreads[fold] - spreads[best]) <= 1e-8 + 1e-5 * abs(spreads[best])  # np.isclose
                if spreads[fold] < spreads[best] or (near and sizes[fold] < sizes[best]):
                    best = fold
            return best

    return GroupFolds(n_splits, shuffle=True, random_state=FOLD_SEED)


def folds(codes: Codes, groups: Array | None = None) -> Iterator[tuple[Codes, Codes]]:
    """Yield stratified folds (train, held_out) of row indices until enough rows were held out.

    Rows of one of the groups (n,) are never on both sides: near-duplicates would make the probabilities too confident.
    Every fold trains on every class. The rows of a class of fewer than two rows (or groups) are never held out. If
    fewer than two classes can be held out, nothing is yielded.
    """
    from sklearn.model_selection import StratifiedKFold

    units = np.arange(len(codes)) if groups is None else np.unique(groups, return_inverse=True)[1]
    free = np.ones(len(codes), np.bool_)
    while True:
        classes, counts = np.unique(np.unique(np.stack([codes, units])[:, free], axis=1)[0], return_counts=True)
        if counts.min(initial=2) >= 2:
            break
        # the rest of a group stays with the rows of a rare class
        free &= ~np.isin(units, units[free & np.isin(codes, classes[counts < 2])])
    if len(classes) < 2:
        return
    rows, always = np.flatnonzero(free), np.flatnonzero(~free)
    count = min(FOLDS, int(counts.min()))
    # the splitters only count the features, so the rows replace them
    if groups is None:
        splits = StratifiedKFold(count, shuffle=True, random_state=FOLD_SEED).split(rows, codes[rows])
    else:
        splits = _group_folds(count).split(rows, codes[rows], groups[rows])
    n_classes = int(codes.max()) + 1
    n_held_out = 0
    for inside, held_out in splits:
        train = np.sort(np.concatenate([rows[inside], always]))
        # groups can be too coarse for every training part to keep every class
        if len(held_out) == 0 or len(np.unique(codes[train])) < n_classes:
            continue
        yield train, rows[held_out]
        n_held_out += len(held_out)
        if n_held_out >= ENOUGH_ROWS:
            return


def smoothed_targets(codes: Codes, n_classes: int, weights: Array | None = None) -> Array:
    """Return probabilities (n, k) to aim at: (c + 1) / (c + 2) for the true class of c rows (Platt 1999, 2.2)."""
    counts = np.bincount(codes, weights, minlength=n_classes)
    true = ((counts + 1.0) / (counts + 2.0))[codes]
    targets = np.repeat(((1.0 - true) / (n_classes - 1))[:, None], n_classes, axis=1)
    targets[np.arange(len(codes)), codes] = true
    return targets


def fit_inverse_temperature(
    log_scores: Callable[[Array, float], Array], margins: Array, codes: Codes, weights: Array | None = None
) -> float:
    """Return the inverse temperature that minimises the log loss of held-out margins; 1.0 without rows or margins."""
    from scipy.optimize import minimize_scalar
    from scipy.special import log_softmax

    size = float(np.abs(margins).mean()) if len(margins) else 0.0
    if size == 0.0:
        return 1.0
    targets = smoothed_targets(codes, log_scores(margins[:1], 1.0).shape[1], weights)

    def loss(log_factor: float) -> float:
        scores = log_scores(margins, float(np.exp(log_factor)) / size)
        losses = -np.sum(targets * log_softmax(scores, axis=1), axis=1)
        return float(losses.mean() if weights is None else weights @ losses)

    # e**-7 makes all classes equally probable within 0.1 %, e**7 makes every margin decisive
    best = minimize_scalar(loss, bounds=(-7.0, 7.0), method="bounded", options={"xatol": 1e-3})
    return float(np.exp(best.x)) / size


class CalibratedMarginHead(StandardizedHead, StandardizedPredictor):
    """Base of the heads whose probabilities come from margins with one fitted inverse temperature.

    A subclass has a parameter ``probability``; its `fit` calls `_calibrate` on `n_calibration_rows_` held-out rows. No
    row of `uncalibrated_classes_` was held out.
    """

    probability: bool
    n_calibration_rows_: int
    uncalibrated_classes_: Array

    @property
    def _margins_of_row(self) -> int:
        """Number of margins of one row."""
        return len(self.classes_)

    def _weighted_rows(self, weights: NDArray[np.float64], codes: Codes) -> Codes:
        """Return the rows of weights above 0; raise HeadError if a class has none."""
        kept = np.flatnonzero(weights)
        missing = np.delete(self.classes_, np.unique(codes[kept]))
        if len(missing):
            raise HeadError(
                f"sample_weight of head {self.head_name!r} must be above 0 for a row of each class, got only zeros for "
                f"{missing.tolist()[0]!r}. Leave the rows of that class out"
            )
        return kept

    def _calibrate(
        self,
        codes: Codes,
        groups: Array | None,
        fold_margins: Callable[[Codes, Codes, bool], Array],
        weights: Array | None = None,
    ) -> None:
        """Fit the inverse temperature on held-out rows.

        ``fold_margins(train, held_out, last)`` fits on the rows `train` and returns the margins of `held_out`; `last`
        says that no other fold follows.
        """
        splits = list(folds(codes, groups))
        most = max(1, MOST_MARGINS // self._margins_of_row // max(1, len(splits)))
        parts = [
            (rows := held_out[:: -(-len(held_out) // most)], fold_margins(train, rows, number == len(splits)))
            for number, (train, held_out) in enumerate(splits, start=1)
        ]
        self.n_calibration_rows_ = sum(len(held_out) for held_out, _ in parts)
        self.inverse_temperature_ = 1.0
        self.uncalibrated_classes_ = self.classes_
        if parts:
            every = np.concatenate([held_out for _, held_out in splits])
            self.uncalibrated_classes_ = np.delete(self.classes_, np.unique(codes[every]))
            held_out = np.concatenate([rows for rows, _ in parts])
            margins = np.concatenate([values for _, values in parts])
            of_rows = None if weights is None else weights[held_out]
            self.inverse_temperature_ = fit_inverse_temperature(self._log_scores, margins, codes[held_out], of_rows)

    @available_if(lambda head: bool(head.probability))  # type: ignore[untyped-decorator, unused-ignore]
    def predict_proba(self, X: ArrayLike) -> Array:
        """Return the probability of each class (m, k), float64; the most probable one is what `predict` returns."""
        return super().predict_proba(X)
