from __future__ import annotations

import numpy as np
import pytest
from embedonce.evaluate.comparison.learning_curve import score_learning_curve
from embedonce.evaluate.comparison.run import compare
from embedonce.evaluate.report.figures import figures, learning_curve_figure
from embedonce.evaluate.report.html import write_report
from embedonce.evaluate.splits.groups import Groups
from embedonce.evaluate.splits.plan import make_split
from embedonce.heads.registry import make_head


def test_the_last_point_is_the_whole_and_parts_grow(cache, in_pairs):
    split = make_split(cache, "grouped", 0, in_pairs)
    heads = {"logreg": make_head("logreg"), "dummy": make_head("dummy")}
    curve, _ = score_learning_curve(cache, heads, split, in_pairs, steps=3, repeats=2)
    for name in heads:
        rows = [row for row in curve if row.head == name]
        images = [row.images for row in rows]
        assert images == sorted(images)
        assert images[-1] == len(split.train)
        assert [row.repeats for row in rows] == [2] * (len(rows) - 1) + [1]
        assert all(row.low <= row.accuracy <= row.high for row in rows)
    whole = make_head("logreg").fit(cache.features[split.train], cache.label_names[split.train])
    expected = (whole.predict(cache.features[split.test]) == cache.label_names[split.test]).mean()
    assert next(row for row in curve if row.images == len(split.train)).accuracy == pytest.approx(expected)
    assert len(learning_curve_figure(curve).axes[0].lines) == 2


def test_of_large_groups_parts_of_one_size_are_one_point(cache):
    # six groups of each class, so that many shares are the same whole groups
    place = np.arange(len(cache))
    few = Groups(
        list(cache.paths), [f"{label}-{row % 6}" for row, label in zip(place, cache.labels, strict=True)], "file"
    )
    split = make_split(cache, "grouped", 0, few)
    curve, _ = score_learning_curve(
        cache, {"dummy": make_head("dummy"), "knn": make_head("knn")}, split, few, steps=12, repeats=3
    )
    for name in ("dummy", "knn"):
        images = [row.images for row in curve if row.head == name]
        assert images == sorted(set(images))
        assert 2 <= len(images) <= 6
        assert images[-1] == len(split.train)


def test_a_comparison_can_be_calibrated_tuned_and_have_a_curve(cache, tmp_path):
    heads = ["logreg", "dummy", "sklearn.linear_model:Perceptron"]
    made = compare(cache, heads, split="random", calibrate="temperature", tune=0.01, learning_curve=True)
    assert made.result("logreg").head.temperature_ > 0
    assert any("logreg was tuned in the training images of the random split: C" in note for note in made.notes)
    assert any("dummy was not tuned" in note for note in made.notes)
    assert any("Perceptron has no probabilities to calibrate" in note for note in made.notes)
    assert {row.head for row in made.learning_curve} == set(heads)
    assert "learning-curve" in figures(made)
    page = write_report(made, tmp_path / "report.html", thumbnails=False).read_text("utf-8")
    assert 'aria-label="Accuracy against the number of training images"' in page


def test_the_same_seed_gives_the_same_curve(cache):
    split = make_split(cache, "random", 0)
    once, again = (
        score_learning_curve(cache, {"knn": make_head("knn")}, split, steps=3, repeats=2, seed=5, jobs=jobs)[0]
        for jobs in (1, 2)
    )
    assert once == again
    assert not np.isnan([row.macro_f1 for row in once]).any()
