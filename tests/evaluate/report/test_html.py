from __future__ import annotations

import csv
import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import embedonce
import numpy as np
import pytest
from cache_tables import make_table
from embedonce.cache.writer import write_cache
from embedonce.cli.output import print_comparison
from embedonce.errors import ImageError, SplitError, WeightsError
from embedonce.evaluate.comparison.run import compare
from embedonce.evaluate.report.activation_maps import overlay
from embedonce.evaluate.report.figures import scores_figure
from embedonce.evaluate.report.first_screen import leakage, next_step
from embedonce.evaluate.report.follow_up import next_command
from embedonce.evaluate.report.html import page_content, summary, write_report
from embedonce.evaluate.report.label_errors import SuspectedError, label_errors, suspects_csv
from embedonce.evaluate.report.results_json import comparison_results
from embedonce.evaluate.scoring.results import LeakageGap, TuningResult
from embedonce.evaluate.shared import plots
from embedonce.evaluate.shared.plots import percent
from embedonce.evaluate.shared.provenance import as_typed
from embedonce.evaluate.shared.tables import Records, format_interval, format_seconds
from embedonce.evaluate.splits.groups import Groups
from embedonce.evaluate.splits.split import Split, every_row
from saving import with_empty_pictures
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler


class Page(HTMLParser):
    """Tags that are open when the page ends, and every reference to something outside."""

    VOID = frozenset({"meta", "img", "br", "link", "input", "hr"})

    def __init__(self, text):
        super().__init__()
        self.open, self.references, self.tags = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        if tag not in self.VOID:
            self.open.append(tag)
        self.references += [value for name, value in attributes if name in ("src", "href", "xlink:href", "srcset")]

    def handle_startendtag(self, tag, attributes):
        self.references += [value for name, value in attributes if name in ("src", "href", "xlink:href", "srcset")]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


@pytest.fixture
def feature_cache(tmp_path):
    """Return a function that writes a cache of invented, separable features."""

    def make(classes, images, names=None, shares=None):
        generator = np.random.default_rng(0)
        names = names or [f"c{number:02d}" for number in range(classes)]
        weights = np.repeat(np.arange(classes), shares or [1] * classes)
        labels = np.array([weights[row % len(weights)] for row in range(images)], np.int32)
        table = make_table(images, 8, 0)
        paths = [f"{names[label]}/{row:04d}.jpg".encode("utf-8", "surrogateescape") for row, label in enumerate(labels)]
        table = replace(
            table,
            class_names=[name.encode("utf-8", "surrogateescape") for name in names],
            labels=labels,
            features=(generator.normal(size=(images, 8)) + labels[:, None]).astype(np.float32),
            files=replace(table.files, paths=paths),
        )
        write_cache(table, tmp_path / "invented.h5")
        return embedonce.FeatureCache.open(tmp_path / "invented.h5")

    return make


@pytest.fixture(scope="module")
def comparison(cache, in_pairs):
    return compare(cache, {"logreg": {}, "softmax": {"epochs": 5}, "knn": {}}, groups=in_pairs)


@pytest.fixture(scope="module")
def folded(cache):
    return compare(cache, ["logreg", "dummy"], split="random", folds=3)


@pytest.fixture(scope="module")
def saved(comparison, tmp_path_factory):
    """A folder of the comparison's results, and the files that were written there; the pictures are coarse."""
    folder = tmp_path_factory.mktemp("saved")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plots, "_DPI", 20)
        return folder, comparison.save(folder)


@pytest.fixture
def undrawn():
    """Pages of this test have empty figures."""
    with with_empty_pictures():
        yield


@pytest.fixture(scope="module")
def page(comparison, tmp_path_factory):
    return write_report(comparison, tmp_path_factory.mktemp("report") / "report.html").read_text("utf-8")


def test_the_page_has_every_head_and_class_and_closed_tags(page, comparison):
    for name in ["logreg", "softmax", "knn", *comparison.cache.class_names]:
        assert name in page
    parsed = Page(page)
    assert parsed.open == []
    assert parsed.tags.count("svg") == 7
    for count in comparison.confusion("logreg").ravel():
        assert f">{count}" in page


