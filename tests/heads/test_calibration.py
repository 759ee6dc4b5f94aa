"""Probabilities made from margins."""

from __future__ import annotations

import numpy as np
import pytest
from embedonce.errors import HeadError
from embedonce.heads.calibration import (
    ENOUGH_ROWS,
    FOLD_SEED,
    _group_folds,
    fit_inverse_temperature,
    folds,
    smoothed_targets,
)
from embedonce.heads.numerics.scores import (
    align_argmax,
    class_log_scores,
    pair_log_scores,
    predicted_indices,
    probabilities,
)
from embedonce.heads.registry import make_head
from sklearn.datasets import make_classification
from sklearn.metrics import log_loss
from sklearn.model_selection import StratifiedGroupKFold


def test_recovers_the_factor_that_made_the_labels():
    rng = np.random.default_rng(0)
    margins = rng.normal(size=(20_000, 4))
    p = probabilities(class_log_scores(margins, 2.5), predicted_indices(margins))
    codes = (rng.random((len(p), 1)) > p.cumsum(axis=1)).sum(axis=1)
    assert fit_inverse_temperature(class_log_scores, margins, codes) == pytest.approx(2.5, rel=0.05)


def test_scaling_margins_scales_the_factor_back():
    rng = np.random.default_rng(1)
    margins = rng.normal(size=500)
    codes = (margins + rng.normal(size=500) > 0).astype(np.intp)
    plain = fit_inverse_temperature(class_log_scores, margins, codes)
    assert fit_inverse_temperature(class_log_scores, margins * 1e6, codes) == pytest.approx(plain / 1e6, rel=1e-2)


def test_faultless_held_out_rows_do_not_make_it_certain():
    codes = np.repeat([0, 1], 20).astype(np.intp)
    a = fit_inverse_temperature(class_log_scores, np.where(codes == 1, 1.0, -1.0), codes)
    # Platt's prior: 21 of 22
    assert 1 / (1 + np.exp(-a)) == pytest.approx(21 / 22, abs=1e-3)


def test_no_rows_or_no_margins_give_the_neutral_factor():
    assert fit_inverse_temperature(class_log_scores, np.zeros((0, 3)), np.zeros(0, np.intp)) == 1.0
    assert fit_inverse_temperature(class_log_scores, np.zeros((5, 3)), np.zeros(5, np.intp)) == 1.0


def test_pairs_of_two_classes_are_the_logistic_function():
    margins = np.linspace(-5, 5, 11)[:, None]
    p = probabilities(pair_log_scores(margins, 2, 1.7), (margins[:, 0] < 0).astype(np.intp))
    np.testing.assert_allclose(p[:, 0], 1 / (1 + np.exp(-1.7 * margins[:, 0])), rtol=1e-12)


def test_smoothed_targets_sum_to_one_and_favour_the_true_class():
    codes = np.array([0, 0, 0, 1, 2])
    targets = smoothed_targets(codes, 3)
    np.testing.assert_allclose(targets.sum(axis=1), 1)
    np.testing.assert_allclose(targets[0], [4 / 5, 0.1, 0.1])
    np.testing.assert_array_equal(targets.argmax(axis=1), codes)


def test_the_predicted_class_becomes_the_most_probable():
    p = np.array([[0.5, 0.3, 0.2], [0.2, 0.5, 0.3], [0.5, 0.5, 0.0], [1.0, 0.0, 0.0]])
    settled = align_argmax(p.copy(), np.array([2, 1, 1, 1]))
    np.testing.assert_array_equal(settled.argmax(axis=1), [2, 1, 1, 1])
    np.testing.assert_array_equal(settled[1], p[1])
    np.testing.assert_allclose(settled.sum(axis=1), 1, rtol=1e-14)


def test_folds_stop_when_enough_rows_are_held_out():
    codes = np.tile([0, 1, 2], 1000).astype(np.intp)
    held = [part for _, part in folds(codes)]
    assert len(held) == 2
    assert sum(map(len, held)) >= ENOUGH_ROWS
    assert len(list(folds(codes[:300]))) == 5


def test_folds_shrink_with_the_smallest_class():
    codes = np.array([0] * 30 + [1] * 3, dtype=np.intp)
    parts = list(folds(codes))
    assert len(parts) == 3
    assert all(set(codes[train]) == {0, 1} for train, _ in parts)


def test_rows_of_a_rare_class_are_never_held_out():
    codes = np.array([0] * 30 + [1] * 20 + [2], dtype=np.intp)
    parts = list(folds(codes))
    assert len(parts) == 5
    assert all(set(codes[train]) == {0, 1, 2} for train, _ in parts)
    assert sorted(np.concatenate([held for _, held in parts])) == list(range(50))
    # other rows of the group of a rare row stay with it, so that class 1 has one free group, then none
    groups = np.array([*range(30), *[30] * 10, *[31] * 10, 31])
    assert list(folds(codes, groups)) == []
    groups[30:35] = 32
    parts = list(folds(codes, groups))
    assert {30, 31, 32} & set(groups[np.concatenate([held for _, held in parts])]) == {30, 32}
    assert all(not set(groups[train]) & set(groups[held]) for train, held in parts)


