"""A search finds what is better, sees nothing of the test part, and says what that is worth."""

from __future__ import annotations

import csv
import itertools
import json
import math
import sys
import time
import warnings
from dataclasses import replace

import cloudpickle
import numpy as np
import pytest
from embedonce.cli.head_options import head_parameters
from embedonce.errors import CacheError, HeadError, HeadParameterError, OutputError, ParameterError, SplitError
from embedonce.evaluate.comparison.run import compare
from embedonce.evaluate.splits import subsets
from embedonce.evaluate.splits.plan import make_split, make_splits
from embedonce.evaluate.splits.split import Split, every_row
from embedonce.evaluate.splits.split_files import write_folds, write_split
from embedonce.evaluate.splits.stable_hash import hash_to_unit_interval
from embedonce.evaluate.splits.subsets import first_rows, inner_folds
from embedonce.evaluate.tuning import successive_halving as tune_search
from embedonce.evaluate.tuning.result import Tuning
from embedonce.evaluate.tuning.run import tune
from embedonce.evaluate.tuning.successive_halving import rung_fractions
from embedonce.extract import Progress
from embedonce.heads.registry import HEADS, make_head
from embedonce.heads.search import candidates, search_space
from embedonce.heads.spaces import Choice, Range
from hypothesis import given, settings
from hypothesis import strategies as st
from near_duplicates import PER_ORIGINAL
from saving import with_empty_pictures
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.exceptions import ConvergenceWarning

cloudpickle.register_pickle_by_value(sys.modules[__name__])  # workers do not find the tests

C_SPACE = {"C": [1e-6, 1e-4, 1e-2, 1e-1, 1.0, 10.0]}
SEEN: list[tuple[float, frozenset[float]]] = []


class Spy(ClassifierMixin, BaseEstimator):
    """The nearest class mean of the first ``depth`` features; the last feature is the row's own number."""

    def __init__(self, depth=1, fail=False, seconds=0.0, lax=False):
        self.depth = depth
        self.fail = fail
        self.seconds = seconds
        self.lax = lax

    def fit(self, X, y):
        SEEN.append((self.depth, frozenset(np.asarray(X)[:, -1].tolist())))
        time.sleep(self.seconds)
        if self.fail:
            raise RuntimeError("no luck today\nnor tomorrow")
        if self.lax:
            warnings.warn("stopped early", ConvergenceWarning, stacklevel=1)
        self.classes_ = np.unique(y)
        self.means_ = np.stack([X[y == name, : self.depth].mean(axis=0) for name in self.classes_])
        return self

    def predict(self, X):
        SEEN.append((self.depth, frozenset(np.asarray(X)[:, -1].tolist())))
        distances = ((X[:, None, : self.depth] - self.means_) ** 2).sum(axis=2)
        return self.classes_[distances.argmin(axis=1)]


SPY = f"{__name__}:Spy"


@pytest.fixture
def few(monkeypatch):
    """Let the first of three rungs have few images."""
    monkeypatch.setattr(tune_search, "rung_fractions", lambda images, classes, candidates: [1 / 9, 1 / 3, 1.0])


@pytest.fixture
def seen():
    SEEN.clear()
    return SEEN


@pytest.fixture(scope="module")
def tuned(cache, groups):
    """A search whose default is bad."""
    return tune(cache, "logreg", space=C_SPACE, parameters={"tol": 1e-3}, groups=groups, folds=4)


def same_tables(one, other):
    for here, there in zip(one, other, strict=True):
        assert replace(here, score=0, sd=0, fit_seconds=0) == replace(there, score=0, sd=0, fit_seconds=0)
        np.testing.assert_allclose([here.score, here.sd], [there.score, there.sd], atol=1e-12)


def test_the_winner_beats_a_bad_default(cache, groups):
    made = tune(cache, SPY, space={"depth": [1, 4, 12, 23]}, groups=groups)
    assert made.default.parameters == {"depth": 1}
    assert made.best_parameters["depth"] > 1
    assert made.best.score > made.default.score + 0.1
    assert made.outer_score > made.outer_default + 0.1
    assert made.gain == made.outer_score - made.outer_default
    assert made.optimism == made.best.score - made.outer_score


