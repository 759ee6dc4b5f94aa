from __future__ import annotations

import numpy as np
import pytest
from embedonce.errors import HeadError
from embedonce.heads.io.export_keras import EXPORTABLE, keras_head
from embedonce.heads.registry import make_head
from labelled_rows import labelled_rows


def _rows(classes):
    return labelled_rows(classes, n=300, d=24)


@pytest.mark.parametrize("classes", [2, 3, 5])
@pytest.mark.parametrize("name", EXPORTABLE)
def test_the_keras_model_gives_the_heads_probabilities(name, classes):
    X, y = _rows(classes)
    head = make_head(name).fit(X[:200], y[:200])
    model = keras_head(head)
    assert model.name == "head"
    np.testing.assert_allclose(model.predict(X[200:], verbose=0), head.predict_proba(X[200:]), atol=1e-5)


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("name", ["softmax", "logreg", "linear-svm"])
def test_affine_log_scores_are_those_of_the_probabilities(name, classes):
    X, y = _rows(classes)
    head = make_head(name).fit(X, y)
    kernel, bias = head.affine_log_scores()
    scores = X.astype(np.float64) @ kernel + bias
    shares = np.exp(scores - scores.max(axis=1, keepdims=True))
    shares /= shares.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(shares, head.predict_proba(X), atol=1e-5)


@pytest.mark.parametrize("name", ["knn", "dummy"])
def test_a_head_that_is_no_layers_is_refused(name):
    X, y = _rows(3)
    with pytest.raises(HeadError, match=f"'{name}' cannot be exported"):
        keras_head(make_head(name).fit(X, y))
