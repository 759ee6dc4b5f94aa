"""Damaged and forged model files: a right result, or one line that names the file."""

from __future__ import annotations

import json
import zipfile

import numpy as np
import pytest
from embedonce.errors import EmbedonceError, HeadError, ModelFileError
from embedonce.heads.calibrated import CalibratedHead
from embedonce.heads.io.files import load_head, load_predictor, read_metadata, save_head
from embedonce.heads.registry import make_head
from sklearn.datasets import make_blobs
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier, RadiusNeighborsClassifier
from sklearn.svm import SVC

from .model_mutations import flips, type_changes

METADATA = {
    "class_names": ["a", "b", "c"],
    "fingerprint": {"alpha": 1.0, "image_size": 96},
    "trained_on": "0123456789abcdef",
    "head": "some",
    "parameters": {"C": 1.0},
    "cache_path": "/gone",
    "split": {"method": "random"},
    "novelty": {"rows": 3, "values": "AAAA", "threshold": 1.0},
    "finetuned": {"history": {"loss": [1.0]}, "seconds": 1.0},
}
HEADS = {
    "softmax": make_head("softmax", epochs=1),
    "logreg": make_head("logreg"),
    "linear-svm": make_head("linear-svm", class_weight={"a": 2.0}),
    "linear-svm without probabilities": make_head("linear-svm", probability=False),
    "svm": make_head("svm"),
    "approximate svm": make_head("svm", approximate_above=50, n_components=20),
    "knn": make_head("knn", metric="cosine", weights="distance"),
    "dummy": make_head("dummy"),
    "temperature": CalibratedHead(make_head("logreg")),
    "sigmoid": CalibratedHead(make_head("knn"), "sigmoid"),
}
CLASSIFIERS = {
    "logistic regression": LogisticRegression(),
    "support vectors": SVC(),
    "neighbours": KNeighborsClassifier(),
    "forest": RandomForestClassifier(2, max_depth=2, random_state=0),
}


def rows(n_classes=3):
    X, codes = make_blobs(60, 4, centers=n_classes, random_state=0)
    return X.astype(np.float32), np.array(["a", "b", "c"])[codes]


def outcomes(path, X):
    """Use a file in every way, and return whether each way was refused."""
    refused = []
    for use in (read_metadata, load_head, load_predictor):
        try:
            head = use(path)
            # the dummy head fits any number of features
            if use is not read_metadata and getattr(head, "n_features_in_", 4) == 4:
                head.predict(X)
                if hasattr(head, "predict_proba"):
                    assert np.isfinite(head.predict_proba(X)).all()
        except EmbedonceError as error:  # any other exception fails the test
            assert "\n" not in str(error)
            refused.append(True)
        else:
            refused.append(False)
    return refused


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", HEADS)
def test_a_changed_file_is_right_or_refused(tmp_path, name):
    X, y = rows()
    path = tmp_path / "model.npz"
    save_head(HEADS[name].fit(X, y), path, METADATA)
    data, refused = path.read_bytes(), []
    for _, changed in [*flips(data, 20), *type_changes(data, 60)]:
        path.write_bytes(changed)
        refused += outcomes(path, X)
    assert 0.2 < np.mean(refused) < 0.95


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", CLASSIFIERS)
def test_a_changed_classifier_is_right_or_refused(tmp_path, name):
    X, y = rows()
    path = tmp_path / "model.skops"
    save_head(CLASSIFIERS[name].fit(X, y), path, METADATA)
    data = path.read_bytes()
    for _, changed in [*flips(data, 8), *type_changes(data, 16)]:
        path.write_bytes(changed)
        outcomes(path, X)


@pytest.mark.parametrize("suffix", [".npz", ".joblib", ".skops"])
def test_changed_metadata_are_right_or_refused(tmp_path, suffix):
    X, y = rows()
    path = tmp_path / f"model{suffix}"
    save_head(LogisticRegression().fit(X, y) if suffix == ".skops" else make_head("dummy").fit(X, y), path, METADATA)
    refused = 0
    for what, changed in type_changes(path.read_bytes(), entry="embedonce.json"):
        if what.startswith("embedonce.json metadata"):
            path.write_bytes(changed)
            try:
                read_metadata(path)
            except ModelFileError:
                refused += 1
    assert refused > 80


