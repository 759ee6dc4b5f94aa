from __future__ import annotations

import numpy as np
import pytest
from embedonce.cache import FeatureCache
from embedonce.errors import HeadError, ParameterError
from embedonce.evaluate.comparison.fail_under import failed_gates, read_gates
from embedonce.evaluate.comparison.run import compare

HEADS = ["logreg", "dummy", "sklearn.linear_model:Perceptron"]


@pytest.fixture(scope="module")
def comparison(cache_path):
    return compare(cache_path, HEADS, split="random")


@pytest.mark.parametrize(
    "text", ["accuracy", "accuracy=", "accuracy=x", "acuracy=0.9", "=0.9", "svm.=3", "accuracy=nan"]
)
def test_an_incorrect_gate_is_refused(text):
    with pytest.raises(ParameterError, match="must be METRIC>=VALUE"):
        read_gates([text], ["svm"])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("accuracy=90", r"accuracy from 0 to 1, got 'accuracy=90'\. Scores are fractions: accuracy=0\.9$"),
        ("svm.macro_f1=-0.1", r"macro_f1 from 0 to 1, got 'svm\.macro_f1=-0\.1'$"),
        ("mcc=-2", r"mcc from -1 to 1, got 'mcc=-2'$"),
        ("log_loss=-1", r"log_loss from 0 to inf, got 'log_loss=-1'$"),
    ],
)
def test_a_score_that_cannot_be_is_refused(text, message):
    with pytest.raises(ParameterError, match=message):
        read_gates([text], ["svm"])


def test_a_head_that_is_not_compared_is_refused():
    with pytest.raises(HeadError, match=r"one of the compared heads \(knn, a\.b\), got 'svm\.accuracy=0\.1'"):
        read_gates(["svm.accuracy=0.1"], ["knn", "a.b"])
    assert read_gates(["a.b.accuracy=0.1"], ["knn", "a.b"]) == [("a.b", "accuracy", 0.1, False)]


def test_the_best_head_must_reach_it_or_the_one_that_is_named(comparison):
    assert failed_gates(comparison, read_gates(["accuracy=0.6", "logreg.macro_f1=0.6"], HEADS)) == []
    (failed,) = failed_gates(comparison, read_gates(["dummy.accuracy=0.9"], HEADS))
    assert failed.startswith("accuracy must be at least 0.9, dummy reaches 0.")


def test_a_log_loss_must_be_at_most_that(comparison):
    loss = comparison.result("logreg").scores["log_loss"]
    assert failed_gates(comparison, read_gates([f"logreg.log_loss={loss + 0.01}"], HEADS)) == []
    (failed,) = failed_gates(comparison, read_gates([f"logreg.log_loss={loss - 0.001}"], HEADS))
    assert "log_loss must be at most" in failed


def test_a_score_that_a_head_does_not_have_is_not_reached(comparison):
    (failed,) = failed_gates(comparison, read_gates(["sklearn.linear_model:Perceptron.log_loss=9"], HEADS))
    assert failed.endswith("has none")


def test_the_worse_end_of_the_interval_must_reach_it(comparison):
    low, _ = comparison.result("logreg").intervals["accuracy"]
    value = comparison.result("logreg").scores["accuracy"]
    assert low < value
    assert failed_gates(comparison, read_gates([f"logreg.accuracy>={low - 0.001}@lower"], HEADS)) == []
    (failed,) = failed_gates(comparison, read_gates([f"logreg.accuracy>={low + 0.001}@lower"], HEADS))
    assert failed.startswith("the lower end of accuracy must be at least")
    loss = comparison.result("logreg").intervals["log_loss"][1]
    (failed,) = failed_gates(comparison, read_gates([f"logreg.log_loss<={loss - 0.001}@upper"], HEADS))
    assert failed.startswith("the upper end of log_loss must be at most")


def test_the_best_head_is_corrected_for_the_choice():
    noise = np.random.default_rng(0)
    cache = FeatureCache.from_arrays(noise.normal(size=(120, 8)), ["a", "b"] * 60)
    comparison = compare(cache, ["logreg", "knn", "svm"], split="random")
    best = comparison.best("accuracy")
    assert best.heads == 3
    assert best.low < best.expected < best.score
    gate = f"accuracy>={best.expected + 0.001}"
    (failed,) = failed_gates(comparison, read_gates([gate], HEADS))
    assert failed.endswith(f"reaches {best.expected:.4f}, corrected for the choice among 3 heads")


@pytest.mark.parametrize("text", ["accuracy<=0.9", "log_loss>=0.9", "accuracy>=0.9@upper", "log_loss=1@lower"])
def test_the_wrong_direction_is_refused(text):
    with pytest.raises(ParameterError, match="is better, got"):
        read_gates([text], ["svm"])
