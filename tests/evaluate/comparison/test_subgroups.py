from __future__ import annotations

import embedonce as eo
import numpy as np
import pytest
from embedonce.errors import ParameterError, SplitError
from embedonce.evaluate.report.html import page_content


@pytest.fixture(scope="module")
def made():
    """A cache whose images of one scanner are noise."""
    generator = np.random.default_rng(0)
    labels, scanners = np.tile(["ash", "birch"], 300), np.repeat(["a", "b", "c"], 200)
    X = generator.normal(size=(600, 4))
    X[:, 0] += 5 * (labels == "birch") * (scanners != "b")
    return eo.FeatureCache.from_arrays(X, labels, metadata={"scanner": scanners, "site": ["x"] * 600})


@pytest.fixture(scope="module")
def comparison(made):
    return eo.compare(made, ["logreg", "knn"], split="random", by="@scanner")


def test_the_worst_value_is_first_and_differs(comparison):
    best = comparison.table[0].name
    first, *others = [row for row in comparison.subgroups if row.head == best]
    assert (first.column, first.value) == ("scanner", "b")
    assert first.p_holm < 0.001
    assert first.p <= first.p_holm
    assert first.difference < -0.2
    assert first.high < min(row.low for row in others)
    assert sum(row.images for row in (first, *others)) == len(comparison.split.test)
    tested = np.array(comparison.cache.metadata["scanner"])[comparison.split.test] == "b"
    true = comparison.cache.labels[comparison.split.test]
    assert first.score == (comparison.result(best).predicted == true)[tested].mean()
    ((sentence, table),) = page_content(comparison, thumbnails=False, drawn={})["subgroups"]
    assert "b " in sentence
    assert "points lower" in sentence
    assert table.rows[0][0] == "b"
    assert len(comparison.to_dict()["subgroups"]) == 6


def test_columns_that_do_not_fit_are_errors(made):
    with pytest.raises(SplitError, match="2 to 200 values, got @site with 1"):
        eo.compare(made, ["knn"], split="random", by="@site")
    with pytest.raises(SplitError, match="must be a column of metadata"):
        eo.compare(made, ["knn"], split="random", by=["@colour"])
    with pytest.raises(ParameterError, match="parameter by of compare must be columns"):
        eo.compare(made, ["knn"], split="random", by=3)
