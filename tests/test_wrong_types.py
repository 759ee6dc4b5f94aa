"""Arguments of other types than those that a function takes: an error of embedonce that names the parameter."""

from __future__ import annotations

from pathlib import Path

import embedonce as eo
import numpy as np
import pytest
from embedonce.errors import EmbedonceError, HeadError, SplitError
from sklearn.cluster import KMeans
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import GridSearchCV, KFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

X = np.random.default_rng(0).normal(size=(40, 4)).astype(np.float32)
CACHE = eo.FeatureCache.from_arrays(X, ["ash", "birch"] * 20)
GROUPS = [f"patient {row // 2}" for row in range(40)]
GOOD = {
    "compare": {"cache": CACHE, "heads": ["dummy"], "split": "random"},
    "train": {"cache": CACHE, "head": "dummy", "path": "model.npz"},
    "tune": {"cache": CACHE, "head": "knn", "split": "random"},
    "evaluate_model": {"model": "model.npz", "cache": CACHE},
    "predict": {"model": "model.npz", "images": ["a.jpg"]},
    "explain": {"model": "model.npz", "image": "a.jpg"},
    "export": {"model": "model.npz", "path": "model.keras"},
    "finetune": {"images": "images", "model": "model.keras", "path": "tuned.keras", "unfreeze": 1},
    "find_groups": {"cache": CACHE},
    "diff": {"a": "runs/a", "b": "runs/b"},
    "info": {"cache": CACHE},
    "pack": {"source": "a.cache", "target": "a.h5"},
    "verify": {"cache": "a.h5"},
    "extract_features": {"images": "images", "cache": "a.h5"},
    "doctor": {"weights": "random:0"},
    "load_head": {"path": "model.npz"},
    "save_head": {"head": LogisticRegression(), "path": "model.skops"},
}
PATHS = [
    ("compare", "cache"), ("train", "cache"), ("train", "path"), ("tune", "cache"), ("evaluate_model", "model"),
    ("evaluate_model", "cache"), ("predict", "model"), ("predict", "images"), ("explain", "image"), ("explain", "model"),
    ("export", "path"), ("export", "images"), ("finetune", "path"), ("finetune", "images"), ("finetune", "curves"),
    ("find_groups", "cache"), ("find_groups", "output"), ("find_groups", "report"), ("find_groups", "images"),
    ("diff", "a"), ("diff", "b"), ("info", "cache"), ("pack", "source"), ("pack", "target"), ("verify", "cache"),
    ("extract_features", "images"), ("extract_features", "cache"), ("doctor", "folder"), ("load_head", "path"),
    ("save_head", "path"), ("compare", "image_models"), ("evaluate_model", "split"),
]  # fmt: skip
OTHERS = [
    ("compare", "heads"), ("compare", "class_weight"), ("compare", "calibrate"), ("compare", "views"),
    ("compare", "learning_curve"), ("compare", "progress"), ("compare", "groups"), ("compare", "seed"), ("compare", "folds"),
    ("train", "parameters"), ("train", "seed"), ("train", "views"), ("tune", "parameters"), ("tune", "space"),
    ("tune", "metric"), ("tune", "progress"), ("evaluate_model", "include_training"), ("predict", "views"),
    ("predict", "top"), ("predict", "progress"), ("export", "check"), ("find_groups", "within_class"),
    ("find_groups", "progress"), ("verify", "sample"), ("verify", "seed"), ("verify", "engine"),
    ("extract_features", "engine"), ("extract_features", "precision"), ("extract_features", "decoding"),
    ("extract_features", "views"), ("extract_features", "strict"), ("doctor", "progress"), ("save_head", "metadata"),
    ("save_head", "cache"), ("finetune", "progress"), ("train", "progress"), ("evaluate_model", "progress"),
]  # fmt: skip


@pytest.mark.parametrize(("function", "name"), PATHS + OTHERS)
@pytest.mark.parametrize(
    "value", [object(), 2.5, np.ones((3, 3)), b"bytes", {1: 2}], ids=lambda value: type(value).__name__
)
def test_a_value_of_another_type_is_refused(tmp_path, monkeypatch, function, name, value):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(EmbedonceError) as caught:
        getattr(eo, function)(**GOOD[function] | {name: value})
    assert f"parameter {name} " in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("function", ["evaluate_model", "predict", "explain", "export", "load_head"])
def test_trust_is_true_or_false(tmp_path, monkeypatch, function):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(EmbedonceError, match="parameter trust of .* must be True or False, got 'no'"):
        getattr(eo, function)(**GOOD[function] | {"trust": "no"})