def test_the_outer_scores_are_those_of_compare(tuned, cache, groups):
    parameters = {"C": tuned.best_parameters["C"], "tol": 1e-3}
    mine = compare(cache, {"logreg": parameters}, groups=groups)
    assert mine.result("logreg").scores == tuned.result.scores
    np.testing.assert_array_equal(mine.split.test, tuned.split.test)
    assert tuned.result.head.get_params()["tol"] == 1e-3


def test_the_inner_scores_are_means_over_the_folds(tuned, cache):
    scores = []
    for fold in tuned.folds:
        head = tuned.result.head
        again = type(head)(**head.get_params()).fit(cache.features[fold.train], cache.label_names[fold.train])
        scores.append(np.mean(again.predict(cache.features[fold.test]) == cache.label_names[fold.test]))
    row = next(row for row in tuned.table if row.parameters == tuned.best_parameters)
    assert row.score == pytest.approx(np.mean(scores)) == tuned.best.score
    assert row.sd == pytest.approx(np.std(scores, ddof=1))
    assert row.fit_seconds > 0
    assert row.images == np.mean([len(fold.train) for fold in tuned.folds])


@pytest.mark.usefixtures("few")
def test_the_search_never_sees_a_test_row(cache, groups, seen):
    made = tune(cache, SPY, space={"depth": [2, 4, 8, 12, 16, 20, 23]}, groups=groups)
    test = set(cache.features[made.split.test, -1].tolist())
    touched = [bool(rows & test) for _, rows in seen]
    # in the end two heads are fitted and predict the test part: only these two predictions touch it
    assert touched == [False] * (len(touched) - 4) + [False, True, False, True]
    assert {row.rung for row in made.table} == {0, 1, 2}


def test_a_split_without_one_test_part_is_refused(cache, groups, tmp_path):
    with pytest.raises(SplitError, match="one training and one test part, got no test images"):
        tune(cache, "logreg", split=every_row(cache), groups=groups)
    write_folds(make_splits(cache, "random", 0, None, 3), cache, tmp_path / "folds.csv")
    with pytest.raises(SplitError, match="one training and one test part, got folds"):
        tune(cache, "logreg", split=tmp_path / "folds.csv", groups=groups)


def test_a_split_file_is_searched_in_folds_of_groups(cache, groups, tmp_path):
    split = make_split(cache, "grouped", 5, groups)
    write_split(split, cache, tmp_path / "split.csv")
    made = tune(cache, SPY, space={"depth": [23]}, split=tmp_path / "split.csv", groups=groups, folds=3)
    np.testing.assert_array_equal(made.split.train, split.train)
    assert [fold.groups["crossing"] for fold in made.folds] == [0, 0, 0]


def test_inner_folds_keep_groups_and_cover_the_training_part(tuned, groups):
    held = np.sort(np.concatenate([fold.test for fold in tuned.folds]))
    np.testing.assert_array_equal(held, tuned.split.train)
    for fold in tuned.folds:
        assert not {groups.names[row] for row in fold.train} & {groups.names[row] for row in fold.test}
        assert set(fold.train) | set(fold.test) == set(tuned.split.train)
        assert fold.groups["crossing"] == 0


def test_folds_of_a_random_split_are_random_too(cache, groups):
    split = make_split(cache, "random", 0, groups)
    made = inner_folds(cache, split, groups, 4, 0)
    assert {fold.method for fold in made} == {"random"}
    assert all(fold.groups["crossing"] for fold in made)
    assert all(len(fold.test) > 20 for fold in made)


def test_more_folds_than_groups_in_a_class_are_refused(cache, groups):
    with pytest.raises(SplitError, match="needs at least 40 groups in every class"):
        tune(cache, "logreg", groups=groups, folds=40)


