from __future__ import annotations

import numpy as np
import pytest
from embedonce.errors import HeadParameterError
from embedonce.heads.registry import HEADS, head_class, make_head

WEIGHED = [name for name in HEADS if name != "dummy"]


def skewed(seed=0):
    """A large and a small class that overlap."""
    generator = np.random.default_rng(seed)
    labels = np.repeat(["large", "small"], [360, 40])
    features = generator.normal(size=(400, 6))
    features[labels == "small", 0] += 1.5
    return features, labels


def recall_of_the_small(head):
    X, y = skewed(1)
    return (head.predict(X)[y == "small"] == "small").mean()


@pytest.mark.parametrize("name", WEIGHED)
def test_balanced_weights_help_the_small_class(name):
    X, y = skewed()
    options = {"epochs": 60} if name == "softmax" else {"n_neighbors": 15} if name == "knn" else {}
    plain = make_head(name, **options).fit(X, y)
    balanced = make_head(name, class_weight="balanced", **options).fit(X, y)
    assert recall_of_the_small(balanced) > recall_of_the_small(plain) + 0.1


@pytest.mark.parametrize("name", WEIGHED)
def test_weights_by_class_are_those_that_balanced_stands_for(name):
    X, y = skewed()
    given = {"large": 400 / 720, "small": 400 / 80}
    balanced, by_class = (make_head(name, class_weight=weight).fit(X, y) for weight in ("balanced", given))
    np.testing.assert_array_equal(balanced.predict(X), by_class.predict(X))


@pytest.mark.parametrize("name", WEIGHED)
def test_wrong_weights_are_refused_by_every_head(name):
    X, y = skewed()
    for weight in ("heavy", {"large": 0}, {"tiny": 1}):
        with pytest.raises(HeadParameterError, match="class_weight"):
            make_head(name, class_weight=weight).fit(X, y)


@pytest.mark.parametrize("name", WEIGHED)
def test_no_weights_are_the_default(name):
    assert head_class(name)().class_weight is None
