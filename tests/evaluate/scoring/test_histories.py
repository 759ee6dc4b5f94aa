"""Histories of heads: those of embedonce and Keras are drawn, others are left alone."""

from __future__ import annotations

import json
import math
from types import SimpleNamespace

import numpy as np
import pytest
from embedonce import FeatureCache
from embedonce.evaluate.comparison.run import compare
from embedonce.evaluate.models import training
from embedonce.evaluate.scoring.results import training_history
from embedonce.evaluate.splits.split import Split
from saving import without_pictures
from sklearn.dummy import DummyClassifier

LOSS = {"loss": [1.0, 0.5], "accuracy": [0.5, 0.75]}
OTHERS = {
    "list": [1, 2],
    "text": "loss",
    "array": np.zeros(3),
    "no accuracy": {"loss": [1.0]},
    "numbers": {"loss": 1.0, "accuracy": 0.5},
    "lengths": {"loss": [1.0], "accuracy": [0.5, 0.75]},
    "no epochs": {"loss": [], "accuracy": []},
    "no numbers": {"loss": [None], "accuracy": [0.5]},
    "nested": {"loss": [[1.0]], "accuracy": [[0.5]]},
}


class Watched(DummyClassifier):
    """Has a ``history_`` that is no concern of embedonce."""

    def __init__(self, history=None):
        super().__init__()
        self.history = history

    def fit(self, X, y):
        self.history_ = OTHERS.get(self.history, SimpleNamespace(history=LOSS | {"lr": [1, 1]}))
        return super().fit(X, y)


@pytest.mark.parametrize("given", [LOSS, SimpleNamespace(history=LOSS), LOSS | {"f1": "text", "epoch": [0, 1]}])
def test_a_history_of_keras_is_read(given):
    assert training_history(SimpleNamespace(history_=given)) == LOSS


@pytest.mark.parametrize("name", OTHERS)
def test_another_history_is_none(name):
    assert training_history(SimpleNamespace(history_=OTHERS[name])) is None


def test_other_histories_are_no_obstacle_to_saving(cache, tmp_path):
    heads = {name: Watched(name) for name in (*OTHERS, "keras")}
    with without_pictures():
        compare(cache, heads, split="random").save(tmp_path)
    results = json.loads((tmp_path / "results.json").read_bytes())["heads"]
    assert [entry["head"] for entry in results if "history" in entry] == ["keras"]


def test_losses_that_are_not_numbers_are_saved(cache, tmp_path):
    comparison = compare(cache, {"softmax": {"epochs": 1}}, split="random")
    comparison.result("softmax").head.history_["loss"] = [math.nan]
    with without_pictures():
        comparison.save(tmp_path)
    assert json.loads((tmp_path / "results.json").read_bytes())["heads"][0]["history"]["loss"] == [None]


def test_a_head_with_another_history_is_trained(cache, tmp_path, monkeypatch):
    monkeypatch.setattr(training, "make_head", lambda name: Watched("list"))
    trained = training.train(cache, "watched", tmp_path / "head.joblib")
    assert trained.curves is None


def test_curves_are_of_the_validation_images():
    rng = np.random.default_rng(0)
    cache = FeatureCache.from_arrays(rng.normal(size=(80, 8)), ["a", "b"] * 40)
    train, validation, test = np.split(rng.permutation(80), [40, 60])
    first, second = (
        compare(cache, ["softmax"], split=split).result("softmax").history["val_loss"]
        for split in (Split(train, test, validation=validation), Split(train, validation))
    )
    assert first == second
