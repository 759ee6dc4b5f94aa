from __future__ import annotations

import numpy as np
import pytest
from embedonce.evaluate.metrics.metrics import METRICS, losses
from embedonce.evaluate.metrics.selection import Predicted, selection_bias


def equal_heads(generator, count, images=200, accuracy=0.9, classes=2):
    true = generator.integers(0, classes, images)
    heads = {}
    for number in range(count):
        correct = generator.random(images) < accuracy
        predicted = np.where(correct, true, (true + 1) % classes)
        probabilities = np.full((images, classes), 0.2 / (classes - 1))
        probabilities[np.arange(images), predicted] = 0.8
        heads[str(number)] = Predicted(predicted, probabilities)
    return true, heads


def measured(metric, true, head):
    if metric == "log_loss":
        return losses(true, head.probabilities).mean()
    return np.mean([(head.classes[true == label] == label).mean() for label in (0, 1)])


@pytest.mark.parametrize("metric", ["balanced_accuracy", "log_loss"])
def test_the_best_of_equal_heads_is_corrected(metric):
    generator = np.random.default_rng(0)
    plain, corrected = [], []
    for _ in range(40):
        true, heads = equal_heads(generator, 10)
        scores = [measured(metric, true, head) for head in heads.values()]
        best = max(scores, key=lambda value: METRICS[metric].sign * value)
        plain.append(best)
        corrected.append(best + selection_bias(metric, true, heads, 2))
    truth = 0.9 if metric != "log_loss" else -0.9 * np.log(0.8) - 0.1 * np.log(0.2)
    assert abs(np.mean(corrected) - truth) < 0.3 * abs(np.mean(plain) - truth)


@pytest.mark.parametrize("metric", METRICS)
def test_every_score_gets_worse_or_stays(metric):
    true, heads = equal_heads(np.random.default_rng(1), 4, classes=3)
    assert METRICS[metric].sign * selection_bias(metric, true, heads, 3) < 0


def test_one_head_and_a_far_better_one_are_not_corrected():
    true, heads = equal_heads(np.random.default_rng(2), 2)
    assert selection_bias("accuracy", true, {"0": heads["0"]}, 2) == 0
    heads["best"] = Predicted(true, None)
    assert selection_bias("accuracy", true, heads, 2) == pytest.approx(0, abs=1e-12)
    assert selection_bias("log_loss", true, {"best": heads["best"], "0": heads["0"]}, 2) == 0


def test_groups_are_drawn_as_a_whole():
    true, heads = equal_heads(np.random.default_rng(3), 6, images=60)
    copies = {name: Predicted(np.repeat(head.classes, 10), None) for name, head in heads.items()}
    groups = np.repeat(np.arange(60), 10)
    grouped = selection_bias("accuracy", np.repeat(true, 10), copies, 2, groups)
    assert grouped == pytest.approx(selection_bias("accuracy", true, heads, 2), abs=1e-9)
    assert grouped < selection_bias("accuracy", np.repeat(true, 10), copies, 2) < 0
