"""Heads of a comparison are tuned where their test images are not, each fold on its own."""

from __future__ import annotations

import json
import re
import time
from collections import Counter
from contextlib import contextmanager

import numpy as np
import pytest
from embedonce.errors import ParameterError, SplitError
from embedonce.evaluate.comparison.config import read_config
from embedonce.evaluate.comparison.run import compare
from embedonce.evaluate.report.results_json import comparison_results
from embedonce.evaluate.scoring.heads import make_heads
from embedonce.evaluate.scoring.results import TuningResult
from embedonce.evaluate.shared.provenance import as_json
from embedonce.evaluate.splits.groups import Groups
from embedonce.evaluate.splits.plan import make_splits
from embedonce.evaluate.splits.split import Split
from embedonce.evaluate.splits.split_files import write_folds
from embedonce.evaluate.splits.subsets import inner_folds, shrink
from embedonce.evaluate.tuning import nested as tune_nested
from embedonce.evaluate.tuning import successive_halving as tune_search
from embedonce.evaluate.tuning.nested import search_spaces
from embedonce.heads.registry import make_head
from embedonce.heads.svm import SVMHead
from kept_lines import KeptLines
from saving import with_empty_pictures

LONG = 600  # seconds that end no search here
QUICK = {"logreg": {"tol": 1e-2}}
TRIALS = 2


@pytest.fixture(scope="module", autouse=True)
def _few_trials():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tune_nested, "TRIALS", TRIALS)
        yield


class Watch:
    """Record of every search: its seconds, and head, training rows and test rows of each fit."""

    def __init__(self):
        self.seconds, self.fits = [], []


@contextmanager
def watching():
    watched, run, fit = Watch(), tune_search.Search.run, tune_search.fit_in_fold

    def watched_run(search, trials):
        watched.seconds.append(search.deadline - time.time())
        watched.fits.append([])
        return run(search, trials)

    def watched_fit(head, cache, fold, *rest):
        watched.fits[-1].append((head, fold.train, fold.test))
        return fit(head, cache, fold, *rest)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tune_search.Search, "run", watched_run)
        patch.setattr(tune_search, "fit_in_fold", watched_fit)
        yield watched


@pytest.fixture
def watch():
    with watching() as watched:
        yield watched


@pytest.fixture(scope="module")
def nested_and_watch(cache, groups, _few_trials):
    """A comparison of 8 folds, and the record of its searches."""
    with watching() as watched:
        return compare(cache, QUICK, groups=groups, folds=2, repeats=2, tune=8 * LONG), watched


@pytest.fixture(scope="module")
def nested(nested_and_watch):
    return nested_and_watch[0]


def without_times(value):
    if isinstance(value, dict):
        return {key: without_times(each) for key, each in value.items() if not key.endswith("_seconds")}
    return [without_times(each) for each in value] if isinstance(value, list) else value


def results_of(comparison):
    results = json.loads(as_json(comparison_results(comparison)))
    del results["made"]
    return without_times(results)


def test_a_search_sees_the_training_part_of_its_fold_alone(nested_and_watch, groups):
    made, watch = nested_and_watch
    splits = made.folds + made.leaky.folds
    assert len(watch.fits) == len(splits) == len(watch.seconds) == 8
    assert all(LONG - 1 < seconds <= LONG for seconds in watch.seconds)  # the time budget is shared equally
    for split, fits in zip(splits, watch.fits, strict=True):
        seen = np.unique(np.concatenate([rows for _, *both in fits for rows in both]))
        np.testing.assert_array_equal(seen, split.train)
        assert not set(seen) & set(split.test)
    for fits in watch.fits[:4]:
        for _, train, test in fits:
            assert not set(groups.ids[train]) & set(groups.ids[test])


