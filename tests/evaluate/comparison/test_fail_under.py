from __future__ import annotations

import pytest
from embedonce.errors import HeadError, ParameterError
from embedonce.evaluate.comparison.fail_under import failed_gates, read_gates
from embedonce.evaluate.comparison.run import compare


@pytest.fixture(scope="module")
def comparison(cache_path):
    return compare(cache_path, ["logreg", "dummy", "sklearn.linear_model:Perceptron"], split="random")


@pytest.mark.parametrize(
    "text", ["accuracy", "accuracy=", "accuracy=x", "acuracy=0.9", "=0.9", "svm.=3", "accuracy=nan"]
)
def test_an_incorrect_gate_is_refused(text):
    with pytest.raises(ParameterError, match="must be METRIC=VALUE"):
        read_gates([text])


def test_the_best_head_must_reach_it_or_the_one_that_is_named(comparison):
    assert failed_gates(comparison, read_gates(["accuracy=0.6", "logreg.macro_f1=0.6"])) == []
    (failed,) = failed_gates(comparison, read_gates(["dummy.accuracy=0.9"]))
    assert failed.startswith("accuracy must be at least 0.9, dummy reaches 0.")


def test_a_log_loss_must_be_at_most_that(comparison):
    loss = comparison.result("logreg").scores["log_loss"]
    assert failed_gates(comparison, read_gates([f"logreg.log_loss={loss + 0.01}"])) == []
    (failed,) = failed_gates(comparison, read_gates([f"logreg.log_loss={loss - 0.001}"]))
    assert "log_loss must be at most" in failed


def test_a_score_that_a_head_does_not_have_is_not_reached(comparison):
    (failed,) = failed_gates(comparison, read_gates(["sklearn.linear_model:Perceptron.log_loss=9"]))
    assert failed.endswith("has none")


def test_a_head_that_was_not_compared_is_an_error(comparison):
    with pytest.raises(HeadError, match="got 'svm'"):
        failed_gates(comparison, read_gates(["svm.accuracy=0.1"]))