@pytest.mark.usefixtures("few")
def test_rungs_are_nested_stratified_and_of_whole_groups(cache, groups):
    split = make_split(cache, "grouped", 0, groups)
    for fold in inner_folds(cache, split, groups, 4, 0):
        parts = [subsets.shrink(fold, cache, groups, share, 0) for share in (1 / 9, 1 / 3, 1)]
        for small, large in itertools.pairwise(parts):
            assert set(small.train) < set(large.train)
        for part in parts:
            np.testing.assert_array_equal(part.test, fold.test)
            rest = np.setdiff1d(fold.train, part.train)
            assert not {groups.names[row] for row in part.train} & {groups.names[row] for row in rest}
        for part, share in zip(parts, (1 / 9, 1 / 3, 1), strict=True):
            counts, of = np.bincount(cache.labels[part.train]), np.bincount(cache.labels[fold.train])
            assert np.all(counts >= share * of)
            assert np.all(counts <= np.maximum(share * of + PER_ORIGINAL, 2 * PER_ORIGINAL))


@settings(max_examples=60)
@given(
    labels=st.lists(st.integers(0, 2), min_size=1, max_size=40),
    per_unit=st.integers(1, 5),
    share=st.floats(0.01, 1),
    seed=st.integers(0, 9),
)
def test_a_fraction_has_every_class_and_whole_units(labels, per_unit, share, seed):
    labels = np.array(labels)
    units = np.arange(len(labels)) // per_unit
    where = hash_to_unit_interval([str(unit) for unit in np.unique(units)], seed, 2)
    rows = np.arange(len(labels))
    small, large = (first_rows(rows, labels, units, where, part) for part in (share, min(1.0, share * 2)))
    assert set(small) <= set(large) <= set(rows)
    assert set(labels[small]) == set(labels)
    assert not set(units[small]) & set(units[np.setdiff1d(rows, small)])
    for label in np.unique(labels):
        assert np.sum(labels[small] == label) >= share * np.sum(labels == label) - 1e-9


def test_rungs_begin_with_enough_images_and_end_with_all():
    assert rung_fractions(10_000, 3, 17) == [1 / 9, 1 / 3, 1]
    assert rung_fractions(1_000, 3, 17) == [1 / 3, 1]
    assert rung_fractions(300, 3, 17) == [1]
    assert rung_fractions(10_000, 50, 17) == [1 / 9, 1 / 3, 1]
    assert rung_fractions(5_000, 50, 17) == [1 / 3, 1]
    assert rung_fractions(10_000, 3, 3) == [1]


@pytest.mark.usefixtures("few")
def test_the_default_is_in_every_rung_however_bad(cache, groups):
    progress, lines = Progress(), []
    progress.say = lines.append
    made = tune(cache, "logreg", parameters={"tol": 1e-2}, space={"C": [1e-3, 0.01, 0.02, 0.03, 0.05, 0.1, 0.2]},
                groups=groups, folds=3, progress=progress)  # fmt: skip
    by_rung = [[row for row in made.table if row.rung == rung] for rung in range(3)]
    assert [rows[0].trial for rows in by_rung] == [0, 0, 0]
    assert len(by_rung[0]) == 8
    assert [len(rows) in (3, 4) for rows in by_rung[1:]] == [True, True]  # three, and the default
    assert [line[-13:] for line in lines] == [f"(step {step} of 3)" for step in (1, 2, 3)]
    assert made.trials == 8
    last = {row.trial: row.score for row in by_rung[2]}
    assert made.best.score == max(last.values())
    assert made.default.score == last[0]


@pytest.mark.usefixtures("few")
def test_the_same_seed_gives_the_same_table_and_another_another(cache, groups):
    settings = {"parameters": {"tol": 1e-2}, "groups": groups, "folds": 2, "trials": 3}
    one, two = (tune(cache, "logreg", seed=3, **settings) for _ in range(2))
    same_tables(one.table, two.table)
    assert one.best_parameters == two.best_parameters
    other = tune(cache, "logreg", seed=4, **settings)
    assert [row.parameters for row in other.table] != [row.parameters for row in one.table]


def test_two_jobs_give_the_table_of_one(tuned, cache, groups):
    many = tune(cache, "logreg", space=C_SPACE, parameters={"tol": 1e-3}, groups=groups, folds=4, jobs=2)
    same_tables(many.table, tuned.table)
    assert many.result.scores["confusion"] == tuned.result.scores["confusion"]