def test_nothing_of_the_page_is_outside_it(page):
    for reference in Page(page).references:
        assert reference.startswith(("data:", "#")), reference
    assert not re.search(r"@import|url\((?!#)", page)
    assert "default-src 'none'" in page


def test_the_summary_names_the_best_head_and_the_differences(comparison):
    sentences = summary(comparison)
    best = comparison.table[0]
    score = best.scores["balanced_accuracy" if comparison.skewed else "accuracy"]
    assert sentences[0].startswith(f"{best.name} reaches {100 * score:.1f} %".replace("100.0", "100"))
    assert "95 % interval" in sentences[0]
    assert sum("better" in text or "tied" in text or "No significant" in text for text in sentences) == 2
    own = next(row for row in comparison.leakage_gap if row.head == best.name)
    assert leakage(comparison)["gap"] == f"{100 * own.gap:+.1f} points"
    assert leakage(comparison)["interval"] == f"95 % interval {100 * own.low:+.1f} to {100 * own.high:+.1f}"
    assert any("random split overstates" in text or "does not overstate" in text for text in sentences)


def test_the_summary_says_if_the_random_split_scores_lower(comparison, monkeypatch):
    monkeypatch.setattr(type(comparison), "leakage_gap", [LeakageGap("svm", "accuracy", 0.87, 0.88, -0.01, -0.1, 0.1)])
    text = next(text for text in summary(comparison) if text.startswith("A random split"))
    assert "does not overstate the accuracy (svm: 87.0 % instead of 88.0 % on the grouped split). " in text
    assert "-1.0" not in text


@pytest.mark.parametrize(
    ("typed", "shown"),
    [
        (["/some/where/bin/embedonce", "compare", "my cache.h5"], "embedonce compare 'my cache.h5'"),
        ([str(Path(embedonce.__file__).with_name("__main__.py")), "compare"], "python -m embedonce compare"),
        (["/some/where/other/__main__.py"], "python -m other"),
        (["nightly.py"], "nightly.py"),
        ([""], "python"),
    ],
)
def test_the_command_is_shown_as_it_is_typed(typed, shown):
    assert as_typed(typed) == shown


@pytest.mark.parametrize(
    ("heads", "options", "expected"),
    [
        ({"logreg": {"C": 0.5}}, {}, "train CACHE --head logreg -p C=0.5 -o logreg.npz"),
        ({"wide": {"head": "knn"}}, {"calibrate": "sigmoid"}, "train CACHE --head knn -o wide.npz"),
        ({"knn": {}}, {"class_weight": "balanced"}, "train CACHE --head knn -p class_weight=balanced -o knn.npz"),
        (
            ["sklearn.linear_model:Perceptron"],
            {},
            "train CACHE --head sklearn.linear_model:Perceptron -o Perceptron.skops",
        ),
        ({"own": KNeighborsClassifier()}, {}, ""),
    ],
)
def test_the_next_command_trains_the_best_head(cache, heads, options, expected):
    comparison = compare(cache, heads, split="random", **options)
    assert " ".join(next_command(comparison)).replace(str(cache.path), "CACHE") == expected


def test_the_next_command_takes_the_options_of_the_comparison(folded):
    words = " ".join(next_command(folded, split="folds.csv", groups="p.csv", seed=3, views="both"))
    assert words.endswith("--head logreg --groups p.csv --seed 3 --views both -o logreg.npz")
    tuned = TuningResult({"C": 1.0}, "accuracy", 0.9, 0.8, 3, True)
    of_folds = replace(folded, results=[replace(folded.result("logreg"), tuning=Records([tuned] * 3))])
    words = " ".join(next_command(of_folds, split="random", groups=None, seed=0, views="both"))
    assert words.startswith("tune ")
    assert words.endswith(" --head logreg --split random -o logreg-tuned")


