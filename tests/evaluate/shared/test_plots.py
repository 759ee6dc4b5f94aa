from __future__ import annotations

import itertools

import matplotlib as mpl
import numpy as np
import pytest
from embedonce.evaluate.shared.plots import QUIET, confusion_figure, history_figure, percent, save_figure
from PIL import Image


def texts(ax):
    return [text.get_text() for text in ax.texts]


def test_a_confusion_matrix_shows_counts_and_fractions():
    figure = confusion_figure({"logreg": [[9, 1], [0, 1200]]}, ["cats", "dogs"], {"logreg": "accuracy 0.9"})
    (ax,) = figure.axes
    shown = texts(ax)
    assert {"9\n90.0 %", "1\n10.0 %", "0", "1,200\n100 %", "accuracy 0.9"} == set(shown)
    assert [label.get_text() for label in ax.get_xticklabels()] == ["cats", "dogs"]
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("predicted class", "true class")
    assert {text.get_text(): text.get_color() for text in ax.texts}["0"] == QUIET
    assert ax.get_title(loc="left") == "logreg"


@pytest.mark.parametrize(
    "names", [["a", "b"], ["adenocarcinoma", "normal"], [f"a quite long name {n}" for n in range(12)]]
)
def test_column_labels_are_centred_over_their_columns(names):
    figure = confusion_figure({"logreg": np.eye(len(names), dtype=int)}, names, {})
    figure.draw_without_rendering()
    (ax,) = figure.axes
    boxes = [label.get_window_extent() for label in ax.get_xticklabels()]
    centres = ax.transData.transform([(column, 0) for column in range(len(names))])[:, 0]
    np.testing.assert_allclose([(box.x0 + box.x1) / 2 for box in boxes], centres, atol=3)
    assert all(left.x1 < right.x0 for left, right in itertools.pairwise(boxes))


@pytest.mark.parametrize("heads", [1, 2, 3, 4, 7])
def test_every_head_gets_its_place(heads):
    figure = confusion_figure({f"h{n}": np.eye(2, dtype=int) for n in range(heads)}, ["a", "b"], {})
    assert sum(ax.axison for ax in figure.axes) == heads


@pytest.mark.parametrize("classes", [2, 11, 60])
def test_many_classes_and_odd_names_can_be_drawn(classes, tmp_path):
    names = [f"a long class name with \udcff and $x$ number {number}\n" for number in range(classes)]
    save_figure(confusion_figure({"h": np.eye(classes, dtype=int)}, names, {}), tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as picture:
        assert min(picture.size) > 500


def test_long_names_that_differ_at_their_ends_stay_distinct():
    names = [f"squamous cell carcinoma of the lung, grade {grade}" for grade in "123"]
    (ax,) = confusion_figure({"h": np.eye(3, dtype=int)}, names, {}).axes
    assert len({label.get_text() for label in ax.get_xticklabels()}) == 3


def test_many_classes_have_bars_of_the_most_confused_pairs():
    matrix = np.eye(30, dtype=int) * 9
    matrix[3, 4], matrix[5, 7] = 2, 6
    figure = confusion_figure({"knn": matrix}, [f"c{number}" for number in range(30)], {}, "the heading")
    figure.draw_without_rendering()
    (ax,) = figure.axes
    assert [label.get_text() for label in ax.get_yticklabels()] == ["c5 → c7", "c3 → c4"]
    assert texts(ax)[:2] == [" 6 of 15 (40.0 %)", " 2 of 11 (18.2 %)"]
    assert figure.get_suptitle() == "the heading"


DRAW = """
import sys
from embedonce.evaluate.shared import confusion_figure, save_figure
save_figure(confusion_figure({"logreg": [[2, 1], [0, 9]]}, ["cats", "dogs"], {}), sys.argv[1])
"""
SETTINGS = "text.usetex: True\nfigure.dpi: 20\nfont.size: 40\naxes.facecolor: black\nsavefig.bbox: standard\n"


@pytest.mark.parametrize("backend", ["module://matplotlib_inline.backend_inline", "unknown", "TkAgg"])
def test_figures_are_equal_whatever_the_user_has_set(python, tmp_path, monkeypatch, backend):
    python(DRAW, tmp_path / "plain.png")
    (tmp_path / "matplotlibrc").write_text(SETTINGS)
    monkeypatch.setenv("MATPLOTLIBRC", str(tmp_path))
    monkeypatch.setenv("MPLBACKEND", backend)
    python(DRAW, tmp_path / "set.png")
    assert (tmp_path / "set.png").read_bytes() == (tmp_path / "plain.png").read_bytes()


def test_drawing_leaves_the_users_settings_alone(tmp_path):
    with mpl.rc_context({"font.size": 31}):
        save_figure(confusion_figure({"h": np.eye(2, dtype=int)}, ["a", "b"], {}), tmp_path / "a.svg")
        assert mpl.rcParams["font.size"] == 31


def test_a_class_without_test_images_is_drawn_without_warnings(recwarn, tmp_path):
    save_figure(confusion_figure({"h": [[0, 0], [1, 3]]}, ["a", "b"], {}), tmp_path / "a.png")
    assert not [warning for warning in recwarn if issubclass(warning.category, RuntimeWarning)]


def test_curves_show_training_and_validation():
    history = {"accuracy": [0.5, 0.9], "loss": [1, 0.2], "val_accuracy": [0.6, 0.8], "val_loss": [0.9, 0.4]}
    figure = history_figure({"softmax": history})
    accuracy, loss = figure.axes
    assert [line.get_label() for line in accuracy.lines] == ["training", "validation"]
    assert accuracy.get_title("left") == "training curves of softmax"
    assert [(ax.get_xlabel(), ax.get_ylabel()) for ax in figure.axes] == [("epoch", "accuracy"), ("epoch", "loss")]
    assert "So validation can be better than training." in figure.get_supxlabel()
    alone = history_figure({"softmax": {"accuracy": [0.5, 0.9], "loss": [1, 0.2]}})
    assert not alone.get_supxlabel()
    np.testing.assert_array_equal(loss.lines[1].get_ydata(), [0.9, 0.4])
    np.testing.assert_array_equal(loss.lines[1].get_xdata(), [1, 2])


@pytest.mark.parametrize(
    ("share", "shown"),
    [(1, "100 %"), (0.9999, "99.9 %"), (0.5, "50.0 %"), (0.0001, "0.1 %"), (0.054, "5.4 %"), (0, "0 %")],
)
def test_rounding_never_hides_an_error(share, shown):
    assert percent(share) == shown
