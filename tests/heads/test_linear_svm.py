"""The linear support vector machine against scikit-learn's."""

from __future__ import annotations

import numpy as np
import pytest
from embedonce.heads import make_head
from labelled_rows import labelled_rows
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC


@pytest.mark.parametrize("class_weight", [None, "balanced", {"class 0": 5.0}])
@pytest.mark.parametrize("classes", [2, 3])
def test_the_minimum_is_that_of_linear_svc(classes, class_weight):
    X, y = labelled_rows(classes, 91, 12)
    X = X.astype(np.float64)  # in float32, both round the standardised rows differently
    settings = {"C": 0.1, "class_weight": class_weight}
    head = make_head("linear-svm", tol=1e-8, probability=False, **settings).fit(X, y)
    plain = make_pipeline(StandardScaler(), LinearSVC(tol=1e-10, max_iter=100_000, **settings)).fit(X, y)
    np.testing.assert_allclose(head.coef_, plain[-1].coef_, atol=2e-5)
    np.testing.assert_allclose(head.intercept_, plain[-1].intercept_, atol=2e-5)
    assert np.array_equal(head.predict(X), plain.predict(X))
    np.testing.assert_allclose(head.model_.decision_function(X), plain.decision_function(X), atol=1e-4)
