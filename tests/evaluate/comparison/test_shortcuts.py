from __future__ import annotations

import shutil
import zipfile
from dataclasses import replace
from pathlib import Path

import embedonce as eo
import numpy as np
import pytest
from embedonce.cache import FACT_BYTES
from embedonce.errors import ParameterError
from embedonce.evaluate.report.figures import figures
from embedonce.evaluate.report.html import page_content
from PIL import Image

TABLES = "JPEG quantisation tables"


def _noise(number):
    generator = np.random.default_rng(number)
    coarse = Image.fromarray(generator.integers(0, 256, (6, 6, 3)).astype(np.uint8))
    return coarse.resize((48, 48), Image.Resampling.BICUBIC)


def _make(folder: Path, save) -> eo.FeatureCache:
    """Embed 120 images of three classes that show the same; ``save`` writes the n-th of a class to a path."""
    for label in ("ash", "birch", "cedar"):
        (folder / "images" / label).mkdir(parents=True)
    for number in range(120):
        label = ("ash", "birch", "cedar")[number % 3]
        save(_noise(number), folder / "images" / label / f"{number}", label)
    return eo.extract_features(folder / "images", folder / "cache.h5", weights="random:0", alpha=0.35, image_size=64)


@pytest.fixture(scope="module")
def quality(tmp_path_factory):
    """A cache whose classes differ in the quality of their JPEG files."""
    qualities = {"ash": 85, "birch": 88, "cedar": 92}

    def save(picture, path, label):
        picture.save(path.with_suffix(".jpg"), quality=qualities[label], subsampling=0)

    return _make(tmp_path_factory.mktemp("quality"), save)


@pytest.fixture(scope="module")
def of_quality(quality):
    return eo.compare(quality, ["logreg"], split="random")


def _families(comparison):
    return {row.family: row for row in comparison.shortcuts.scores}


def test_quality_by_class_names_the_tables(of_quality):
    audit = of_quality.shortcuts
    first = audit.findings[0]
    assert first.family == TABLES
    assert first.score > 0.95
    assert first.low <= first.score <= first.high
    assert audit.chance[0] <= audit.majority < audit.chance[1] < first.score
    assert "camera and software" in audit.constant
    text = f"{TABLES} alone reach 100 % accuracy"
    assert [note for note in of_quality.notes if note.startswith(text)] == [audit.sentence]
    assert audit.sentence.endswith("the classes differ in how the files were made")
    assert of_quality.to_dict()["shortcuts"]["families"][0]["near"]


def test_the_page_has_sentence_figure_and_table(of_quality):
    content = page_content(of_quality, thumbnails=False, drawn={"shortcuts": "<svg></svg>"})
    assert content["shortcuts"].table(page=True).rows[0][:3] == [TABLES, "accuracy", "100 %"]
    assert content["shortcut"].endswith("how the files were made.")
    (ax,) = figures(of_quality)["shortcuts"]().axes
    assert len(ax.patches) == len(of_quality.shortcuts.scores) + 1  # and the band of chance


def test_folds_audit_every_image(quality):
    audit = eo.compare(quality, ["logreg"], folds=3, split="random", repeats=2).shortcuts
    assert audit.findings[0].family == TABLES
    assert audit.findings[0].high - audit.findings[0].low < 0.1
    assert audit.to_frame()["family"][0] == TABLES


def test_the_audit_can_be_left_out(quality):
    comparison = eo.compare(quality, ["logreg"], split="random", shortcuts=False)
    assert comparison.shortcuts is None
    assert not any("alone" in note for note in comparison.notes)
    assert "shortcuts" not in comparison.to_dict()
    with pytest.raises(ParameterError, match="parameter shortcuts of compare must be True or False"):
        eo.compare(quality, ["logreg"], shortcuts="no")


def test_one_class_of_another_format_is_found(tmp_path):
    def save(picture, path, label):
        picture.save(path.with_suffix(".png" if label == "birch" else ".jpg"))

    cache = _make(tmp_path, save)
    # features that tell all classes apart
    good = eo.FeatureCache(replace(cache.table, features=np.eye(3, 4, dtype=np.float32)[cache.labels]))
    audit = eo.compare(good, ["logreg"], split="random").shortcuts
    assert {row.label for row in audit.classes} == {"birch"}
    assert audit.sentence.startswith(
        "file format alone tells birch from the other classes with 100 % balanced accuracy"
    )
    assert not any(row.near for row in audit.scores)


