"""Scores of a head's predictions, by scikit-learn's definitions."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt


def score(
    true: npt.NDArray[np.intp],
    predicted: npt.NDArray[np.intp],
    probabilities: npt.NDArray[np.float64] | None,
    class_names: list[str],
) -> dict[str, Any]:
    """Score predictions.

    Parameters
    ----------
    true, predicted : ndarray of intp, shape (n,)
        Indices into ``class_names``.
    probabilities : ndarray of float64, shape (n, k), optional
        Columns in the order of ``class_names``.
    class_names : list of str, length k

    Returns
    -------
    dict
        ``accuracy``, ``balanced_accuracy``, ``macro_f1`` (0 to 1); ``log_loss`` (natural logarithm) and
        ``roc_auc`` (one-vs-rest, mean over classes), None without probabilities or with a single true
        class; ``per_class``, a list of precision, recall, f1 and support; ``confusion``, a k x k list,
        rows true and columns predicted.
    """
    from sklearn import metrics

    indices = list(range(len(class_names)))
    precision, recall, f1, support = metrics.precision_recall_fscore_support(
        true, predicted, labels=indices, zero_division=0
    )
    present = np.flatnonzero(support)
    seen = sorted(set(true.tolist()) | set(predicted.tolist()))
    result: dict[str, Any] = {
        "accuracy": float(metrics.accuracy_score(true, predicted)),
        # the mean recall over the classes that occur; sklearn's own function warns about the others
        "balanced_accuracy": float(recall[present].mean()),
        "macro_f1": float(f1[seen].mean()),
        "log_loss": None,
        "roc_auc": None,
        "per_class": [
            {
                "class": name,
                "precision": float(precision[index]),
                "recall": float(recall[index]),
                "f1": float(f1[index]),
                "support": int(support[index]),
            }
            for index, name in enumerate(class_names)
        ],
        "confusion": metrics.confusion_matrix(true, predicted, labels=indices).tolist(),
    }
    if probabilities is not None:
        result["log_loss"] = float(metrics.log_loss(true, probabilities, labels=indices))
        if len(present) > 1:
            areas = [metrics.roc_auc_score(true == index, probabilities[:, index]) for index in present]
            result["roc_auc"] = float(np.mean(areas))
    return result


def align_probabilities(
    probabilities: npt.NDArray[np.float64], classes: npt.NDArray[Any], class_names: list[str]
) -> npt.NDArray[np.float64]:
    """Reorder a head's probability columns to ``class_names``; a class that it never saw gets 0."""
    index = {name: column for column, name in enumerate(class_names)}
    aligned = np.zeros((len(probabilities), len(class_names)))
    aligned[:, [index[str(name)] for name in classes]] = probabilities
    return aligned
