"""Compare a custom head with heads of embedonce on the same split, with intervals and a test.

    python examples/own_head.py CACHE [--output FOLDER]

Any scikit-learn classifier is a head. This one describes each class by its mean direction among the features, and
predicts the class whose direction is nearest. The command line takes the dotted name of the head if Python finds the
module: ``embedonce compare CACHE --heads logreg,own_head:DirectionHead -o FOLDER``.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import embedonce as eo
import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.preprocessing import normalize
from sklearn.utils.validation import check_is_fitted, validate_data


class DirectionHead(ClassifierMixin, BaseEstimator):
    """Cosine similarity to the mean direction of each class.

    Parameters
    ----------
    scale : float
        Probabilities are a softmax of this times the similarities, which lie between -1 and 1.
    """

    def __init__(self, scale=30.0):
        self.scale = scale

    def fit(self, X, y):
        """Average the directions of each class."""
        X, y = validate_data(self, X, y)
        self.classes_, codes = np.unique(y, return_inverse=True)
        directions = normalize(X)
        self.means_ = normalize([directions[codes == code].mean(axis=0) for code in range(len(self.classes_))])
        return self

    def predict_proba(self, X):
        """Return class probabilities, shape (m, k)."""
        check_is_fitted(self)
        scores = self.scale * normalize(validate_data(self, X, reset=False)) @ self.means_.T
        exponentials = np.exp(scores - scores.max(axis=1, keepdims=True))
        return exponentials / exponentials.sum(axis=1, keepdims=True)

    def predict(self, X):
        """Return class labels."""
        return self.classes_[self.predict_proba(X).argmax(axis=1)]


def main():
    """Compare it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("cache")
    parser.add_argument("--output", default="runs/own-head", help="folder for report and numbers")
    options = parser.parse_args()
    comparison = eo.compare(options.cache, {"direction": DirectionHead(), "logreg": {}, "knn": {}})
    for result in comparison.results:
        low, high = result.intervals["accuracy"]
        print(f"{result.name:<10} accuracy {result.scores['accuracy']:.3f} ({low:.3f} to {high:.3f})")
    for difference in comparison.differences:
        print(difference.text)
    comparison.save(Path(options.output))
    print(f"Report: {Path(options.output) / 'report.html'}")


if __name__ == "__main__":
    main()