def test_a_combination_that_fails_is_reported_and_ends_nothing(cache, groups):
    made = tune(cache, SPY, space={"fail": [True, False], "depth": [1, 23]}, groups=groups, folds=3)
    failed = [row for row in made.table if row.parameters["fail"]]
    assert len(failed) == 2
    for row in failed:
        assert math.isnan(row.score)
        assert row.note == "failed: RuntimeError: no luck today"
    assert made.best_parameters == {"fail": False, "depth": 23}
    assert any(note.startswith("2 of 4 candidates failed, such as") for note in made.notes)


def test_a_value_that_a_foreign_head_refuses_is_a_failure(cache, groups):
    head = "sklearn.linear_model:RidgeClassifier"
    made = tune(cache, head, space={"alpha": [-1.0, 0.01]}, groups=groups, folds=3)
    row = next(row for row in made.table if row.parameters == {"alpha": -1.0})
    assert "InvalidParameterError" in row.note
    assert made.best_parameters["alpha"] > 0


def test_an_invalid_value_is_refused_before_the_search(cache, groups):
    with pytest.raises(HeadParameterError, match="parameter C of head 'logreg' must be a number above 0, got -1"):
        tune(cache, "logreg", space={"C": [0.01, -1]}, groups=groups, folds=3)


def test_a_default_that_fails_is_not_compared_with(cache, groups, monkeypatch, tmp_path):
    real = tune_search.fit_in_fold

    def fit(head, *rest):
        head.set_params(fail=head.depth == 1)
        return real(head, *rest)

    monkeypatch.setattr(tune_search, "fit_in_fold", fit)
    made = tune(cache, SPY, space={"depth": [12, 23]}, groups=groups, folds=3)
    assert made.default_result is None
    assert math.isnan(made.default.score)
    assert math.isnan(made.gain)
    assert any("the default parameters cannot be fitted on this cache" in note for note in made.notes)
    with with_empty_pictures():
        assert json.loads(made.save(tmp_path)[0].read_text())["outer"]["default"] is None


def test_when_every_candidate_fails_it_is_one_error(cache, groups):
    with pytest.raises(
        HeadError, match=r"^no candidate of head .* could be scored; the default failed: RuntimeError: no"
    ):
        tune(cache, SPY, space={"depth": [1, 2]}, parameters={"fail": True}, groups=groups, folds=3)


def test_fits_that_did_not_converge_are_noted_and_count(cache, groups, recwarn):
    made = tune(cache, SPY, space={"lax": [True], "depth": [23]}, groups=groups, folds=3)
    assert made.table[1].note == "no convergence in 3 of 3 folds"
    assert not math.isnan(made.table[1].score)
    assert any("did not converge" in note for note in made.notes)
    assert any("stopped before it converged" in note for note in made.notes)
    assert not [warning for warning in recwarn if issubclass(warning.category, ConvergenceWarning)]


@pytest.mark.usefixtures("few")
def test_without_any_time_only_the_defaults_are_scored(cache, groups, seen):
    made = tune(cache, SPY, space={"depth": [2, 4, 23]}, groups=groups, folds=3, time_budget=0)
    assert {depth for depth, _ in seen} == {1}
    assert [row.trial for row in made.table] == [0]
    assert made.best_parameters == {"depth": 1}
    assert made.default_result is made.result
    assert made.gain == 0
    assert any(
        "the time budget ended the search in rung 1 of 3, after 1 of 4 candidates began" in note for note in made.notes
    )


def test_a_budget_ends_the_search_and_what_was_finished_counts(cache, groups):
    begin = time.monotonic()
    space = {"depth": [4, 23, 8, 9, 10, 11, 12, 13], "seconds": [0.1]}
    made = tune(cache, SPY, space=space, groups=groups, folds=3, time_budget=0.75)
    assert time.monotonic() - begin < 4
    rows = made.table
    assert 2 <= len(rows) < 9
    assert made.best.score == max(row.score for row in rows if not math.isnan(row.score))
    unfinished = [row for row in rows if math.isnan(row.score)]
    assert len(unfinished) <= 1
    assert all(row.note.startswith("the time budget ended it after") for row in unfinished)
    assert any("more time may find better parameters" in note for note in made.notes)


