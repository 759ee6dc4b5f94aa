from __future__ import annotations

from types import SimpleNamespace

import numpy as np
from embedonce import FeatureCache, Groups
from embedonce.evaluate.comparison.run import compare
from embedonce.evaluate.report.label_errors import conflicting_rows, label_errors, notes_on_pairs, suspected_rows


def test_flipped_labels_are_found_and_come_first():
    generator = np.random.default_rng(0)
    truth = generator.integers(0, 3, 600)
    logits = generator.normal(size=(600, 3))
    logits[np.arange(600), truth] += 8
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    labels = truth.copy()
    flipped = generator.choice(600, 30, replace=False)
    labels[flipped] = (labels[flipped] + 1) % 3
    found, _ = suspected_rows(labels, probabilities)
    assert np.isin(flipped, found).mean() >= 0.9
    assert np.isin(found[:25], flipped).mean() >= 0.95


def test_clean_labels_are_not_suspected():
    true = np.arange(30) % 3
    assert len(suspected_rows(true, np.eye(3)[true] * 0.97 + 0.01)[0]) == 0


def test_a_class_without_labelled_images_is_not_suggested():
    probabilities = np.tile([0.1, 0.1, 0.8], (10, 1))
    assert len(suspected_rows(np.arange(10) % 2, probabilities)[0]) == 0


def test_suspected_errors_have_path_and_both_labels(cache_path):
    comparison = compare(cache_path, ["knn", "sklearn.linear_model:Perceptron"], split="random", folds=3)
    head, listed = label_errors(comparison)
    assert head == "knn"
    for one in listed:
        assert comparison.cache.paths[one.row] == one.path
        assert one.path.startswith(one.label)
        assert one.suggested != one.label
        assert one.p_suggested > one.p_label


def test_the_suggested_class_is_the_one_above_its_threshold():
    # 0 and 2 are only ever seen with certainty, 1 almost never: 0.4 for it says more than 0.45 for 0
    of_class = np.array([[0.9, 0.05, 0.05], [0.3, 0.35, 0.35], [0.05, 0.05, 0.9]])
    labels = np.repeat([0, 1, 2], 10)
    probabilities = of_class[labels]
    probabilities[-1] = 0.45, 0.4, 0.15
    cache = SimpleNamespace(labels=labels, class_names=["a", "b", "c"], paths=[f"{row}.png" for row in range(30)])
    result = SimpleNamespace(name="head", probabilities=probabilities, scores={"log_loss": 0.1})
    split = SimpleNamespace(test=np.arange(30))
    comparison = SimpleNamespace(cache=cache, results=[result], split=split, groups=None)
    head, listed = label_errors(comparison)
    assert head == "head"
    (one,) = (entry for entry in listed if entry.row == 29)
    assert (one.path, one.label, one.suggested) == ("29.png", "c", "b")
    assert (one.p_label, one.p_suggested) == (0.15, 0.4)


def test_without_probabilities_no_label_is_suspected(cache_path):
    comparison = compare(cache_path, ["sklearn.linear_model:Perceptron"], split="random")
    assert label_errors(comparison) == (None, ())


def test_labels_of_a_minority_of_near_duplicates_come_first():
    labels = np.array([0, 0, 0, 1, 1, 1, 2, 0, 1, 2])
    ids = np.array([0, 0, 0, 0, 1, 1, 1, 2, 2, 3])
    found, paired = conflicting_rows(labels, ids)
    assert list(found.items()) == [(3, 0), (6, 1)]  # 3 of 4 and 2 of 3; one to one decides nothing
    assert paired is None


def test_minorities_are_found_in_training_and_test_rows():
    features = np.random.default_rng(0).normal(size=(20, 8)).repeat(4, axis=0)
    labels = np.array(["ash", "birch"]).repeat(4).tolist() * 10
    wrong = [5, 33, 62]
    for row in wrong:
        labels[row] = "ash" if labels[row] == "birch" else "birch"
    cache = FeatureCache.from_arrays(features, labels)
    groups = Groups(cache.paths, [str(row // 4) for row in range(80)], "found")
    comparison = compare(cache, ["knn"], groups=groups)
    _, listed = label_errors(comparison)
    first = [one for one in listed if one.reason == "near-duplicates"]
    assert listed[: len(first)] == tuple(first)
    assert sorted(one.row for one in first) == wrong
    assert all(one.suggested != one.label for one in first)
    assert {one.p_label is None for one in first} == {one.row not in comparison.split.test for one in first}


def test_pairs_of_classes_are_not_label_errors():
    features = np.arange(30.0).repeat(2)[:, None]
    cache = FeatureCache.from_arrays(features, ["with", "without"] * 30)
    groups = Groups(cache.paths, [str(row // 2) for row in range(60)], "found")
    comparison = compare(cache, ["knn"], groups=groups, split="random")
    (note,) = notes_on_pairs(comparison)
    assert note.startswith("most groups of near-duplicates hold as many images of with as of without, so the images")
    assert not [one for one in label_errors(comparison)[1] if one.reason == "near-duplicates"]
    given = compare(cache, ["knn"], groups=Groups(groups.paths, groups.names), split="random")
    assert not notes_on_pairs(given)
