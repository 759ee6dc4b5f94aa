"""What the figures of a comparison show."""

from __future__ import annotations

import warnings

import matplotlib as mpl
import numpy as np
import pytest
from embedonce import FeatureCache
from embedonce.evaluate.comparison.run import compare
from embedonce.evaluate.report.figures import COLOURS, figures, head_linestyle, head_style
from embedonce.evaluate.report.inline_images import as_svg
from embedonce.evaluate.shared import GRID, INK, QUIET, grid_figure
from sklearn.neighbors import KNeighborsClassifier


def drawn_cache(classes, images=16, distance=1.0):
    generator = np.random.default_rng(1)
    labels = np.repeat(np.arange(classes), images)
    centres = generator.normal(size=(classes, 8)) * distance
    features = (centres[labels] + generator.normal(size=(len(labels), 8))).astype(np.float32)
    return FeatureCache.from_arrays(features, [f"class {label}" for label in labels])


def drawn(comparison, name):
    figure = figures(comparison)[name]()
    figure.draw_without_rendering()
    return figure


def heading(figure):
    return " ".join(figure.get_suptitle().split("\n"))


def titles(figure):
    return [ax.get_title("left") for ax in figure.axes]


@pytest.fixture(scope="module")
def made():
    # the best head is neither the first nor the last
    heads = {"dummy": {}, "logreg": {}, "knn": {"n_neighbors": 1}}
    return compare(drawn_cache(3), heads, split="random", learning_curve=True)


@pytest.fixture(scope="module")
def pictures(made):
    return {name: drawn(made, name) for name in figures(made)}


def test_heads_are_in_the_order_of_the_table_everywhere(made, pictures):
    names = [result.name for result in made.table]
    assert names != [result.name for result in made.results]
    rows = [text.get_text() for text in pictures["scores"].axes[0].get_yticklabels()]
    assert rows[::-1] == names
    colours = set()
    for figure in ("roc", "precision-recall", "reliability", "coverage", "learning-curve"):
        ax = pictures[figure].axes[0]
        handles, labels = ax.get_legend_handles_labels()
        assert [label.split(" ")[0] for label in labels] == names
        lines = [handle if hasattr(handle, "get_color") else handle.lines[0] for handle in handles]
        colours.add(tuple(line.get_color() for line in lines))
    assert colours == {COLOURS[:3]}


def test_scores_have_numbers_beside_the_dots(made, pictures):
    texts = [text.get_text() for text in pictures["scores"].axes[0].texts]
    assert texts == [f"{100 * result.scores['accuracy']:.1f} %" for result in made.table[::-1]]


def test_texts_and_lines_of_figures_follow_the_theme(pictures):
    for name, figure in pictures.items():
        texts = [text for text in figure.findobj(mpl.text.Text) if text.get_visible() and text.get_text().strip()]
        assert {mpl.colors.to_hex(text.get_color()) for text in texts} <= {INK, QUIET}, name
        lines = {mpl.colors.to_hex(line.get_color()) for ax in figure.axes for line in ax.lines}
        assert lines <= {GRID, INK, QUIET, *COLOURS}, name
    svg = as_svg(pictures["learning-curve"], "learning-curve")
    assert not any(colour in svg for colour in (INK, GRID, QUIET, "#000000"))


def test_every_axis_has_a_name(pictures):
    for name, figure in pictures.items():
        for ax in figure.axes:
            assert ax.get_xlabel()
            assert ax.get_ylabel() or name == "scores"


def test_coverage_is_labelled_in_words(pictures):
    (ax,) = pictures["coverage"].axes
    assert "coverage" not in ax.get_title("left") + ax.get_xlabel() + ax.get_ylabel()
    assert "the most confident first" in ax.get_xlabel()


