from __future__ import annotations

import numpy as np
import pytest
from embedonce import FeatureCache
from embedonce.evaluate.comparison.learning_curve import learning_outlook, score_learning_curve
from embedonce.evaluate.comparison.run import compare
from embedonce.evaluate.metrics import score_intervals
from embedonce.evaluate.report.figures import figures, learning_curve_figure
from embedonce.evaluate.report.html import write_report
from embedonce.evaluate.shared import INK
from embedonce.evaluate.splits.groups import Groups
from embedonce.evaluate.splits.plan import make_split
from embedonce.heads.registry import make_head


def test_the_last_point_is_the_whole_and_parts_grow(cache, in_pairs):
    split = make_split(cache, "grouped", 0, in_pairs)
    heads = {"logreg": make_head("logreg"), "dummy": make_head("dummy")}
    curve, _, _ = score_learning_curve(cache, heads, split, in_pairs, steps=3, repeats=2)
    for name in heads:
        rows = [row for row in curve if row.head == name]
        images = [row.images for row in rows]
        assert images == sorted(images)
        assert images[-1] == len(split.train)
        assert [row.repeats for row in rows] == [2] * (len(rows) - 1) + [1]
        assert all(row.low <= row.score <= row.high for row in rows)
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
    curve, _, _ = score_learning_curve(
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
    assert "Accuracy on the same test images of heads that are trained on parts" in page


def test_the_same_seed_gives_the_same_curve(cache):
    split = make_split(cache, "random", 0)
    once, again = (
        score_learning_curve(cache, {"knn": make_head("knn")}, split, steps=3, repeats=2, seed=5, jobs=jobs)[0]
        for jobs in (1, 2)
    )
    assert once == again
    assert not np.isnan([row.macro_f1 for row in once]).any()


def drawn_cache(sizes, distance=1.0, seed=0):
    """Return a cache of two classes of normally distributed features."""
    generator = np.random.default_rng(seed)
    labels = np.repeat(["a", "b"], sizes)
    features = generator.normal(size=(len(labels), 6))
    features[labels == "b", 0] += distance
    return FeatureCache.from_arrays(features, labels)


def test_the_curve_has_the_leading_metric_everywhere():
    made = compare(drawn_cache((300, 30)), ["logreg", "knn"], split="random", learning_curve=True)
    assert made.ranked_by == "balanced_accuracy"
    assert {point.metric for point in made.learning_curve} == {"balanced_accuracy"}
    for name in ("logreg", "knn"):
        last = [point for point in made.learning_curve if point.head == name][-1]
        assert last.score == made.result(name).scores["balanced_accuracy"]
        assert (last.low, last.high) == pytest.approx(made.result(name).intervals["balanced_accuracy"])
    results = made.to_dict()
    assert results["label_budget"][0]["metric"] == results["learning_outlook"]["metric"] == "balanced_accuracy"
    axes = learning_curve_figure(made.learning_curve).axes[0]
    assert axes.get_ylabel() == "balanced accuracy"
    assert axes.get_title("left").startswith("balanced accuracy against")
    assert "balanced accuracy" in made.learning_table().titles
    assert "the balanced accuracy of" in made.learning_outlook.text


def test_intervals_of_points_count_groups():
    cache = drawn_cache((200, 200))
    split = make_split(cache, "random", 0)
    heads = {"logreg": make_head("logreg")}
    groups = Groups(cache.paths, [str(row // 10) for row in range(400)], "file")
    singles, by_groups = (score_learning_curve(cache, heads, split, given, steps=2)[0] for given in (None, groups))
    for one, grouped in zip(singles, by_groups, strict=True):
        assert one.score == grouped.score
        assert one.high - one.low < grouped.high - grouped.low
    predicted = make_head("logreg").fit(cache.features[split.train], cache.label_names[split.train])
    indices = (predicted.predict(cache.features[split.test]) == "b").astype(np.intp)
    true = cache.labels[split.test].astype(np.intp)
    ends = score_intervals(true, indices, None, cache.class_names, groups.ids[split.test])["accuracy"]
    assert (by_groups[-1].low, by_groups[-1].high) == pytest.approx(ends)


def test_texts_of_the_figure_are_ink_and_ticks_are_the_points():
    made = compare(drawn_cache((150, 150)), ["knn"], split="random", learning_curve=True)
    figure = learning_curve_figure(made.learning_curve)
    axes = figure.axes[0]
    figure.draw_without_rendering()
    sizes = sorted(point.images for point in made.learning_curve)
    assert len(sizes) >= 3
    assert axes.get_xticks().tolist() == sizes
    assert not axes.xaxis.get_minorticklocs().size
    texts = [*axes.get_xticklabels(), *axes.get_yticklabels(), axes.xaxis.label, axes.yaxis.label]
    assert {text.get_color() for text in texts} == {INK}
    assert axes.get_xticklabels()[-1].get_text() == "240"


def test_the_outlook_says_how_many_more_groups_are_needed():
    made = compare(drawn_cache((300, 300), 2.0), ["logreg", "knn"], split="random", learning_curve=True)
    outlook = made.learning_outlook
    tested = len(made.split.test)
    assert (outlook.unit, outlook.tested, {outlook.head, outlook.rival}) == ("images", tested, {"logreg", "knn"})
    true = made.cache.labels[made.split.test]
    correct = [made.result(name).predicted == true for name in ("logreg", "knn")]
    variance = np.var(correct[0].astype(float) - correct[1])
    assert outlook.needed == pytest.approx((1.96 + 0.8416) ** 2 * variance / 0.02**2, rel=0.1)
    assert outlook.more == pytest.approx((outlook.needed - tested) * 600 / tested, rel=0.01)
    assert "more images in the data set" in outlook.text
    groups = np.arange(600) // 4
    grouped = compare(made.cache, ["logreg", "knn"], split="grouped", groups=groups, learning_curve=True)
    assert (grouped.learning_outlook.unit, "more groups in the data set" in grouped.learning_outlook.text) == (
        "groups",
        True,
    )
    alone = compare(made.cache, ["logreg"], split="random", learning_curve=True)
    assert "For an interval of 2 points on each side of the accuracy" in alone.learning_outlook.text


def test_a_rising_and_a_flat_curve_are_told_apart():
    flat = drawn_cache((2000, 2000), 6.0)
    heads = {"knn": make_head("knn", n_neighbors=1)}
    _, slopes, _ = score_learning_curve(flat, heads, make_split(flat, "random", 0), steps=3)
    assert abs(slopes["knn"].per_doubling) < 0.01
    assert slopes["knn"].high < 0.01
    generator = np.random.default_rng(0)
    centres = generator.normal(size=(200, 20)) * 9
    rows = generator.integers(200, size=800)
    steep = FeatureCache.from_arrays(centres[rows] + generator.normal(size=(800, 20)), np.where(rows % 2, "a", "b"))
    _, slopes, _ = score_learning_curve(steep, heads, make_split(steep, "random", 0), steps=3)
    assert slopes["knn"].low > 0
    made = compare(steep, ["knn"], split="random", learning_curve=True)
    assert "it still rises, so more training images help" in learning_outlook(made, slopes).text