def test_every_fold_is_scored_with_what_its_own_search_found(nested, cache):
    result = nested.result("logreg")
    assert [(entry.repeat, entry.fold) for entry in result.tuning] == [(r, f) for r in (0, 1) for f in (0, 1)]
    for split, entry, scored in zip(nested.folds, result.tuning, result.folds, strict=True):
        head = make_head("logreg", tol=1e-2, **entry.parameters)
        head.fit(cache.features[split.train], cache.label_names[split.train])
        said = head.predict(cache.features[split.test])
        assert np.mean(said == cache.label_names[split.test]) == scored.scores["accuracy"]
        if split.repeat == 0:
            np.testing.assert_array_equal(np.array(cache.class_names)[result.predicted[split.test]], said)
    assert result.tuning[0].parameters["C"] == result.head.C


def test_a_fold_gets_the_parameters_of_the_best_score(cache, groups, nested):
    split, entry = nested.folds[3], nested.result("logreg").tuning[3]
    for parameters, score in ((entry.parameters, entry.score), ({"C": 1.0}, entry.default_score)):
        scores = []
        for fold in inner_folds(cache, split, groups, 5, 0):
            head = make_head("logreg", tol=1e-2, **parameters)
            head.fit(cache.features[fold.train], cache.label_names[fold.train])
            scores.append(np.mean(head.predict(cache.features[fold.test]) == cache.label_names[fold.test]))
        assert np.mean(scores) == pytest.approx(score)
    assert entry.score >= entry.default_score


def test_results_json_has_the_parameters_of_every_fold(nested, tmp_path):
    with with_empty_pictures():
        nested.save(tmp_path)
    results = json.loads((tmp_path / "results.json").read_text())
    for about, comparison in ((results, nested), (results["random"], nested.leaky)):
        tuning = about["heads"][0]["tuning"]
        assert tuning == comparison.result("logreg").tuning.to_dict()
        assert {(entry["complete"], entry["trials"]) for entry in tuning} == {(True, TRIALS + 1)}
        (note,) = [note for note in about["notes"] if "logreg was tuned in the training images of each of" in note]
        method = about["split"]["method"]
        assert note.startswith(f"logreg was tuned in the training images of each of the 4 {method} folds: C ")
        counts = Counter(entry["parameters"]["C"] for entry in tuning)
        assert sum(map(int, re.findall(r" in (\d+)", note))) == 4
        value, count = counts.most_common(1)[0]
        assert re.search(rf"C {value}( \(not changed\))? in {count}\b", note)
    assert "C tuned in each fold, class_weight None, max_iter 1000, tol 0.01" in (tmp_path / "report.html").read_text(
        "utf-8"
    )


def test_a_note_names_no_more_than_three_and_counts_the_others(cache):
    plan = make_splits(cache, "random", 0, None, 6)
    chosen = [0.1, 0.1, 1.0, 2.0, 3.0, 4.0]
    found = [{"logreg": TuningResult({"C": value}, "accuracy", 1.0, 1.0, 17, True)} for value in chosen]
    assert tune_nested.tuning_notes({"logreg": make_head("logreg")}, plan, found) == [
        "logreg was tuned in the training images of each of the 6 random folds: "
        "C 0.1 in 2; C 1.0 (not changed) in 1; C 2.0 in 1; others in 2"
    ]


def test_the_folds_of_a_file_are_searched_each_on_its_own(cache, groups, watch, tmp_path):
    write_folds(make_splits(cache, "grouped", 4, groups, 3), cache, tmp_path / "folds.csv")
    made = compare(cache, QUICK, split=tmp_path / "folds.csv", groups=groups, tune=LONG)
    assert len(watch.fits) == len(made.result("logreg").tuning) == 3
    for split, fits in zip(made.folds, watch.fits, strict=True):
        assert not {row for _, *both in fits for rows in both for row in rows} & set(split.test)