@pytest.mark.parametrize(
    ("attribute", "array", "message"),
    [
        ("coef_", np.full((3, 4), np.nan), "coef_ must be finite"),
        ("coef_", np.zeros((3, 5)), r"coef_ has shape \(3, 5\)"),
        ("scale_", np.zeros(4), "scale_ must be above 0"),
        ("intercept_", np.zeros(3, "M8[s]"), "intercept_ must be an array of floats"),
        ("classes_", np.array(["b", "a", "c"]), "sorted"),
        ("classes_", np.array(["a", "a", "c"]), "different"),
    ],
)
def test_arrays_that_do_not_fit_are_named(tmp_path, attribute, array, message):
    X, y = rows()
    head = make_head("logreg").fit(X, y)
    setattr(head, attribute, array)
    save_head(head, tmp_path / "a.npz")
    for load in (load_head, load_predictor):
        with pytest.raises(ModelFileError, match=message):
            load(tmp_path / "a.npz")


@pytest.mark.parametrize("count", [-1, 1.5, True])
def test_counts_are_counts(tmp_path, count):
    X, y = rows()
    head = make_head("logreg").fit(X, y)
    head.n_iter_ = count
    save_head(head, tmp_path / "a.npz")
    with pytest.raises(ModelFileError, match="n_iter_ must be a count"):
        load_head(tmp_path / "a.npz")


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("name", ["softmax", "logreg", "svm"])
def test_scores_that_overflow_are_an_error(name):
    X, y = rows()
    head = make_head(name).fit(X.astype(np.float64), y)
    for attribute in {"coef_", "dual_coef_"} & vars(head).keys():
        setattr(head, attribute, getattr(head, attribute) * 1e308)
    with pytest.raises((HeadError, ValueError), match="finite|infinity"):
        head.predict_proba(X.astype(np.float64))


def test_a_classifier_that_gives_nan_is_refused(tmp_path):
    X, y = rows()
    head = LogisticRegression().fit(X, y)
    head.coef_[0, 0] = np.nan
    save_head(head, tmp_path / "a.skops")
    with pytest.raises(ModelFileError, match=r"a\.skops: damaged: it cannot classify: its probabilities"):
        load_head(tmp_path / "a.skops")


def test_a_classifier_without_neighbours_near_is_loaded(tmp_path):
    X, y = rows()
    head = RadiusNeighborsClassifier(0.1).fit(X + 100, y)
    save_head(head, tmp_path / "a.skops")
    assert load_head(tmp_path / "a.skops").predict(X[:2] + 100).tolist() == y[:2].tolist()


def test_counts_of_support_vectors_must_fit(tmp_path):
    X, y = rows()
    head = SVC().fit(X, y)
    head._n_support = head._n_support + 1000
    save_head(head, tmp_path / "a.skops")
    with pytest.raises(ModelFileError, match="counts of support vectors"):
        load_head(tmp_path / "a.skops")


def test_metadata_that_cannot_be_read_are_not_written(tmp_path):
    X, y = rows()
    with pytest.raises(ModelFileError, match="trained_on of metadata of a model file must be hashes"):
        save_head(make_head("dummy").fit(X, y), tmp_path / "a.npz", {"trained_on": ["0" * 16]})
    save_head(make_head("dummy").fit(X, y), tmp_path / "a.npz", {"notes": [1, {"any": None}]})
    assert read_metadata(tmp_path / "a.npz") == {"notes": [1, {"any": None}]}


def test_a_parameter_of_a_wrong_type_is_refused(tmp_path):
    X, y = rows()
    save_head(make_head("knn").fit(X, y), tmp_path / "a.npz")
    with zipfile.ZipFile(tmp_path / "a.npz") as archive:
        document = json.loads(archive.read("embedonce.json"))
        arrays = {name: archive.read(name) for name in archive.namelist() if name.endswith(".npy")}
    document["head"]["parameters"]["n_neighbors"] = "5"
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        for name, content in {"embedonce.json": json.dumps(document), **arrays}.items():
            archive.writestr(name, content)
    with pytest.raises(ModelFileError, match="n_neighbors of head 'knn' must be an integer"):
        load_head(tmp_path / "a.npz")