def test_a_budget_that_is_enough_changes_nothing(tuned, cache, groups):
    made = tune(cache, "logreg", space=C_SPACE, parameters={"tol": 1e-3}, groups=groups, folds=4, time_budget=600)
    same_tables(made.table, tuned.table)
    assert not any("time budget" in note for note in made.notes)


def test_a_rung_of_the_default_alone_decides_nothing(cache, groups, monkeypatch, few):
    real = tune_search.fit_in_fold
    calls = []

    def late(head, cache, fold, groups, metric, ends):
        calls.append(ends)
        return None if len(calls) > 3 * 9 and ends is not None else real(head, cache, fold, groups, metric, ends)

    monkeypatch.setattr(tune_search, "fit_in_fold", late)
    space = {"depth": [2, 4, 8, 12, 16, 20, 22, 23]}
    made = tune(cache, SPY, space=space, groups=groups, folds=3, time_budget=600)
    assert made.best_parameters["depth"] > 1
    rung = next(row.rung for row in made.table if row.score == made.best.score)
    assert rung == 0
    assert made.default.score == made.table[0].score


def test_log_loss_is_made_small_and_needs_probabilities(cache, groups):
    made = tune(cache, "logreg", space=C_SPACE, groups=groups, folds=3, metric="log_loss")
    assert made.best.score == min(row.score for row in made.table)
    assert made.gain == made.outer_default - made.outer_score
    assert made.optimism == made.outer_score - made.best.score
    with pytest.raises(ParameterError, match="metric of tune cannot be log_loss for head .*no probabilities"):
        tune(cache, SPY, space={"depth": [1]}, groups=groups, metric="log_loss")


def test_of_equals_the_default_is_taken(cache, groups):
    made = tune(cache, SPY, space={"seconds": [0.0, 1e-9, 1e-8]}, groups=groups, folds=3)
    assert made.best_parameters == {"seconds": 0.0}
    assert made.result is made.default_result
    assert "no candidate was better than the default parameters in the search" in made.notes


def test_a_best_value_at_the_end_of_its_list_is_noted(cache, groups):
    made = tune(cache, SPY, space={"depth": [2, 3, 23]}, groups=groups, folds=3)
    assert any("the best depth is at the end of the searched values (23)" in note for note in made.notes)


@pytest.mark.parametrize("head", ["svm", "linear-svm", pytest.param("softmax", marks=pytest.mark.slow)])
def test_our_heads_can_be_tuned_and_keep_their_probabilities(cache, groups, head):
    space = {"epochs": [1, 2]} if head == "softmax" else None
    made = tune(cache, head, space=space, groups=groups, folds=2, trials=1)
    assert made.trials == 2
    assert not any(math.isnan(row.score) for row in made.table)
    assert made.result.probabilities is not None


def test_every_head_has_a_search_space_of_its_own_parameters():
    for name, registered in HEADS.items():
        assert set(registered.space) <= set(make_head(name).get_params())


@settings(max_examples=40)
@given(
    head=st.sampled_from([name for name in HEADS if HEADS[name].space]),
    trials=st.integers(1, 30),
    seed=st.integers(0, 99),
)
def test_candidates_are_distinct_and_within_their_ranges(head, trials, seed):
    space = search_space(head)
    default = {name: make_head(head).get_params()[name] for name in space}
    made = candidates(space, default, trials, seed)
    assert made[0] == default
    assert len({json.dumps(combination, sort_keys=True) for combination in made}) == len(made) == trials + 1
    assert made == candidates(space, default, trials, seed)
    for combination in made[1:]:
        for name, value in combination.items():
            if isinstance(space[name], Range):
                assert space[name].low <= value <= space[name].high
                assert isinstance(value, int) == space[name].integer
            else:
                assert value in space[name].values


