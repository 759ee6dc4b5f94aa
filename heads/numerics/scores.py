"""From scores of classes to predicted classes and probabilities, with NumPy alone."""

from __future__ import annotations

from itertools import combinations
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ...errors import HeadError

Array = NDArray[Any]

MANY_PAIRS = 1000
"""From more pairs of classes on, all are added up at once; sums of fewer stay as they are, to the last bit."""


def require_finite(scores: Array) -> Array:
    """Return scores or probabilities, or raise `HeadError` if one is NaN or infinite: no class follows from those."""
    if not np.isfinite(scores).all():
        raise HeadError("the head gives scores that are not finite numbers")
    return scores


def predicted_indices(scores: Array) -> NDArray[np.intp]:
    """Return predicted classes (n,) of scores (n, k), or (n,) for the second of two; ties go to the lowest."""
    require_finite(scores)
    if scores.ndim == 1:
        return (scores > 0).astype(np.intp)
    best: NDArray[np.intp] = np.argmax(scores, axis=1)
    return best


def align_argmax(probabilities: Array, winner: NDArray[np.intp]) -> Array:
    """Make the predicted class the most probable one in every row (n, k), in place, where rounding made them equal."""
    wrong = np.flatnonzero(np.argmax(probabilities, axis=1) != winner)
    if wrong.size:
        top = probabilities[wrong].max(axis=1)
        probabilities[wrong, winner[wrong]] = np.nextafter(top, 2.0)
        probabilities[wrong] /= probabilities[wrong].sum(axis=1, keepdims=True)
        # the division may round the two highest to the same number again
        top = probabilities[wrong].max(axis=1)
        probabilities[wrong, winner[wrong]] = np.nextafter(top, 2.0)
    return probabilities


def probabilities(log_scores: Array, winner: NDArray[np.intp]) -> Array:
    """Return the softmax of log scores (n, k), float64, whose largest entry in each row is the predicted class."""
    # float64 even for float32 scores: float32 would round unlikely classes to exactly 0
    values = log_scores.astype(np.float64)
    values -= values.max(axis=1, keepdims=True)
    np.exp(values, out=values)
    values /= values.sum(axis=1, keepdims=True)
    return align_argmax(require_finite(values), winner)


def class_log_scores(margins: Array, inverse_temperature: float = 1.0) -> Array:
    """Return margins (n, k), or (n,) of the second of two classes, times a factor, with a column per class, float64."""
    scaled = np.asarray(margins, dtype=np.float64) * inverse_temperature
    return np.column_stack([np.zeros(len(scaled)), scaled]) if scaled.ndim == 1 else scaled


class Affine(NamedTuple):
    """Log scores ``X @ kernel (d, k) + bias (k,)``, rows up to a constant; their softmax is ``predict_proba(X)``."""

    kernel: Array
    bias: Array

    @classmethod
    def of_margins(cls, coef: Array, intercept: Array) -> Affine:
        """Make it from coefficients (k, d) and intercepts (k,), or from one row of them for two classes."""
        if len(coef) == 1:
            coef, intercept = np.vstack([np.zeros_like(coef), coef]), np.append(0.0, intercept)
        return cls(np.ascontiguousarray(coef.T, np.float64), np.asarray(intercept, np.float64))

    @classmethod
    def of_standardised(cls, coef: Array, intercept: Array, mean: Array, scale: Array, factor: float) -> Affine:
        """Make it from margins of standardised features times a factor, means (d,) and scales (d,)."""
        folded = factor * coef / scale
        return cls.of_margins(folded, factor * intercept - folded @ mean)


def pair_signs(n_classes: int) -> NDArray[np.float64]:
    """Return the signs (pairs, k) of the classes in the margins of all pairs: 1, -1, or 0 for other classes.

    The margin of two classes is that of the second, of more that of the first of each pair, as in libsvm.
    """
    if n_classes == 2:
        return np.array([[-1.0, 1.0]])
    first, second = np.triu_indices(n_classes, 1)
    signs: NDArray[np.float64] = np.eye(n_classes)[first] - np.eye(n_classes)[second]
    return signs


def of_classes(margins: Array) -> Array:
    """Return margins (m, p) as scikit-learn has them: of two classes one number a row, shape (m,)."""
    return margins[:, 0] if margins.shape[1] == 1 else margins


def pair_log_scores(margins: Array, n_classes: int, inverse_temperature: float) -> Array:
    """Return the logarithm (m, k) of the product of sigmoids of each class's margins over the others.

    Margins (m, pairs) are in the order (0, 1), (0, 2), ..., (1, 2), ...; of two classes (m,).
    """
    if margins.ndim == 1:
        return class_log_scores(margins, inverse_temperature)
    if margins.shape[1] > MANY_PAIRS:
        # log(1 + exp(x)) = log(1 + exp(-x)) + x; logaddexp takes three times as long as this
        scaled = inverse_temperature * margins
        of_first = np.exp(-np.abs(scaled))
        np.log1p(of_first, out=of_first)
        of_first -= np.minimum(scaled, 0.0)
        lost = _sums_of_pairs(of_first, n_classes)
        lost[1] += _sums_of_pairs(scaled, n_classes)[1]
        total: Array = -lost.sum(axis=0)
        return total
    scores = np.zeros((len(margins), n_classes))
    for pair, (i, j) in enumerate(combinations(range(n_classes), 2)):
        scaled = inverse_temperature * margins[:, pair]
        scores[:, i] -= np.logaddexp(0.0, -scaled)
        scores[:, j] -= np.logaddexp(0.0, scaled)
    return scores


def ovr_scores(margins: Array, n_classes: int) -> Array:
    """Return one score per class (m, k) from the margins of pairs, as ``decision_function_shape="ovr"`` of SVC does.

    Margins summed per class break ties of the votes. Squeezed into (-1/3, 1/3), they never outweigh a vote.
    """
    if margins.ndim == 1:
        return margins
    if margins.shape[1] > MANY_PAIRS:
        lost, won = _sums_of_pairs((margins < 0).astype(np.float64), n_classes)
        votes = np.arange(n_classes)[::-1] - lost + won
        of_first, of_second = _sums_of_pairs(margins, n_classes)
        sums = of_first - of_second
        many: Array = votes + sums / (3.0 * (np.abs(sums) + 1.0))
        return many
    votes = np.zeros((len(margins), n_classes))
    sums = np.zeros((len(margins), n_classes))
    for pair, (i, j) in enumerate(combinations(range(n_classes), 2)):
        margin = margins[:, pair]
        second = margin < 0
        votes[:, i] += ~second
        votes[:, j] += second
        sums[:, i] += margin
        sums[:, j] -= margin
    scores: Array = votes + sums / (3.0 * (np.abs(sums) + 1.0))
    return scores


def _sums_of_pairs(values: Array, n_classes: int) -> Array:
    """Return the sums (2, m, k) of values (m, pairs) over the pairs of which each class is the first, or the second."""
    sums = np.zeros((2, len(values), n_classes))
    first, second = np.triu_indices(n_classes, 1)
    sums[0][:, :-1] = np.add.reduceat(values, np.searchsorted(first, np.arange(n_classes - 1)), axis=1)
    order = np.argsort(second, kind="stable")
    starts = np.searchsorted(second[order], np.arange(1, n_classes))
    sums[1][:, 1:] = np.add.reduceat(values[:, order], starts, axis=1)
    return sums
