"""From scores of classes to predicted classes and probabilities; NumPy alone, so that predicting needs no more."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


def predicted_indices(scores: Array) -> NDArray[np.intp]:
    """Return the index of the predicted class for each row of scores.

    Parameters
    ----------
    scores : ndarray of shape (n,) or (n, k)
        For two classes the signed margin of the second class, otherwise one score per class.

    Returns
    -------
    ndarray of shape (n,), intp
        Class indices; ties go to the lowest index, as in scikit-learn.
    """
    if scores.ndim == 1:
        return (scores > 0).astype(np.intp)
    best: NDArray[np.intp] = np.argmax(scores, axis=1)
    return best


def align_argmax(probabilities: Array, winner: NDArray[np.intp]) -> Array:
    """Make the predicted class the most probable one in every row.

    Scores that differ by less than the rounding of the exponential function give equal probabilities;
    then the highest probability is moved just above the others. Rows that already agree are untouched.

    Parameters
    ----------
    probabilities : ndarray of shape (n, k), float64
        Rows that sum to 1; changed in place.
    winner : ndarray of shape (n,), intp
        The predicted class of each row.

    Returns
    -------
    ndarray of shape (n, k), float64
        `probabilities`, whose rows sum to 1 within rounding.
    """
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
    """Normalise log scores to probabilities whose largest entry is the predicted class.

    Parameters
    ----------
    log_scores : ndarray of shape (n, k)
        Logarithms of class probabilities, each row up to a constant.
    winner : ndarray of shape (n,), intp
        The predicted class of each row.

    Returns
    -------
    ndarray of shape (n, k), float64
        exp(s_j) / sum_i exp(s_i): rows that sum to 1.
    """
    # float64 even for float32 scores: float32 would round unlikely classes to exactly 0
    shares = log_scores.astype(np.float64)
    shares -= shares.max(axis=1, keepdims=True)
    np.exp(shares, out=shares)
    shares /= shares.sum(axis=1, keepdims=True)
    return align_argmax(shares, winner)


def class_log_scores(margins: Array, inverse_temperature: float = 1.0) -> Array:
    """Return ``inverse_temperature * margins`` with one column per class.

    Parameters
    ----------
    margins : ndarray of shape (n,) or (n, k)
        The margin of the second of two classes, or one margin per class.
    inverse_temperature : float
        A factor above 0.

    Returns
    -------
    ndarray of shape (n, k), float64
        For `probabilities`: with two classes that gives 1 / (1 + exp(-inverse_temperature * margin)).
    """
    scaled = np.asarray(margins, dtype=np.float64) * inverse_temperature
    return np.column_stack([np.zeros(len(scaled)), scaled]) if scaled.ndim == 1 else scaled


class Affine(NamedTuple):
    """Log scores ``X @ kernel + bias``, each row up to a constant: their softmax is ``predict_proba(X)``.

    Attributes
    ----------
    kernel : ndarray of shape (d, k), float64
    bias : ndarray of shape (k,), float64
    """

    kernel: Array
    bias: Array

    @classmethod
    def of_margins(cls, coef: Array, intercept: Array) -> Affine:
        """Make it of one row of coefficients for each class, (k, d) and (k,), or of one alone for two classes.

        Then the first class has score 0: see `class_log_scores`.
        """
        if len(coef) == 1:
            coef, intercept = np.vstack([np.zeros_like(coef), coef]), np.append(0.0, intercept)
        return cls(np.ascontiguousarray(coef.T, np.float64), np.asarray(intercept, np.float64))

    @classmethod
    def of_standardised(cls, coef: Array, intercept: Array, mean: Array, scale: Array, factor: float) -> Affine:
        """Make it of the margins of standardised features times a factor: means (d,) and scales (d,) go into it."""
        folded = factor * coef / scale
        return cls.of_margins(folded, factor * intercept - folded @ mean)


def pair_signs(n_classes: int) -> NDArray[np.float64]:
    """Return what the margins of all pairs should be, shape (pairs, k): 1 and -1 for the classes of each, otherwise 0.

    For two classes the margin is that of the second, for more that of the first of each pair, as libsvm has it.
    """
    if n_classes == 2:
        return np.array([[-1.0, 1.0]])
    first, second = np.triu_indices(n_classes, 1)
    signs: NDArray[np.float64] = np.eye(n_classes)[first] - np.eye(n_classes)[second]
    return signs


def of_classes(margins: Array) -> Array:
    """Return margins (m, p) of pairs as scikit-learn has them: of two classes as one number a row, shape (m,)."""
    return margins[:, 0] if margins.shape[1] == 1 else margins


def pair_log_scores(margins: Array, n_classes: int, inverse_temperature: float) -> Array:
    """Return the logarithm of the product of sigmoids of each class's margins over the others.

    Parameters
    ----------
    margins : ndarray of shape (m, k (k - 1) / 2), or (m,) for two classes
        Above 0 where the first class of the pair wins, or the second of two classes; pairs in the order (0, 1),
        (0, 2), ..., (1, 2), ...
    n_classes : int
        k.
    inverse_temperature : float
        The factor a, above 0.

    Returns
    -------
    ndarray of shape (m, k), float64
        To be normalised by a softmax.
    """
    if margins.ndim == 1:
        return class_log_scores(margins, inverse_temperature)
    scores = np.zeros((len(margins), n_classes))
    pair = 0
    for i in range(n_classes):
        for j in range(i + 1, n_classes):
            scaled = inverse_temperature * margins[:, pair]
            scores[:, i] -= np.logaddexp(0.0, -scaled)
            scores[:, j] -= np.logaddexp(0.0, scaled)
            pair += 1
    return scores


def ovr_scores(margins: Array, n_classes: int) -> Array:
    """Aggregate the margins of pairs into one score per class.

    Votes count the pairs that a class wins. Margins summed per class break ties: squeezed by
    x / (3 (|x| + 1)) into (-1/3, 1/3), they never outweigh a vote. This is
    ``sklearn.utils.multiclass._ovr_decision_function`` as `sklearn.svm.SVC` calls it for
    ``decision_function_shape="ovr"``; the argmax is ``SVC(break_ties=True).predict``.

    Parameters
    ----------
    margins : ndarray of shape (m, k (k - 1) / 2), or (m,) for two classes
        Above 0 where the first class of the pair wins.
    n_classes : int
        k.

    Returns
    -------
    ndarray of shape (m, k), float64
        Votes plus squeezed sums; for two classes the margins as they are.
    """
    if margins.ndim == 1:
        return margins
    votes = np.zeros((len(margins), n_classes))
    sums = np.zeros((len(margins), n_classes))
    pair = 0
    for i in range(n_classes):
        for j in range(i + 1, n_classes):
            margin = margins[:, pair]
            second = margin < 0
            votes[:, i] += ~second
            votes[:, j] += second
            sums[:, i] += margin
            sums[:, j] -= margin
            pair += 1
    scores: Array = votes + sums / (3.0 * (np.abs(sums) + 1.0))
    return scores