def test_lists_that_the_trials_suffice_for_are_a_grid():
    space = {"a": Choice((1, 2.0, 3)), "b": Choice(("x", "y"))}
    made = candidates(space, {"a": 2, "b": "y"}, 6, 0)
    assert len(made) == 6  # the default is one of them: 2 is 2.0
    assert {(combination["a"], combination["b"]) for combination in made} == {(a, b) for a in (1, 2, 3) for b in "xy"}
    assert len(candidates(space, {"a": 2, "b": "y"}, 3, 0)) == 4


def test_a_cluster_gives_the_table_of_one_process(tuned, cache, groups):
    distributed = pytest.importorskip("distributed")
    settings = {"processes": False, "threads_per_worker": 1, "dashboard_address": None}
    with distributed.LocalCluster(n_workers=1, **settings) as local, distributed.Client(local) as client:
        parameters = {"space": C_SPACE, "parameters": {"tol": 1e-3}, "groups": groups, "folds": 4}
        many = tune(cache, "logreg", dask=client, **parameters)
    same_tables(many.table, tuned.table)


@pytest.mark.parametrize(
    ("head", "settings", "error", "message"),
    [
        ("dummy", {}, HeadError, "head 'dummy' has no parameters to tune"),
        (SPY, {}, HeadError, r"parameter space of tune must name values for head '.*:Spy'.*--space .*:Spy\.NAME=VALUE"),
        ("nonsense", {}, HeadError, "there is no head 'nonsense'"),
        ("logreg", {"space": {"depth": [1]}}, HeadParameterError, "has no parameter 'depth'"),
        ("logreg", {"space": {"C": []}}, HeadError, "must be a list of values for C of head 'logreg'"),
        ("logreg", {"space": {"C": "0.1"}}, HeadError, "must be a list of values for C of head 'logreg', got '0.1'"),
        ("logreg", {"space": {}}, HeadError, "must name at least one parameter of head 'logreg'"),
        ("logreg", {"parameters": {"C": 2}}, HeadError, "head 'logreg' has nothing left to tune besides C"),
        ("logreg", {"parameters": {"C": 2}, "space": {"C": [1]}}, HeadError, "must not name C of head 'logreg'"),
        ("logreg", {"metric": "beauty"}, ParameterError, "metric of tune must be one of accuracy, .*got 'beauty'"),
        ("logreg", {"trials": 0}, ParameterError, "trials of tune must be an integer of at least 1, got 0"),
        (
            "logreg",
            {"time_budget": -1},
            ParameterError,
            "time_budget of tune must be a number of seconds of at least 0, got -1",
        ),
        ("logreg", {"time_budget": math.nan}, ParameterError, "time_budget of tune must be a number of seconds"),
        (
            "logreg",
            {"folds": 1},
            ParameterError,
            "parameter folds of the search must be an integer of at least 2, got 1",
        ),
        ("logreg", {"jobs": 0}, ParameterError, "parameter jobs of tune must be"),
        ("logreg", {"seed": -1}, ParameterError, "parameter seed of the split"),
        (None, {}, ParameterError, "parameter head of tune must be the name of a head, got None"),
    ],
)
def test_what_cannot_be_searched_is_one_error(cache, groups, head, settings, error, message):
    with pytest.raises(error, match=message):
        tune(cache, head, groups=groups, **settings)


def test_a_missing_cache_is_an_error(tmp_path):
    with pytest.raises(CacheError):
        tune(tmp_path / "none.h5", "logreg")


def test_the_best_parameters_go_to_compare_as_they_are(cache, groups):
    made = tune(cache, "knn", space={"n_neighbors": [3], "weights": ["distance"]}, groups=groups, folds=3)
    chosen = head_parameters("knn", tuple(made.options))
    assert chosen == {"knn": made.best_parameters}


def test_a_figure_that_fails_does_not_cost_the_results(cache, tmp_path, monkeypatch):
    tuned = tune(cache, "knn", space={"n_neighbors": [3]}, split="random", folds=2)
    monkeypatch.setattr(Tuning, "figure", lambda self: 1 / 0)
    assert [path.name for path in tuned.save(tmp_path)] == ["tune.json", "trials.csv"]
    note = "tune.png and tune.svg could not be drawn (ZeroDivisionError: division by zero)"
    assert json.loads((tmp_path / "tune.json").read_text())["notes"][-1] == note


