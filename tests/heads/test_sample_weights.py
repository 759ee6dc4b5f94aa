"""Weights of rows in fit: a row of weight 2 counts as two rows."""

from __future__ import annotations

import numpy as np
import pytest
from embedonce.errors import HeadError
from embedonce.heads.registry import make_head
from sklearn.datasets import make_blobs

HEADS = [("logreg", {}), ("logreg", {"class_weight": "balanced"}), ("logreg", {"C": 0.01}), ("dummy", {})]
X, Y = make_blobs(90, 4, centers=3, cluster_std=4, random_state=0)
COUNTS = np.random.default_rng(0).integers(0, 4, 90)


@pytest.mark.parametrize(("name", "parameters"), HEADS)
@pytest.mark.parametrize("blocks", [7, 1024])
def test_a_weight_is_a_number_of_rows(name, parameters, blocks, monkeypatch):
    monkeypatch.setattr("embedonce.heads.numerics.row_blocks.BLOCK_ROWS", blocks)
    head = make_head(name, **parameters).fit(X, Y, sample_weight=COUNTS)
    expected = make_head(name, **parameters).fit(X.repeat(COUNTS, axis=0), Y.repeat(COUNTS))
    np.testing.assert_allclose(head.predict_proba(X), expected.predict_proba(X), atol=1e-4)


@pytest.mark.parametrize(("name", "parameters"), HEADS)
@pytest.mark.parametrize("weight", [None, 1, np.ones(90, int)])
def test_equal_weights_change_nothing(name, parameters, weight):
    head = make_head(name, **parameters).fit(X, Y, sample_weight=weight)
    expected = make_head(name, **parameters).fit(X, Y)
    np.testing.assert_array_equal(head.predict_proba(X), expected.predict_proba(X))


@pytest.mark.parametrize(
    "weight", [-np.ones(90), np.zeros(90), np.ones(5), np.ones(1), np.full(90, np.nan), "one", np.ones((90, 2))]
)
@pytest.mark.parametrize("name", ["logreg", "dummy"])
def test_impossible_weights_are_refused(name, weight):
    with pytest.raises(HeadError, match="sample_weight of head"):
        make_head(name).fit(X, Y, sample_weight=weight)
