"""Making heads by name."""

from __future__ import annotations

import json

import pytest
from embedonce.errors import HeadError, HeadParameterError
from embedonce.heads.registry import HEADS, make_head
from sklearn.base import is_classifier
from sklearn.ensemble import RandomForestClassifier


@pytest.mark.parametrize("name", list(HEADS))
def test_every_name_makes_a_classifier_that_knows_its_name(name):
    head = make_head(name)
    assert is_classifier(head)
    assert head.head_name == name


def test_names_are_those_of_the_table():
    assert list(HEADS) == ["logreg", "svm", "softmax", "linear-svm", "knn", "dummy"]


def test_unknown_head_names_the_known_and_the_closest():
    with pytest.raises(HeadError, match=r"no head 'logregg' \(did you mean 'logreg'\?\).*logreg, svm, softmax"):
        make_head("logregg")


def test_an_unknown_parameter_names_those_of_the_head():
    with pytest.raises(HeadParameterError, match=r"head 'logreg' has no parameter 'c' \(got c=1\).*C, max_iter"):
        make_head("logreg", c=1)


def test_head_without_parameters_says_so():
    with pytest.raises(HeadParameterError, match=r"head 'dummy' has no parameter 'C' .*it takes none"):
        make_head("dummy", C=1)


@pytest.mark.parametrize(
    ("name", "params", "message"),
    [
        ("logreg", {"C": -1}, "parameter C of head 'logreg' must be a number above 0, got -1"),
        ("logreg", {"C": "x"}, "parameter C of head 'logreg' must be a number above 0, got 'x'"),
        ("logreg", {"C": True}, "parameter C of head 'logreg' must be a number above 0, got True"),
        ("logreg", {"C": float("nan")}, "parameter C of head 'logreg' must be a number above 0, got nan"),
        ("logreg", {"max_iter": 1.5}, "parameter max_iter of head 'logreg' must be an integer of at least 1, got 1.5"),
        (
            "logreg",
            {"class_weight": "equal"},
            "parameter class_weight of head 'logreg' must be None, 'balanced' or a mapping from class to a "
            "weight above 0, got 'equal'",
        ),
        ("svm", {"scaling": "none"}, "parameter scaling of head 'svm' must be 'overall' or 'standard', got 'none'"),
        ("svm", {"gamma": "auto"}, "parameter gamma of head 'svm' must be 'scale' or a number above 0, got 'auto'"),
        ("svm", {"probability": 1}, "parameter probability of head 'svm' must be True or False, got 1"),
        ("linear-svm", {"C": 0}, "parameter C of head 'linear-svm' must be a number above 0, got 0"),
        ("knn", {"metric": "l1"}, "parameter metric of head 'knn' must be 'euclidean' or 'cosine', got 'l1'"),
        ("knn", {"n_neighbors": 0}, "parameter n_neighbors of head 'knn' must be an integer of at least 1, got 0"),
        (
            "knn",
            {"n_neighbors": 5},
            "parameter n_neighbors of head 'knn' must be at most 4, the number of training rows, got 5",
        ),
        (
            "softmax",
            {"dropout": 1.0},
            "parameter dropout of head 'softmax' must be a number of at least 0 and below 1, got 1.0",
        ),
        ("softmax", {"epochs": 0}, "parameter epochs of head 'softmax' must be an integer of at least 1, got 0"),
        (
            "softmax",
            {"random_state": None},
            "parameter random_state of head 'softmax' must be an integer of at least 0 and below 4.29497e+09, got None",
        ),
    ],
)
def test_an_incorrect_value_is_refused_in_one_line(name, params, message):
    rows = [[0.0], [1.0], [0.0], [1.0]], ["a", "b", "a", "b"]
    for begin in (lambda: make_head(name, **params), lambda: make_head(name).set_params(**params)):
        with pytest.raises(HeadParameterError) as caught:
            begin().fit(*rows)
        assert str(caught.value) == message


def test_make_head_refuses_an_incorrect_value():
    with pytest.raises(HeadParameterError, match="parameter C of head 'logreg' must be a number above 0, got 'x'"):
        make_head("logreg", C="x")


def test_class_weight_of_an_unknown_class_names_the_classes():
    with pytest.raises(HeadParameterError, match="the classes are 'a', 'b', got 'z'"):
        make_head("svm", class_weight={"z": 2}).fit([[0.0], [1.0]], ["a", "b"])


def test_class_of_another_package_is_used_as_it_is():
    head = make_head("sklearn.ensemble:RandomForestClassifier", n_estimators=3)
    assert type(head) is RandomForestClassifier
    assert head.n_estimators == 3


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("no.such.module:Head", "module 'no.such.module' cannot be imported"),
        (":Head", "module '' cannot be imported"),
        ("sklearn.ensemble:NoSuchForest", "has no class 'NoSuchForest'"),
        ("sklearn.linear_model:Ridge", "must be a scikit-learn classifier"),
        ("sklearn.preprocessing:StandardScaler", "methods fit and predict"),
        ("os.path:join", "methods fit and predict"),
    ],
)
def test_class_that_is_no_classifier_is_refused(name, message):
    with pytest.raises(HeadError, match=message):
        make_head(name)


