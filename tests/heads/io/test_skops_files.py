"""Classifiers of scikit-learn in .skops files: all of them load without trust, and forged trees do not load."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import skops.io
from embedonce.errors import ModelFileError, ModelSuffixError
from embedonce.heads.io.files import load_head, require_saveable, save_head
from embedonce.heads.io.metadata import encode, with_entries
from sklearn.calibration import CalibratedClassifierCV
from sklearn.ensemble import GradientBoostingClassifier, HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, StratifiedKFold
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.svm import SVC
from sklearn.tree import DecisionTreeClassifier
from sklearn.utils import all_estimators

# they take several labels for each row, labels of -1, or two classes only
OTHER_LABELS = {
    "ClassifierChain", "FixedThresholdClassifier", "MultiOutputClassifier", "SelfTrainingClassifier",
    "TunedThresholdClassifierCV",
}  # fmt: skip
QUICK = {"n_estimators": 3, "max_iter": 30}
X = np.abs(np.random.default_rng(0).normal(size=(60, 4))).astype(np.float32)
Y = np.array(["ash", "birch", "cedar"])[np.arange(60) % 3]
X[np.arange(60), np.arange(60) % 3] += 2


def classifiers():
    for name, kind in all_estimators(type_filter="classifier"):
        if name in OTHER_LABELS:
            continue
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # classes that scikit-learn will remove
                head = kind()
        except TypeError:
            inner = LogisticRegression()
            pairs = [("forest", RandomForestClassifier(2)), ("linear", inner)]
            head = kind(pairs if name in ("StackingClassifier", "VotingClassifier") else inner)
        known = head.get_params(deep=False)
        yield name, head.set_params(**{key: value for key, value in QUICK.items() if key in known})
    yield "ball tree", KNeighborsClassifier(algorithm="ball_tree", metric="manhattan")
    if "temperature" in CalibratedClassifierCV._parameter_constraints["method"][0].options:  # not in 1.7
        yield "temperature", CalibratedClassifierCV(GaussianNB(), method="temperature")
    yield "grid", GridSearchCV(RandomForestClassifier(2), {"max_depth": [1, 2]}, cv=StratifiedKFold(2))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("name", "head"), list(classifiers()), ids=lambda value: value if isinstance(value, str) else ""
)
def test_a_classifier_of_scikit_learn_comes_back(tmp_path, name, head):
    require_saveable(head, tmp_path / "model.skops", name)
    head.fit(X, Y)
    save_head(head, tmp_path / "model.skops")
    loaded = load_head(tmp_path / "model.skops")
    method = "predict_proba" if hasattr(head, "predict_proba") else "predict"
    np.testing.assert_array_equal(getattr(loaded, method)(X), getattr(head, method)(X))


@pytest.mark.parametrize(
    "head",
    [
        SVC(kernel=lambda a, b: a @ b.T),
        make_pipeline(FunctionTransformer(lambda rows: rows), LogisticRegression()),
        HistGradientBoostingClassifier(categorical_features=[0]),
    ],
    ids=["kernel", "function", "categories"],
)
def test_what_does_not_fit_is_refused_unfitted(tmp_path, head):
    with pytest.raises(ModelSuffixError, match=r"does not fit into a \.skops file .*Use \.joblib"):
        require_saveable(head, tmp_path / "model.skops", "the head")


def test_what_cannot_be_pickled_is_refused_unfitted(tmp_path):
    with pytest.raises(ModelFileError, match="cannot be pickled"):
        require_saveable(SVC(kernel=lambda a, b: a @ b.T), tmp_path / "model.joblib", "the head")


def forge(tree, field, value, node=0):
    state = tree.__getstate__()
    state["nodes"] = state["nodes"].copy()
    state["nodes"][field][node] = value
    tree.__setstate__(state)


@pytest.mark.parametrize(
    ("field", "value"),
    [("left_child", 0), ("right_child", 10**6), ("left_child", -5), ("feature", 4), ("feature", -2)],
)
def test_a_forged_tree_is_damaged(tmp_path, field, value):
    head = RandomForestClassifier(2, random_state=0).fit(X, Y)
    save_head(head, tmp_path / "model.skops")
    forge(head.estimators_[1].tree_, field, value)
    assert_damaged(tmp_path / "model.skops", head)


def test_a_tree_that_says_it_is_flat_is_damaged(tmp_path):
    head = DecisionTreeClassifier(random_state=0).fit(X, Y)
    save_head(head, tmp_path / "model.skops")
    head.tree_.__setstate__(head.tree_.__getstate__() | {"max_depth": 0})
    assert_damaged(tmp_path / "model.skops", head)


def test_trees_of_other_features_are_damaged(tmp_path):
    for head in (RandomForestClassifier(2, random_state=0), GradientBoostingClassifier(n_estimators=2)):
        save_head(head.fit(X, Y), tmp_path / "model.skops")
        other = DecisionTreeClassifier(random_state=0).fit(np.tile(X, 2), Y)
        head.estimators_[-1] = other
        assert_damaged(tmp_path / "model.skops", head)


def test_boosting_with_too_many_trees_is_damaged(tmp_path):
    head = GradientBoostingClassifier(n_estimators=2).fit(X, Y)
    save_head(head, tmp_path / "model.skops")
    head.estimators_ = np.tile(head.estimators_, (1, 2))
    assert_damaged(tmp_path / "model.skops", head)


@pytest.mark.parametrize(("field", "value"), [("left", 0), ("right", 10**6), ("feature_idx", 4), ("is_categorical", 1)])
def test_a_forged_histogram_tree_is_damaged(tmp_path, field, value):
    head = HistGradientBoostingClassifier(max_iter=1, min_samples_leaf=5).fit(X, Y)
    save_head(head, tmp_path / "model.skops")
    head._predictors[0][1].nodes[field][0] = value
    assert_damaged(tmp_path / "model.skops", head)


def assert_damaged(path, head):
    path.write_bytes(with_entries(skops.io.dumps(head), encode({})))
    with pytest.raises(ModelFileError, match="damaged: "):
        load_head(path)


def test_search_trees_are_made_again(tmp_path):
    head = KNeighborsClassifier(algorithm="kd_tree").fit(X, Y)
    save_head(head, tmp_path / "model.skops")
    expected = head.predict_proba(X)
    head._tree = KNeighborsClassifier(algorithm="kd_tree").fit(X[::-1] + 1, Y)._tree
    (tmp_path / "model.skops").write_bytes(with_entries(skops.io.dumps(head), encode({})))
    np.testing.assert_array_equal(load_head(tmp_path / "model.skops").predict_proba(X), expected)