@pytest.mark.parametrize("seed", range(3))
def test_a_set_without_shortcut_has_no_finding(seed):
    generator = np.random.default_rng(seed)
    labels = np.repeat([0, 1, 2], 100)
    features = generator.normal(size=(300, 8)) + 3 * np.eye(3, 8)[labels]
    signatures = generator.integers(0, 256, (300, 784))
    cache = eo.FeatureCache.from_arrays(features, labels, ["a", "b", "c"], signatures=signatures)
    comparison = eo.compare(cache, ["logreg"], split="random", seed=seed)
    audit = comparison.shortcuts
    assert {row.family for row in audit.scores} == {"border", "mean brightness", "8 x 8 thumbnail"}
    assert audit.sentence == ""
    assert not audit.findings
    assert "no family comes near" in repr(audit)


def test_arrays_have_nothing_to_audit(of_quality):
    cache = eo.FeatureCache.from_arrays(of_quality.cache.features, of_quality.cache.labels, list("abc"))
    comparison = eo.compare(cache, ["logreg"], split="random")
    assert len(comparison.shortcuts.scores) == 0
    assert len(comparison.shortcuts.left_out) == 2
    assert "shortcuts" not in figures(comparison)
    page_content(comparison, thumbnails=False, drawn={})


@pytest.fixture
def moved(quality, tmp_path):
    """A cache without facts, as of an earlier version, and a copy of its images."""
    shutil.copytree(quality.provenance["image_root"], tmp_path / "images")
    files = replace(quality.table.files, facts=np.zeros((0, FACT_BYTES), np.uint8))
    provenance = quality.provenance | {"image_root": str(tmp_path / "images")}
    return replace(quality.table, files=files, provenance=provenance)


def test_stored_facts_serve_without_the_images(quality, moved):
    without = replace(quality.table, provenance=quality.provenance | {"image_root": "/gone"})
    stored = eo.compare(eo.FeatureCache(without), ["logreg"], split="random").shortcuts
    read = eo.compare(eo.FeatureCache(moved), ["logreg"], split="random").shortcuts
    assert not stored.left_out
    assert {row.family for row in stored.scores} >= {TABLES, "mean colour"}
    scores = {row.family: row.score for row in stored.scores}
    of_both = [row for row in read.scores if row.family in scores]
    assert len(of_both) > 2
    assert all(scores[row.family] == row.score for row in of_both)


def test_images_that_are_gone_leave_size_and_thumbnails(moved):
    shutil.rmtree(moved.provenance["image_root"])
    comparison = eo.compare(eo.FeatureCache(moved), ["logreg"], split="random")
    assert set(_families(comparison)) == {"file size", "border", "mean brightness", "8 x 8 thumbnail"}
    assert "only their sizes and suffixes are known: the images are gone" in comparison.shortcuts.left_out[0]


def test_a_changed_image_is_not_read(moved):
    path = next(Path(moved.provenance["image_root"]).glob("*/7.jpg"))
    path.write_bytes(path.read_bytes() + b"more")
    comparison = eo.compare(eo.FeatureCache(moved), ["logreg"], split="random")
    assert TABLES not in _families(comparison)
    assert "changed" in comparison.shortcuts.left_out[0]


def test_an_archive_gives_what_its_folder_gives(moved):
    root = Path(moved.provenance["image_root"])
    of_folder = eo.compare(eo.FeatureCache(moved), ["logreg"], split="random").shortcuts
    with zipfile.ZipFile(f"{root}.zip", "w") as archive:
        for path in sorted(root.glob("*/*")):
            archive.write(path, path.relative_to(root))
    shutil.rmtree(root)
    moved.provenance["image_root"] = f"{root}.zip"
    comparison = eo.compare(eo.FeatureCache(moved), ["logreg"], split="random")
    assert comparison.shortcuts.scores == of_folder.scores