def test_the_random_split_takes_the_parameters_of_the_grouped(cache, groups, watch):
    made = compare(cache, QUICK, groups=groups, tune=LONG)
    (fits,) = watch.fits
    assert not {row for _, *both in fits for rows in both for row in rows} & set(made.split.test)
    (entry,) = made.result("logreg").tuning
    assert "fold" not in entry.to_dict()
    assert made.leaky.result("logreg").tuning == (entry,)
    assert made.result("logreg").head.C == made.leaky.result("logreg").head.C == entry.parameters["C"]
    assert any("logreg was tuned in the training images of the grouped split: C " in note for note in made.notes)
    assert not any("tuned" in note for note in made.leaky.notes)


def test_without_time_the_given_parameters_are_scored(cache, groups):
    made = compare(cache, ["logreg"], split="grouped", groups=groups, folds=2, tune=1e-9)
    tuning = made.result("logreg").tuning
    assert [entry.parameters for entry in tuning] == [{"C": 1.0}] * 2
    assert [(entry.trials, entry.complete) for entry in tuning] == [(1, False)] * 2
    assert all(entry.score == entry.default_score for entry in tuning)
    plain = compare(cache, ["logreg"], split="grouped", groups=groups, folds=2)
    assert made.result("logreg").scores == plain.result("logreg").scores
    assert any(
        note.endswith(
            "C 1.0 (not changed) in 2; the time budget ended 2 of 2 searches early, and more time may find better parameters"
        )
        for note in made.notes
    )


def test_parameters_in_a_file_are_not_searched(cache, tmp_path):
    text = '[heads.sharp-svm]\nhead = "svm"\nC = 10.0\n[heads.logreg]\nC = 1.0\n[heads.soft]\nhead = "logreg"\n'
    (tmp_path / "heads.toml").write_text(text)
    _, heads = read_config(tmp_path / "heads.toml")
    made = compare(cache, heads, split="random", tune=LONG)
    (sharp,), (soft,) = made.result("sharp-svm").tuning, made.result("soft").tuning
    assert set(sharp.parameters) == {"gamma", "scaling"}
    assert made.result("sharp-svm").head.C == 10
    assert made.result("sharp-svm").head.gamma == sharp.parameters["gamma"]
    assert set(soft.parameters) == {"C"}
    assert made.result("logreg").tuning == ()
    assert any("logreg was not tuned, because no parameter" in note for note in made.notes)


def test_of_an_instance_what_differs_from_its_default_stays():
    class Mine(SVMHead):
        pass

    heads = {"a": SVMHead(C=1.0), "b": SVMHead(), "mine": Mine(), "dummy": {}, "c": {"head": "svm", "gamma": "scale"}}
    spaces = search_spaces(heads, make_heads(heads))
    assert {name: set(space) for name, space in spaces.items()} == {
        "a": {"gamma", "scaling"},
        "b": {"C", "gamma", "scaling"},
        "mine": set(),
        "dummy": set(),
        "c": {"C", "scaling"},
    }
    assert set(search_spaces({"knn": {}}, make_heads({"knn": {}}))["knn"]) == {"n_neighbors", "metric", "weights"}


def test_an_instance_is_tuned_and_left_as_it_was(cache):
    mine = make_head("logreg", tol=1e-2)
    made = compare(cache, {"mine": mine}, split="random", folds=2, tune=LONG)
    assert set(made.result("mine").tuning[0].parameters) == {"C"}
    assert made.result("mine").head.tol == 1e-2
    assert mine.get_params() == make_head("logreg", tol=1e-2).get_params()
    assert not hasattr(mine, "classes_")


def test_class_weights_count_in_the_search_too(cache, watch):
    compare(cache, QUICK, split="random", class_weight="balanced", tune=LONG)
    assert {head.class_weight for head, *_ in watch.fits[0]} == {"balanced"}


def test_tuned_heads_are_calibrated_in_every_fold(cache, groups):
    made = compare(cache, QUICK, groups=groups, split="grouped", folds=2, tune=LONG, calibrate="temperature")
    result = made.result("logreg")
    assert result.head.temperature_ > 0
    assert result.tuning[0].parameters["C"] == result.head.head_.C


