"""The nearest-neighbour and dummy heads against scikit-learn's."""

from __future__ import annotations

import numpy as np
import pytest
from embedonce.heads import neighbors as neighbors_module
from embedonce.heads.dummy import DummyHead
from embedonce.heads.neighbors import KNNHead
from sklearn.datasets import make_blobs
from sklearn.neighbors import KNeighborsClassifier


@pytest.fixture
def blobs():
    X, y = make_blobs(300, 6, centers=4, cluster_std=6, random_state=0)
    return X + 20, np.array(["a", "b", "c", "d"])[y]


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
@pytest.mark.parametrize("weights", ["uniform", "distance"])
@pytest.mark.parametrize("n_neighbors", [1, 5])
def test_votes_as_scikit_learn(blobs, metric, weights, n_neighbors):
    X, y = blobs
    head = KNNHead(n_neighbors, metric=metric, weights=weights).fit(X[:200], y[:200])
    plain = KNeighborsClassifier(n_neighbors, metric=metric, weights=weights).fit(X[:200], y[:200])
    if metric == "euclidean" or weights == "uniform":
        # 1 / distance is another number for the cosine distance than for the length of the chord
        np.testing.assert_allclose(head.predict_proba(X), plain.predict_proba(X), atol=1e-6)
    else:
        assert (head.predict(X) == plain.predict(X)).mean() > 0.95


def test_search_in_blocks_changes_nothing(blobs, monkeypatch):
    X, y = blobs
    head = KNNHead().fit(X, y)
    expected = head.predict_proba(X)
    monkeypatch.setattr(neighbors_module, "BLOCK_ROWS", 17)
    np.testing.assert_array_equal(head.predict_proba(X), expected)


def test_rows_of_zeros_have_a_cosine_distance():
    X = np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    head = KNNHead(1, metric="cosine").fit(X, ["zero", "x", "y"])
    assert head.predict([[0.0, 0.0], [9.0, 1.0]]).tolist() == ["zero", "x"]


def test_dummy_predicts_the_most_frequent_class_with_the_shares():
    head = DummyHead().fit(np.zeros((5, 2)), ["b", "a", "b", "c", "b"])
    assert head.predict(np.ones((2, 2))).tolist() == ["b", "b"]
    np.testing.assert_allclose(head.predict_proba(np.ones((1, 2))), [[0.2, 0.6, 0.2]])