def test_class_with_methods_only_is_no_scikit_learn_classifier(tmp_path, monkeypatch):
    (tmp_path / "lookalike_head.py").write_text(
        "class Head:\n    def fit(self, X, y): return self\n    def predict(self, X): return X\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(HeadError, match="must be a scikit-learn classifier"):
        make_head("lookalike_head:Head")


def test_a_module_that_fails_is_reported_in_one_line(tmp_path, monkeypatch):
    (tmp_path / "broken_head.py").write_text("raise RuntimeError('first line\\nsecond line')\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(HeadError, match=r"cannot be imported: RuntimeError: first line$"):
        make_head("broken_head:Head")


@pytest.fixture
def modules_after(python):
    """Return a function that runs code in a fresh interpreter and returns the names of the modules that it imported."""
    return lambda code: set(python(f"import sys\n{code}\nprint(' '.join(sys.modules))").split())


def test_registry_imports_neither_scikit_learn_nor_tensorflow(modules_after):
    modules = modules_after("from embedonce.heads.registry import HEADS, make_head; list(HEADS)")
    assert not modules & {"sklearn", "scipy", "tensorflow", "keras", "joblib", "skops"}


def test_the_files_module_imports_no_heavy_package(modules_after):
    modules = modules_after("import embedonce.heads.io.files")
    assert not modules & {"sklearn", "scipy", "tensorflow", "keras", "joblib", "skops"}


def test_heads_fit_save_and_load_without_tensorflow(modules_after, tmp_path):
    modules = modules_after(
        f"""
import numpy as np
from embedonce.heads.registry import make_head
from embedonce.heads.io.files import load_head, save_head
X = np.random.default_rng(0).normal(size=(40, 3)).astype(np.float32)
for name in ["logreg", "svm", "linear-svm", "knn", "dummy"]:
    path = {str(tmp_path)!r} + f"/{{name}}.npz"
    save_head(make_head(name).fit(X, np.arange(40) % 2), path)
    load_head(path).predict_proba(X)
"""
    )
    assert "embedonce.heads.svm" in modules
    assert not modules & {"tensorflow", "keras"}


WITH_ONE_MORE = '''
import sys
from types import ModuleType

from embedonce.heads.registry import HEADS, HeadSpec
from embedonce.heads.spaces import Range

module = sys.modules["embedonce.heads.prior"] = ModuleType("embedonce.heads.prior")
HEADS["prior"] = HeadSpec("prior", "PriorHead", {"floor": Range(0.0, 1.0, log=False)})
from embedonce.cli.app import main
if "--help" not in sys.argv:
    exec("""
import numpy as np
from embedonce.heads.base import FeatureHead

class PriorHead(FeatureHead):
    head_name = "prior"

    def __init__(self, floor=0.0):
        self.floor = floor

    def fit(self, X, y):
        X, codes = self._start_fit(X, y)
        self.shares_ = np.bincount(codes) / len(codes) + self.floor
        return self

    def _scores(self, X):
        return np.tile(self.shares_, (len(X), 1))
""", module.__dict__)
main(sys.argv[1:])
'''


def test_one_entry_of_the_table_is_all_that_a_head_needs(python, cache_path, tmp_path):
    assert "dummy, prior, or" in " ".join(python(WITH_ONE_MORE, "train", "--help").split())
    python(WITH_ONE_MORE, "train", cache_path, "--head", "prior", "-o", tmp_path / "a.npz")
    assert "prior      score" in python(WITH_ONE_MORE, "evaluate", tmp_path / "a.npz", cache_path)  # without --trust
    search = ("--split", "random", "--folds", 2, "--trials", 2, "--json")
    tuned = json.loads(python(WITH_ONE_MORE, "tune", cache_path, "--head", "prior", "-o", tmp_path / "b", *search))
    assert list(tuned["best_parameters"]) == ["floor"]


def test_heads_say_what_thousands_of_classes_cost():
    softmax, svm = make_head("softmax"), make_head("svm")
    assert softmax.cost_notice(16_000, 1280, 3) == svm.cost_notice(16_000, 1280, 3) == ""
    assert softmax.cost_notice(16_000, 1280, 2000).startswith("up to about 2 minutes of processor time for its epochs")
    assert make_head("softmax", epochs=5).cost_notice(16_000, 1280, 2000) == ""
    assert "every two of 2,000 classes, 1,999,000 pairs" in svm.cost_notice(16_000, 1280, 2000)
    assert make_head("logreg").cost_notice(16_000, 1280, 2000) == ""