def test_two_jobs_find_what_one_does(nested, path, groups):
    settings = {"groups": groups, "split": "grouped", "folds": 2, "repeats": 2, "tune": LONG, "jobs": 2}
    (there,), here = results_of(compare(path, QUICK, **settings))["heads"], results_of(nested)["heads"][0]
    for key in ("parameters", "trials", "complete"):
        assert [entry[key] for entry in here["tuning"]] == [entry[key] for entry in there["tuning"]]
    assert here["confusion"] == there["confusion"]


def test_searches_and_fits_are_announced_with_their_fold(cache, groups):
    progress = KeptLines()
    compare(cache, ["dummy", "logreg"], groups=groups, folds=2, tune=1e-9, progress=progress)
    assert progress.lines[:4] == [
        f"tuning logreg ({method}) (fold {fold} of 2) …" for method in ("grouped", "random") for fold in (1, 2)
    ]
    assert progress.lines[4:6] == [f"training {name} (grouped) (fold 1 of 2) …" for name in ("dummy", "logreg")]


@pytest.mark.parametrize("repeat", [0, 1, 2, 3])
def test_inner_folds_of_every_repeat_are_even(cache, groups, repeat):
    split = make_splits(cache, "random", 0, None, 5, 4)[5 * repeat + 1]
    inner = inner_folds(cache, split, None, 5, 0)
    assert not any(len(fold.moved) for fold in inner)
    assert min(len(fold.test) for fold in inner) >= 20
    part = shrink(inner[0], cache, None, 0.3, 0)
    assert set(part.train) < set(inner[0].train)
    own = np.array([np.isin(part.train, fold.test).sum() for fold in inner[1:]])
    assert (own > 0).all()  # the share is not one of the folds


def test_a_class_of_few_groups_has_fewer_folds(cache, watch):
    def settings(parts):  # every class has so many groups, the first of which is tested
        place = np.array([row % parts for row in range(len(cache))])
        names = [f"{label}-{number}" for label, number in zip(cache.labels, place, strict=True)]
        split = Split(np.flatnonzero(place > 0), np.flatnonzero(place == 0), "grouped", 0)
        return {"groups": Groups(list(cache.paths), names, "file"), "split": split, "tune": 1e-9}

    compare(cache, QUICK, **settings(4))
    assert len({tuple(test) for _, _, test in watch.fits[0]}) == 3
    with pytest.raises(SplitError, match=r"tune of compare needs two groups of every class .* class0 has one. Leave"):
        compare(cache, QUICK, **settings(2))


@pytest.mark.parametrize("seconds", [-1, float("nan"), True, "60"])
def test_a_time_that_is_none_stops_before_anything_is_trained(cache, seconds):
    with pytest.raises(
        ParameterError, match="parameter tune of compare must be a number of seconds of at least 0, got"
    ):
        compare(cache, ["logreg"], tune=seconds)


def test_skewed_classes_are_tuned_for_balanced_accuracy(cache, groups):
    in_last = np.flatnonzero(cache.labels == 2)
    few = np.isin(groups.ids, np.unique(groups.ids[in_last])[:6])  # of 20 originals
    rows = np.flatnonzero((cache.labels != 2) | few)
    cache, numbers = cache.select(rows), np.arange(len(rows))
    split = Split(numbers[numbers % 3 != 0], numbers[numbers % 3 == 0], "file", None)
    made = compare(cache, QUICK, split=split, tune=LONG)
    assert made.ranked_by == "balanced_accuracy"
    assert made.result("logreg").tuning[0].metric == "balanced_accuracy"
    assert any("logreg was tuned for balanced accuracy in the training images" in note for note in made.notes)


def test_where_classes_are_even_it_looks_for_accuracy(nested):
    assert {entry.metric for entry in nested.result("logreg").tuning} == {"accuracy"}
    assert not any("tuned for" in note for note in nested.notes)
