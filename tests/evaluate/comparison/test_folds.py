from __future__ import annotations

import csv
import json

import numpy as np
import pytest
from embedonce.errors import HeadParameterError, ParameterError, SplitError
from embedonce.evaluate.comparison.run import compare
from embedonce.evaluate.report.results_json import comparison_results
from embedonce.evaluate.shared.provenance import as_json
from embedonce.evaluate.splits.plan import make_splits
from saving import without_pictures


@pytest.fixture(scope="module")
def folded(cache, in_pairs):
    return compare(cache, ["logreg", "dummy"], groups=in_pairs, folds=3, repeats=2)


def test_every_image_is_tested_once_in_every_repeat(folded, cache):
    np.testing.assert_array_equal(folded.split.test, np.arange(len(cache)))
    for repeat in (0, 1):
        tested = np.concatenate([split.test for split in folded.folds if split.repeat == repeat])
        np.testing.assert_array_equal(np.sort(tested), np.arange(len(cache)))
    assert folded.confusion("logreg").sum() == len(cache)


def test_the_score_of_every_fold_of_every_repeat_is_kept(folded):
    scores = folded.result("logreg").folds
    assert [(entry.repeat, entry.fold) for entry in scores] == [(r, f) for r in (0, 1) for f in (0, 1, 2)]
    sizes = [entry.test for entry in scores[:3]]
    first = np.average([entry.scores["accuracy"] for entry in scores[:3]], weights=sizes)
    second = np.average(
        [entry.scores["accuracy"] for entry in scores[3:]], weights=[entry.test for entry in scores[3:]]
    )
    assert folded.result("logreg").scores["accuracy"] == pytest.approx((first + second) / 2)


def test_no_head_predicts_its_training_images(cache, in_pairs):
    folded = compare(cache, ["knn"], groups=in_pairs, folds=3, split="grouped")
    from embedonce.heads.registry import make_head

    for split in make_splits(cache, "grouped", 0, in_pairs, 3):
        head = make_head("knn").fit(cache.features[split.train], cache.label_names[split.train])
        expected = head.predict(cache.features[split.test])
        got = np.array(cache.class_names)[folded.result("knn").predicted[split.test]]
        np.testing.assert_array_equal(got, expected)


def test_groups_cross_random_folds_only(folded):
    about = folded.split.to_dict()
    assert about["groups"]["crossing"] == 0
    assert about["groups"]["leak_share"] == 0
    assert len(about["parts"]) == 6
    assert folded.leaky.split.to_dict()["groups"]["leak_share"] > 0.3
    assert {row.head for row in folded.leakage_gap} == {"logreg", "dummy"}


def test_heads_are_compared_by_their_folds(folded):
    (row,) = folded.differences
    assert (row.a, row.b, row.test) == ("logreg", "dummy", "corrected resampled t and score interval")
    low, high = folded.result("logreg").intervals["accuracy"]
    assert low < folded.result("logreg").scores["accuracy"] < high


def test_saved_folds_can_be_read_back_and_give_the_same_scores(folded, cache, in_pairs, tmp_path):
    with without_pictures():
        folded.save(tmp_path)
    with (tmp_path / "split.csv").open(encoding="utf-8") as file:
        assert csv.DictReader(file).fieldnames == ["path", "fold_0", "fold_1"]
    results = json.loads((tmp_path / "results.json").read_text())
    assert len(results["heads"][0]["rounds"]) == 6
    assert set(results["heads"][0]["intervals"]) >= {"accuracy", "macro_f1"}
    again = compare(cache, ["logreg", "dummy"], split=tmp_path / "split.csv", groups=in_pairs)
    assert again.result("logreg").scores["accuracy"] == folded.result("logreg").scores["accuracy"]


def test_folds_beside_each_other_give_the_same_results(folded, cache_path, in_pairs):
    beside = compare(cache_path, ["logreg", "dummy"], groups=in_pairs, folds=3, repeats=2, jobs=2)
    assert beside.result("logreg").scores["confusion"] == folded.result("logreg").scores["confusion"]
    assert beside.differences == folded.differences


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"folds": 1}, "folds of compare must be an integer of at least 2, got 1"),
        ({"repeats": 0, "folds": 3}, "repeats of compare must be an integer of at least 1, got 0"),
        ({"repeats": 3}, "repeats=3 without folds"),
        ({"folds": 3, "split": "some.csv"}, "folds of compare is for random and grouped splits"),
    ],
)
def test_folds_that_make_no_sense_are_refused(cache, options, message):
    with pytest.raises((ParameterError, SplitError), match=message):
        compare(cache, ["dummy"], **options)


def test_class_weights_and_a_note_on_heads_without_them(cache):
    made = compare(cache, ["logreg", "dummy"], split="random", class_weight="balanced")
    assert made.result("logreg").head.class_weight == "balanced"
    assert any("dummy cannot weigh classes" in note for note in made.notes)
    with pytest.raises(HeadParameterError, match="class_weight of compare must be None or 'balanced', got 'x'"):
        compare(cache, ["logreg"], class_weight="x")


@pytest.mark.parametrize(("folds", "jobs"), [(None, 1), (2, 2)])
def test_the_same_seed_gives_the_same_results_json(cache_path, in_pairs, folds, jobs):
    def without_times(value):
        if isinstance(value, dict):
            return {key: without_times(each) for key, each in value.items() if not key.endswith("_seconds")}
        return [without_times(each) for each in value] if isinstance(value, list) else value

    found = []
    for _ in range(2):
        heads = {"logreg": {}, "knn": {}, "softmax": {"epochs": 5}}
        made = compare(cache_path, heads, groups=in_pairs, seed=3, folds=folds, jobs=jobs, calibrate="temperature")
        results = json.loads(as_json(comparison_results(made)))
        del results["made"]
        found.append(without_times(results))
    assert found[0] == found[1]
    assert found[0]["random"]["heads"][2]["log_loss"] > 0