@pytest.mark.parametrize(
    "value", [None, 5, {"a": 1}, np.zeros(3), "ab", [["a", "b"]]], ids=lambda value: type(value).__name__
)
@pytest.mark.parametrize("name", ["features", "labels", "class_names", "paths", "signatures"])
def test_arrays_of_other_kinds_are_refused(name, value):
    good = {"features": np.eye(2), "labels": ["ash", "birch"], "class_names": ["ash", "birch"]}
    if value is None and name != "features":
        eo.FeatureCache.from_arrays(**good | {name: value})
        return
    with pytest.raises(EmbedonceError, match=r"parameter (\w+) of from_arrays"):
        eo.FeatureCache.from_arrays(**good | {name: value})


@pytest.mark.parametrize(
    ("heads", "message"),
    [
        (object(), "must be names, scikit-learn classifiers or a mapping"),
        ([object()], "must be a name or a scikit-learn classifier"),
        (Ridge(), "'Ridge' must be a scikit-learn classifier"),
        ([KMeans(2)], "'KMeans' must be a scikit-learn classifier"),
        (make_pipeline(Ridge()), "must be a scikit-learn classifier"),
        (LogisticRegression, r"got the class LogisticRegression\. Give an instance of it"),
        ([("name", LogisticRegression())], "must be a name or a scikit-learn classifier"),
        ([LogisticRegression(), LogisticRegression(C=2)], "Give a mapping of names to heads"),
        ({"one": "svm"}, "must map names to parameters or scikit-learn classifiers, got 'svm' for 'one'"),
        ({1: LogisticRegression()}, "must map names"),
        ({"knn": {1: 2}}, "must be a mapping from names to values"),
        (iter([]), "must name at least one head"),
    ],
)
def test_heads_of_other_types_are_not_trained(monkeypatch, heads, message):
    monkeypatch.setattr("embedonce.evaluate.scoring.fit_many.fit_and_score", None)
    with pytest.raises(EmbedonceError, match=message):
        eo.compare(CACHE, heads, split="random")


@pytest.mark.parametrize(
    "heads",
    [
        LogisticRegression().fit(X, CACHE.labels),
        make_pipeline(StandardScaler(), LogisticRegression()),
        GridSearchCV(LogisticRegression(), {"C": [1, 2]}, cv=2),
        (name for name in ("dummy", "knn")),
        np.array(["dummy", "knn"]),
        {"one": LogisticRegression(), "two": {"head": "knn"}},
    ],
    ids=["fitted", "pipeline", "search", "generator", "array", "mapping"],
)
def test_heads_of_these_types_are_trained(heads):
    assert eo.compare(CACHE, heads, split="random").results


def test_a_given_classifier_stays_as_it_is():
    head = LogisticRegression()
    eo.compare(CACHE, [head], split="random", class_weight="balanced")
    assert head.class_weight is None
    assert not hasattr(head, "coef_")


@pytest.mark.parametrize(
    "options",
    [
        {"split": (range(20), range(20, 40))},
        {"split": (np.arange(20), np.arange(20, 40))},
        {"split": KFold(2).split(X)},
        {"groups": GROUPS},
        {"groups": tuple(GROUPS)},
        {"groups": np.array(GROUPS)},
        {"groups": iter(GROUPS)},
        {"seed": np.int64(3), "folds": np.int32(2), "repeats": np.uint8(1), "jobs": np.int16(1)},
        {"progress": False},
    ],
    ids=lambda options: "-".join(f"{name} {type(value).__name__}" for name, value in options.items()),
)
def test_values_of_these_types_are_taken(options):
    assert eo.compare(CACHE, ["dummy"], **options).results


@pytest.mark.parametrize("split", [5, (1, 2, 3), (np.zeros(2), np.ones(2)), KFold, b"ab"], ids=str)
def test_splits_of_other_types_are_refused(split):
    with pytest.raises(SplitError):
        eo.compare(CACHE, ["dummy"], split=split)


def test_a_head_is_given_by_name():
    for function in (eo.make_head, lambda head: eo.train(CACHE, head, Path("model.skops"))):
        with pytest.raises(HeadError, match="by its name"):
            function(LogisticRegression())


def test_values_to_search_may_be_an_array():
    assert eo.tune(CACHE, "knn", space={"n_neighbors": np.array([1, 3])}, split="random", folds=2).trials == 3