def test_what_is_saved_has_every_number(tuned, tmp_path):
    written = tuned.save(tmp_path / "deep" / "er")
    assert [file.name for file in written] == ["tune.json", "trials.csv", "tune.png", "tune.svg"]
    results = json.loads(written[0].read_text(), parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    assert results["format"] == "embedonce-tuning"
    assert results["best_parameters"] == tuned.best_parameters
    assert results["inner"] == {"best": tuned.best.score, "default": tuned.default.score}
    assert results["outer"]["best"]["accuracy"] == tuned.outer_score
    assert results["split"]["groups"]["crossing"] == 0
    assert [fold["fold"] for fold in results["folds"]] == [0, 1, 2, 3]
    assert results["cache"]["images"] == len(tuned.cache)
    assert results["made"]["versions"]["embedonce"]
    assert results["table"] == tuned.table.to_dict()
    with written[1].open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [float(row["score"]) for row in rows] == [row.score for row in tuned.table]
    assert [float(row["C"]) for row in rows] == [row.parameters["C"] for row in tuned.table]
    assert written[2].read_bytes().startswith(b"\x89PNG")
    assert b"<svg" in written[3].read_bytes()


def test_failures_are_saved_as_null_and_as_an_empty_field(cache, groups, tmp_path):
    made = tune(cache, SPY, space={"fail": [True, False], "depth": [23]}, groups=groups, folds=3)
    with with_empty_pictures():
        written = made.save(tmp_path)
    assert None in [row["score"] for row in json.loads(written[0].read_text())["table"]]
    with written[1].open(newline="") as file:
        failed = [row for row in csv.DictReader(file) if row["note"]]
    assert [(row["score"], row["sd"], row["fail"]) for row in failed] == [("", "", "True")]


def test_the_figure_has_a_panel_for_every_parameter(cache, groups):
    made = tune(cache, "svm", groups=groups, folds=2, trials=4)
    figure = made.figure()
    assert [ax.get_xlabel() for ax in figure.axes] == ["C", "gamma", "scaling"]
    figure.draw_without_rendering()
    ticks = [label.get_text() for ax in figure.axes for label in ax.get_xticklabels()]
    assert {"1", "10", "overall"} <= set(ticks)
    assert not any("$" in tick for tick in ticks)
    assert len({ax.get_ylim() for ax in figure.axes}) == 1
    assert "scale" in [text.get_text() for text in figure.axes[1].texts]  # the default of gamma is a word
    _, labels = figure.axes[0].get_legend_handles_labels()
    assert labels[-2:] == ["default", "best"]


def test_a_results_folder_that_cannot_be_is_an_error(tuned, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="folder of results"):
        tuned.save(tmp_path / "file")


def test_the_summary_shows_both_scores_of_both(tuned):
    text = str(tuned)
    assert "accuracy" in text
    assert tuned.options[0] in text
    for number in (tuned.best.score, tuned.outer_score, tuned.default.score, tuned.outer_default):
        assert f"{number:.4f}" in text


def test_a_space_may_be_of_numpy():
    space = search_space("knn", {"n_neighbors": np.array([1, 3]), "weights": [np.str_("distance")]})
    values = [value for choice in space.values() for value in choice.values]
    assert values == [1, 3, "distance"]
    assert [type(value) for value in values] == [int, int, str]


def test_a_search_is_scored_on_the_validation_images(cache, groups):
    split = make_split(cache, "grouped", 5, groups)
    fixed = Split(split.train[::2], split.test, "file", validation=split.train[1::2])
    made = tune(cache, SPY, space={"depth": [23]}, split=fixed, groups=groups)
    (fold,) = made.folds
    assert (fold.train.tolist(), fold.test.tolist()) == (fixed.train.tolist(), fixed.validation.tolist())
    assert all(math.isnan(row.sd) and not math.isnan(row.score) for row in made.table)
    nested = compare(cache, ["logreg"], split=fixed, groups=groups, tune=0.01)
    assert nested.result("logreg").tuning[0].default_score == nested.result("logreg").tuning[0].score
    assert sum("are for validation" in note for note in nested.notes) == 1