def test_the_report_shows_the_next_command_that_was_set(comparison, monkeypatch):
    assert next_step(comparison).startswith(f"embedonce train {comparison.cache.path} --head ")
    monkeypatch.setattr(comparison, "next_command", ["predict", "my model.npz", "IMAGES"])
    assert next_step(comparison) == "embedonce predict 'my model.npz' IMAGES"
    in_memory = embedonce.FeatureCache.from_arrays(np.eye(2).repeat(20, axis=0), ["a"] * 20 + ["b"] * 20)
    assert (
        next_step(compare(in_memory, ["knn"], split="random")) == "comparison.result('knn').save_model('best.joblib')"
    )


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"split": "random"}, "The leakage gap was not measured: groups of images that belong together are not known."),
        (
            {"split": "grouped", "groups": 2},
            "was not measured: only one split was tested; no test image has an image of their",
        ),
        ({"split": "random", "groups": 2}, "% of the test images have an image of their group in training."),
        ({"groups": 1}, "There is no leakage: no two images are of one group."),
        ({"groups": 2}, "The random split overstates no score: every gap is 0.0 points."),
    ],
)
def test_an_empty_leakage_gap_is_one_sentence(options, sentence, tmp_path):
    X = np.eye(2).repeat(30, axis=0)
    cache = embedonce.FeatureCache.from_arrays(X, ["ash"] * 30 + ["birch"] * 30)
    if "groups" in options:
        options = options | {"groups": np.arange(60) // options["groups"]}
    page = write_report(compare(cache, ["knn"], **options), tmp_path / "report.html").read_text("utf-8")
    section = re.sub("</?span[^>]*>", "", page[page.index("<h2>Leakage gap</h2>") :].split("</section>")[0])
    assert sentence in section
    assert section.count("<p") == section.count(".</p>") == 1
    assert "<table" not in section


@pytest.mark.usefixtures("undrawn")
def test_parameters_are_shown_when_calibrated(cache, tmp_path):
    heads = {"logreg": {"C": 0.5}, "chain": make_pipeline(StandardScaler(), KNeighborsClassifier(3))}
    comparison = compare(cache, heads, split="random", calibrate="temperature")
    page = write_report(comparison, tmp_path / "report.html").read_text("utf-8")
    assert "<dt>logreg</dt><dd>C 0.5, class_weight None, " in page
    assert "calibrate temperature</dd>" in page
    assert "<dt>Next, without the calibration</dt>" in page
    parameters = comparison_results(comparison)["heads"][1]["parameters"]
    assert parameters["kneighborsclassifier__n_neighbors"] == 3
    assert parameters["kneighborsclassifier"] == "KNeighborsClassifier"


def test_every_class_has_scores_with_intervals(comparison, page):
    classes = comparison_results(comparison)["heads"][0]["per_class"]
    assert [one["class"] for one in classes] == comparison.cache.class_names
    for one in classes:
        assert all(low <= one[name] <= high for name, (low, high) in one["intervals"].items())
    section = page[page.index('<section id="classes">') :].split("</section>")[0]
    best = next(one for one in comparison_results(comparison)["heads"] if one["head"] == comparison.table[0].name)
    for one in best["per_class"]:
        for name, ends in one["intervals"].items():
            shown = format_interval(*ends, as_percent=True)
            assert f"<td>{percent(one[name])}<small>{shown}</small></td>" in section.split("<details>")[0]
    assert section.count("<details>") == 2


def test_every_figure_has_a_caption(page):
    figures = re.findall("<figure>.*?</figure>", page, re.S)
    assert len(figures) == page.count("<svg") == 7
    assert all(re.search(r"<figcaption>[A-Z].*\.</figcaption>", figure) for figure in figures)


@pytest.mark.usefixtures("undrawn")
def test_images_on_which_heads_differ_are_shown_as_they_are(cache, comparison):
    content = page_content(comparison)
    for pair, difference in zip(content["pairs"], comparison.differences, strict=True):
        assert [side["count"] for side in pair["sides"]] == list(difference.discordant)
        for side in pair["sides"]:
            for entry in side["images"]:
                assert entry.row in comparison.split.test
                assert content["images"][entry.row].startswith("data:image/jpeg;base64,")


@pytest.mark.usefixtures("undrawn")
def test_without_the_image_folder_paths_are_listed(comparison, monkeypatch, tmp_path):
    monkeypatch.setattr("embedonce.evaluate.report.inline_images.image_folder", lambda cache: tmp_path)
    content = page_content(comparison)
    assert content["images"] == {}
    page = write_report(comparison, tmp_path / "report.html").read_text("utf-8")
    some = next(entry for pair in content["pairs"] for side in pair["sides"] for entry in side["images"])
    assert some.path in page
    assert "have moved or changed" in page


def test_an_image_with_other_content_is_not_shown(cache, comparison, monkeypatch, tmp_path):
    from embedonce.evaluate.shared.images import image_folder, read_unchanged

    path = tmp_path / cache.paths[0]
    path.parent.mkdir(parents=True)
    path.write_bytes((image_folder(cache) / cache.paths[1]).read_bytes())
    with pytest.raises(ImageError, match="has changed"):
        read_unchanged(cache, tmp_path, 0)


@pytest.mark.usefixtures("undrawn")
def test_maps_are_under_images_of_incorrect_predictions(comparison, tmp_path, monkeypatch):
    content = page_content(comparison, maps=True)
    pairs, maps = content["pairs"], content["maps"]
    entries = [entry for pair in pairs for side in pair["sides"] for entry in side["images"]] + content["suspected"]
    entries += [entry for pair in content["confused"] for entry in pair["images"]]
    assert {entry.map in maps for entry in entries if entry.map.head != "knn"} <= {True}
    assert not any(one.head == "knn" for one in maps)
    assert maps
    assert all(url.startswith("data:image/jpeg;base64,") for url in maps.values())
    for entry in pairs[0]["sides"][0]["images"]:
        place = comparison.split.test.tolist().index(entry.row)
        predicted = comparison.result(entry.map.head).predicted[place]
        assert entry.map.class_name == comparison.cache.class_names[predicted]
    # drawn once
    monkeypatch.setattr("embedonce.evaluate.report.html.page_content", lambda *given, **options: content)
    page = write_report(comparison, tmp_path / "report.html", maps=True).read_text("utf-8")
    assert Page(page).open == []
    assert "red supports it, blue opposes it" in page
    assert page.count('data-map="regions ') == sum(entry.map in maps for entry in entries)


@pytest.mark.usefixtures("undrawn")
def test_a_report_says_why_there_are_no_maps(folded, comparison, tmp_path, monkeypatch):
    page = write_report(folded, tmp_path / "folds.html", maps=True).read_text("utf-8")
    assert "There are no maps under the images: with folds, the heads" in page

    def gone(*given):
        raise WeightsError("the weights are gone")

    monkeypatch.setattr("embedonce.evaluate.report.activation_maps.backbone_of", gone)
    page = write_report(comparison, tmp_path / "report.html", maps=True).read_text("utf-8")
    assert "There are no maps under the images: the weights are gone." in page


def test_a_map_lies_over_the_image_in_gray():
    pixels = np.full((100, 50, 3), 200, np.uint8)
    heatmap = np.array([[1.0, 0.0], [0.0, -1.0]])
    drawn = overlay(pixels, heatmap, signed=True)
    assert drawn.shape == (100, 50, 3)
    assert drawn[0, 0, 0] > drawn[0, 0, 2]  # red speaks for it
    assert drawn[-1, -1, 2] > drawn[-1, -1, 0]  # blue against it
    np.testing.assert_allclose(drawn[0, -1], 0.6 * 247 + 0.4 * 200, atol=3)  # neither
    assert overlay(np.zeros((900, 300, 3), np.uint8), np.zeros((2, 2)), signed=False).shape == (224, 75, 3)


def test_the_same_comparison_gives_the_same_page(comparison, page, tmp_path):
    again = write_report(comparison, tmp_path / "again.html").read_text("utf-8")

    def without_time(text):
        return re.sub(r"\d{4}-\d\d-\d\d(T[\d:+]+)?", "TIME", text)

    assert without_time(again) == without_time(page)


def test_a_page_without_random_split_or_probabilities(cache, tmp_path):
    alone = compare(cache, ["sklearn.linear_model:Perceptron"], split="random")
    alone.results[0] = replace(alone.results[0], intervals={})
    page = write_report(alone, tmp_path / "report.html").read_text("utf-8")
    assert Page(page).open == []
    assert "Calibration" not in page
    assert "Leakage gap of every head" not in page


def test_folds_have_a_table_of_all_of_them(folded, tmp_path):
    page = write_report(folded, tmp_path / "report.html").read_text("utf-8")
    assert "3 random folds" in page
    assert "Every fold" in page


@pytest.mark.parametrize("classes", [2, 30])
def test_two_classes_and_thirty_are_shown_too(feature_cache, classes, tmp_path):
    cache = feature_cache(classes=classes, images=6 * classes)
    page = write_report(compare(cache, ["logreg"], split="random"), tmp_path / "report.html").read_text("utf-8")
    assert Page(page).open == []
    assert ("confusion-HEAD.csv" in page) == (classes == 30)


def test_names_are_shown_as_text_whatever_they_hold(feature_cache, tmp_path):
    cache = feature_cache(classes=2, images=20, names=["<script>alert(1)<", "a\udcff&b"])
    page = write_report(compare(cache, ["logreg"], split="random"), tmp_path / "report.html").read_text("utf-8")
    assert "<script>alert" not in page
    assert "&lt;script&gt;alert(1)&lt;" in page
    assert Page(page).open == []


@pytest.mark.usefixtures("undrawn")
def test_a_note_keeps_the_name_of_a_head(feature_cache, tmp_path):
    heads = {"svm": {"approximate_above": 5, "n_components": 9}}
    comparison = compare(feature_cache(classes=2, images=40), heads, split="random")
    page = write_report(comparison, tmp_path / "report.html").read_text("utf-8")
    assert "<p>svm was trained on more than 5 images" in page
    assert page.count("<p>Svm") == 0


@pytest.mark.usefixtures("undrawn")
def test_skewed_classes_put_balanced_accuracy_first(feature_cache, tmp_path):
    cache = feature_cache(classes=2, images=60, shares=[5, 1])
    comparison = compare(cache, ["logreg", "dummy"], split="random")
    assert comparison.skewed
    page = write_report(comparison, tmp_path / "report.html").read_text("utf-8")
    assert page.index("balanced accuracy</th>") < page.index(">accuracy</th>")
    assert "balanced accuracy orders the heads" in page


def test_classes_of_equal_size_are_not_called_unequal():
    X = np.random.default_rng(0).normal(size=(16, 8))
    cache = embedonce.FeatureCache.from_arrays(X, ["a"] * 8 + ["b"] * 8)
    test = [0, 8, 9]
    comparison = compare(cache, ["knn"], split=Split(np.setdiff1d(np.arange(16), test), test))
    assert not comparison.skewed
    assert not any("differ much in size" in text for text in summary(comparison))
    assert str(comparison).split()[1] == "accuracy"


@pytest.mark.usefixtures("undrawn")
def test_outputs_name_groups_by_their_source(feature_cache, tmp_path, capsys):
    cache = feature_cache(classes=2, images=60)
    names = [f"P{row // 3}" for row in range(60)]
    for source, other in (("file", "near-duplicate"), ("custom", "near-duplicate"), ("found", "image of their group")):
        comparison = compare(cache, ["knn"], groups=Groups(cache.paths, names, source))
        print_comparison(comparison)
        shown = capsys.readouterr().out
        page = write_report(comparison, tmp_path / "report.html").read_text("utf-8")
        leakage = page[page.index("<h2>Leakage gap</h2>") :].split("</p>")[0]
        texts = [shown.split("In the random split")[1].split("\n")[0], *summary(comparison), leakage]
        if source != "found":
            texts += [page, shown, json.dumps(comparison_results(comparison))]
        assert not any(other in text for text in texts)


def test_a_split_without_test_images_has_nothing_to_report(comparison, tmp_path):
    empty = replace(comparison, split=every_row(comparison.cache))
    with pytest.raises(SplitError, match="needs test images"):
        write_report(empty, tmp_path / "report.html")
    assert not (tmp_path / "report.html").exists()


def test_saving_writes_the_report_and_every_figure_twice(saved):
    folder, written = saved
    assert all(path.stat().st_size for path in written)
    names = {path.name for path in written}
    assert "report.html" in names
    for figure in ("scores", "roc", "precision-recall", "reliability", "coverage", "confusion", "curves-softmax"):
        assert {f"{figure}.png", f"{figure}.svg"} <= names
    results = json.loads((folder / "results.json").read_text())
    logreg = next(head for head in results["heads"] if head["head"] == "logreg")
    assert 0 <= logreg["ece"] <= 1
    assert 0 <= logreg["brier"] <= 2
    assert np.isfinite([row["p_holm"] for row in results["differences"]]).all()


def test_the_page_has_the_figures_of_the_files(saved):
    def texts(svg):
        return re.findall(">([^<]+)</text>", svg)

    folder, _ = saved
    figures = re.findall("<svg.*?</svg>", (folder / "report.html").read_text("utf-8"), re.S)
    files = ["scores", "shortcuts", "roc", "precision-recall", "reliability", "coverage", "curves-softmax"]
    assert [texts(svg) for svg in figures] == [texts((folder / f"{name}.svg").read_text("utf-8")) for name in files]


@pytest.mark.usefixtures("undrawn")
def test_one_image_of_each_group_is_shown(comparison):
    ids = comparison.groups.ids
    content = page_content(comparison, thumbnails=False)
    assert len(np.unique(ids)) < len(ids)
    seen = 0
    for pair in content["pairs"]:
        for side in pair["sides"]:
            shown = [ids[entry.row] for entry in side["images"]]
            assert len(set(shown)) == len(shown) <= side["groups"] <= side["count"]
            if side["groups"] == len(shown):
                assert sum(entry.alike for entry in side["images"]) == side["count"]
            seen += len(shown)
    assert seen
    shown = [ids[one.row] for one in content["suspected"]]
    assert len(set(shown)) == len(shown)
    assert sum(one.alike for one in content["suspected"]) == content["suspected_count"]


def test_the_table_has_all_suspected_label_errors(comparison, saved):
    rows = list(csv.DictReader((saved[0] / "suspects.csv").open()))
    _, listed = label_errors(comparison)
    assert [row["path"] for row in rows] == [one.path for one in listed]
    groups = dict(zip(comparison.groups.paths, comparison.groups.names, strict=True))
    for row in rows:
        assert row["group"] == groups[row["path"]]
        assert row["label"] != row["suggested"]
        assert row["reason"] == "near-duplicates" or float(row["p_label"]) < float(row["p_suggested"])


@pytest.mark.usefixtures("undrawn")
def test_suspected_label_errors_have_file_names(comparison, tmp_path, monkeypatch):
    paths = comparison.cache.paths[:3]
    errors = [SuspectedError(row, path, "ash", "birch", "probabilities", 0.1, 0.9) for row, path in enumerate(paths)]
    monkeypatch.setattr("embedonce.evaluate.report.html.label_errors", lambda given: ("logreg", errors))
    page = write_report(comparison, tmp_path / "report.html").read_text("utf-8")
    section = page[page.index('id="labels"') :].split("</section>")[0]
    names = re.findall("<small>(.*?)</small></button>", section)
    assert names
    assert set(names) <= {path.split("/")[-1] for path in paths}


def test_without_suspects_the_table_has_its_head_alone():
    assert suspects_csv([]) == b"path,label,suggested,reason,p_label,p_suggested\n"


def test_figures_have_no_ground_that_would_shine_in_the_dark(page):
    pictures = re.findall(r"<svg.*?</svg>", page, re.S)
    assert len(pictures) >= 6
    for picture in pictures:
        assert not re.search(r"#fff(fff)?\b|fill: ?white", picture)


def test_skewed_classes_are_drawn_by_balanced_accuracy(feature_cache):
    skewed = compare(feature_cache(2, 200, shares=[4, 1]), ["logreg"], split="random")
    (ax,) = scores_figure(skewed).axes
    assert ax.get_title(loc="left") == "balanced accuracy and its 95 % interval"
    ends = next(line for line in ax.lines if len(line.get_xdata()) == 2)
    np.testing.assert_allclose(ends.get_xdata(), skewed.result("logreg").intervals["balanced_accuracy"])


@pytest.mark.parametrize(
    ("value", "shown"), [(0.0, "-"), (1e-9, "< 0.01 s"), (0.0049, "< 0.01 s"), (0.0051, "0.01 s"), (12.3, "12.30 s")]
)
def test_no_time_is_rounded_to_0(value, shown):
    assert format_seconds(value) == shown
