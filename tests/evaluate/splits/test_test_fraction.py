"""The fraction of the images that a split tests."""

from __future__ import annotations

import numpy as np
import pytest
from embedonce.cache import FeatureCache
from embedonce.errors import ParameterError, SplitError
from embedonce.evaluate.comparison.run import compare
from embedonce.evaluate.models.training import train
from embedonce.evaluate.splits.groups import Groups
from embedonce.evaluate.splits.plan import check_test_fraction, plan_splits, single_split
from embedonce.evaluate.splits.split import Split
from embedonce.evaluate.tuning.run import tune
from sklearn.model_selection import KFold
from split_caches import cache_of


@pytest.fixture(scope="module")
def cache():
    X = np.random.default_rng(0).normal(size=(600, 4))
    return FeatureCache.from_arrays(X, np.repeat(["a", "b"], 300))


@pytest.fixture(scope="module")
def groups(cache):
    return Groups(cache.paths, [f"g{row // 3}" for row in range(len(cache))])


@pytest.mark.parametrize("fraction", [0.1, 0.5, 0.75])
def test_so_many_images_are_tested(cache, groups, fraction):
    plans, _ = plan_splits(cache, None, 0, groups, test_fraction=fraction)
    for plan in plans:
        assert len(plan[0].test) / len(cache) == pytest.approx(fraction, abs=0.1)
        assert plan[0].to_dict()["test_fraction"] == fraction
        assert set(cache.labels[plan[0].test]) == {0, 1}
    assert [plan.method for plan in plans] == ["grouped", "random"]
    assert plans[0][0].groups["crossing"] == 0


def test_a_smaller_test_part_is_in_a_larger_one(cache):
    small, default, large = (single_split(cache, "random", 3, None, fraction)[0] for fraction in (0.1, None, 0.4))
    assert default.test_fraction == 0.2
    assert set(small.test) < set(default.test) < set(large.test)


def test_results_have_it(cache):
    comparison = compare(cache, ["knn"], split="random", test_fraction=0.3)
    saved = comparison.to_dict()["split"]
    assert saved["test_fraction"] == 0.3
    other = compare(cache, ["knn"], split="random").to_dict()["split"]
    assert other["test_fraction"] == 0.2
    assert saved["test_digest"] != other["test_digest"]


def test_train_and_tune_make_the_same_split(cache, tmp_path):
    expected = single_split(cache, "random", 0, None, 0.3)[0].test
    trained = train(cache, "knn", tmp_path / "knn.npz", split="random", test_fraction=0.3)
    tuned = tune(cache, "knn", space={"n_neighbors": [1]}, split="random", test_fraction=0.3, folds=2)
    np.testing.assert_array_equal(trained.split.test, expected)
    np.testing.assert_array_equal(tuned.split.test, expected)


@pytest.mark.parametrize("fraction", [0, 1, -0.2, 20, float("nan"), "0.2", True, None.__class__])
def test_a_fraction_is_between_0_and_1(cache, fraction):
    with pytest.raises(ParameterError, match="test_fraction of compare must be a number between 0 and 1"):
        compare(cache, ["knn"], test_fraction=fraction)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"folds": 5}, "got 0.3 with folds=5. Each fold tests one part of 5"),
        ({"split": "split.csv"}, "got 0.3 with split='split.csv', which has its parts already"),
        ({"split": "@site"}, "got 0.3 with split='@site', which has its parts already"),
        ({"split": Split([0, 300], [1, 301])}, "with split=a Split, which has its parts"),
        ({"split": KFold(2)}, "with split=a KFold, which has its parts"),
    ],
)
def test_splits_with_parts_refuse_it(cache, options, message):
    with pytest.raises(SplitError, match=message):
        compare(cache, ["knn"], test_fraction=0.3, **options)


def test_a_model_of_all_images_refuses_it(cache, tmp_path):
    with pytest.raises(SplitError, match="test_fraction of train is for random and grouped splits"):
        train(cache, "knn", tmp_path / "knn.npz", split="none", test_fraction=0.3)
    assert not list(tmp_path.iterdir())


def test_the_split_of_the_folder_refuses_it():
    paths = [f"{part}/{name}/{number}.png" for part in ("train", "test") for name in "ab" for number in range(20)]
    given = cache_of({path: path.split("/")[1] for path in paths})
    given.metadata, given.provenance = {"split": np.repeat(["train", "test"], 40)}, {"labels": {"given_split": True}}
    with pytest.raises(SplitError, match="the split of the image folder. Give split='grouped' or 'random'"):
        check_test_fraction("compare", 0.3, given, None)
    check_test_fraction("compare", 0.3, given, "random")