@pytest.mark.parametrize("codes", [[0] * 30 + [1], [0] * 30 + [1, 2]])
def test_one_class_that_can_be_held_out_is_not_enough(codes):
    assert list(folds(np.array(codes, dtype=np.intp))) == []


def test_folds_keep_groups_together():
    groups = np.repeat(np.arange(40), 5)
    codes = (groups % 2).astype(np.intp)
    for train, held in folds(codes, groups):
        assert not set(groups[train]) & set(groups[held])


@pytest.mark.parametrize("name", ["svm", "linear-svm"])
def test_class_of_one_row_falls_back_to_the_neutral_factor(name):
    X = np.random.default_rng(0).normal(size=(12, 3))
    head = make_head(name).fit(X, ["rare"] + ["common"] * 11)
    assert head.inverse_temperature_ == 1.0
    assert head.n_calibration_rows_ == 0
    assert list(head.uncalibrated_classes_) == ["common", "rare"]
    np.testing.assert_allclose(head.predict_proba(X).sum(axis=1), 1)


@pytest.mark.parametrize("name", ["svm", "linear-svm"])
def test_a_rare_class_leaves_the_others_calibrated(name):
    X, y = make_classification(800, 20, n_informative=10, n_classes=3, flip_y=0.2, random_state=1)
    rows = np.r_[0:400, 400 + np.flatnonzero(y[400:] == 2)[:1]]
    rows = rows[(y[rows] != 2) | (rows >= 400)]  # one row of class 2
    whole = make_head(name).fit(X[:400], y[:400])
    head = make_head(name).fit(X[rows], y[rows])
    assert list(head.uncalibrated_classes_) == [2]
    assert list(whole.uncalibrated_classes_) == []
    test = np.arange(400, 800)[y[400:] != 2]
    plain = make_head(name)
    plain.__dict__.update(head.__dict__)
    plain.inverse_temperature_ = 1.0
    assert log_loss(y[test], head.predict_proba(X[test]), labels=[0, 1, 2]) < 0.95 * log_loss(
        y[test], plain.predict_proba(X[test]), labels=[0, 1, 2]
    )


@pytest.mark.parametrize("name", ["svm", "linear-svm"])
def test_groups_of_another_length_are_refused(name):
    with pytest.raises(HeadError, match="groups of head"):
        make_head(name).fit(np.eye(6), [0, 1] * 3, groups=[1, 2])


@pytest.mark.parametrize("name", ["svm", "linear-svm"])
def test_groups_keep_probabilities_from_overconfidence(name):
    rng = np.random.default_rng(0)
    originals, y = make_classification(120, 20, n_informative=5, class_sep=0.5, flip_y=0.2, random_state=0)
    X = np.repeat(originals, 8, axis=0) + 0.05 * rng.normal(size=(960, 20))
    groups = np.repeat(np.arange(120), 8)
    assert (
        make_head(name).fit(X, y[groups], groups=groups).inverse_temperature_
        < make_head(name).fit(X, y[groups]).inverse_temperature_
    )


@pytest.mark.parametrize("n_classes", [2, 4])
@pytest.mark.parametrize("name", ["svm", "linear-svm"])
def test_log_loss_is_close_to_the_best_in_hindsight(name, n_classes):
    X, y = make_classification(
        1600, 25, n_informative=10, n_classes=n_classes, class_sep=0.9, flip_y=0.1, random_state=2
    )
    head = make_head(name).fit(X[:800], y[:800])
    fitted = log_loss(y[800:], head.predict_proba(X[800:]))
    losses = []
    for factor in np.geomspace(0.1, 10, 41):
        other = make_head(name, probability=True)
        other.__dict__.update(head.__dict__)
        other.inverse_temperature_ = head.inverse_temperature_ * factor
        losses.append(log_loss(y[800:], other.predict_proba(X[800:])))
    assert fitted < min(losses) + 0.02


@pytest.mark.parametrize("classes", [2, 3, 20])
def test_group_folds_are_those_of_scikit_learn(classes):
    generator = np.random.default_rng(classes)
    codes, groups = np.sort(generator.integers(0, classes, 400)), generator.integers(0, 150, 400)
    expected = StratifiedGroupKFold(5, shuffle=True, random_state=FOLD_SEED).split(codes, codes, groups)
    for (_, one), (_, other) in zip(expected, _group_folds(5).split(codes, codes, groups), strict=True):
        assert np.array_equal(one, other)