@pytest.mark.parametrize("count", range(1, 8))
def test_a_grid_has_no_empty_place(count):
    figure, axes = grid_figure(count, 3, 3)
    figure.draw_without_rendering()
    assert len(axes) == count
    rows = {round(ax.get_position().y0, 2) for ax in axes}
    for row in rows:
        cells = [ax.get_position() for ax in axes if round(ax.get_position().y0, 2) == row]
        assert len(cells) <= 3
        assert max(cell.x1 for cell in cells) > 0.9
    assert len(rows) == -(-count // 3)


def test_curves_are_of_the_worst_classes_and_say_so():
    from sklearn.metrics import roc_auc_score

    made = compare(drawn_cache(8, distance=0.5), ["logreg", "knn"], split="random")
    true = made.cache.labels[made.split.test]
    areas = {
        name: np.mean([roc_auc_score(true == index, result.probabilities[:, index]) for result in made.results])
        for index, name in enumerate(made.cache.class_names)
    }
    figure = drawn(made, "roc")
    assert titles(figure) == sorted(areas, key=areas.get)[:6]
    assert heading(figure) == "ROC: the 6 of 8 classes with the smallest mean area under the curve."
    few = drawn(compare(drawn_cache(3, distance=0.5), ["knn"], split="random"), "precision-recall")
    expected = "Precision and recall: the class with the smallest mean average precision first."
    assert heading(few) == expected


def test_perfect_classes_are_named_and_not_drawn():
    cache = drawn_cache(5, distance=20)
    figure = drawn(compare(cache, ["logreg", "knn"], split="random"), "roc")
    assert figure.axes == []
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert as_svg(figure, "roc")
    assert heading(figure).startswith(
        "ROC: area under the curve. All 1.000: class 0, class 1, class 2 and 2 other classes."
    )
    features, labels = np.array(cache.features), np.array(cache.label_names)
    features[labels == "class 1"] = features[labels == "class 0"]
    figure = drawn(
        compare(FeatureCache.from_arrays(features, labels.tolist()), ["logreg", "knn"], split="random"), "roc"
    )
    assert sorted(titles(figure)) == ["class 0", "class 1"]
    assert "All 1.000: class 2, class 3 and class 4." in heading(figure)


def test_bins_of_one_image_are_left_out(made, monkeypatch):
    bins = [{"confidence": n / 10, "accuracy": 0.5, "count": n, "low": 0, "high": 1} for n in (1, 2, 4, 5, 9)]
    monkeypatch.setattr("embedonce.evaluate.report.figures.reliability", lambda *given: bins)
    (ax,) = drawn(made, "reliability").axes
    shown = {float(x) for line in ax.lines[1:] for x in line.get_xdata()}
    assert shown == {0.2, 0.4, 0.5, 0.9}
    assert "hollow: 2 to 4 images; single images are left out" in ax.get_xlabel()


def test_styles_of_eleven_heads_are_distinct():
    assert len({head_style(number) for number in range(11)}) == 11
    assert len({(head_style(number)[0], head_linestyle(number)) for number in range(11)}) == 11


def test_legends_of_many_heads_are_below_the_axes():
    heads = {f"nearest-{count}": KNeighborsClassifier(count) for count in range(1, 8)}
    made = compare(drawn_cache(3, distance=0.5), heads, split="random")
    for name in ("roc", "precision-recall", "reliability", "coverage"):
        figure = drawn(made, name)
        for ax in figure.axes:
            legend = ax.get_legend().get_window_extent()
            assert legend.y1 < ax.xaxis.label.get_window_extent().y0
            assert legend.y0 >= 0


def test_the_best_six_of_many_heads_are_drawn():
    heads = {f"nearest-{count}": KNeighborsClassifier(count) for count in range(1, 13)}
    made = compare(drawn_cache(2, distance=0.5), heads, split="random", learning_curve=True)
    best = [result.name for result in made.table][:6]
    for name, draw in figures(made).items():
        figure = draw()
        assert "Drawn: the best 6 of 12 heads." in heading(figure)
        labels = [label.split(" ")[0] for label in figure.axes[0].get_legend_handles_labels()[1]]
        rows = [text.get_text() for text in figure.axes[0].get_yticklabels()]
        assert (rows[::-1] if name == "scores" else labels) == best
