from __future__ import annotations

import io
from pathlib import Path

import embedonce as eo
import numpy as np
import pytest
from embedonce.errors import FingerprintError, HeadError, ParameterError, SplitError
from PIL import Image


def features(generator, labels, shift=0.0):
    X = generator.normal(size=(len(labels), 8))
    X[:, 0] += 4 * (np.asarray(labels) == "birch") + shift
    return X


def made(seed, n=60, shift=0.0, labels=None, **others):
    labels = ["ash", "birch"] * (n // 2) if labels is None else labels
    return eo.FeatureCache.from_arrays(features(np.random.default_rng(seed), labels, shift), labels, **others)


def compared(cache, external, **options):
    return eo.compare(cache, ["logreg", "knn"], split="random", external=external, **options)


def test_shifted_images_score_less_and_equal_ones_do_not():
    comparison = compared(made(0, 300), [made(1, 200), made(2, 200, shift=3.0)])
    same, shifted = comparison.external
    assert [row.head for row in same.scores] == [result.name for result in comparison.table]
    assert same.scores[0].difference_low <= 0 <= same.scores[0].difference_high
    assert same.scores[0].p > 0.05 > shifted.scores[0].p
    assert shifted.scores[0].difference_high < 0
    assert "not a significant difference" in same.sentences[0]
    assert shifted.unlike_training > same.unlike_training
    assert [entry["images"] for entry in comparison.to_dict()["external"]] == [200, 200]


def test_classes_are_matched_by_name_and_others_are_counted():
    labels = ["birch", "Esche", "oak"] * 20
    (external,) = compared(made(0), made(1, labels=labels), external_classes={"Esche": "ash"}).external
    assert external.images == 40
    assert external.left_out == {"oak": 20}
    assert "20 images of other classes are left out: oak 20." in external.sentences
    assert np.shape(external.results[0].scores["confusion"]) == (2, 2)


def test_a_file_maps_classes(tmp_path):
    path = tmp_path / "names.csv"
    path.write_text("external,class\nEsche,ash\n")
    (external,) = compared(made(0), made(1, labels=["Esche"] * 20), external_classes=path).external
    assert external.fractions["ash"] == pytest.approx((0.5, 1.0), abs=0.1)
    assert any("other frequencies" in text for text in external.sentences)


def test_external_caches_that_do_not_fit_are_errors():
    with pytest.raises(HeadError, match="must have some of the classes ash, birch, got .in memory. with oak"):
        compared(made(0), made(1, labels=["oak"] * 20))
    with pytest.raises(FingerprintError):
        compared(made(0), made(1, fingerprint={"backbone": "other"}))
    with pytest.raises(
        ParameterError, match="external_classes of compare must lead to the classes ash, birch, got oak"
    ):
        compared(made(0), made(1), external_classes={"Esche": "oak"})
    with pytest.raises(ParameterError, match="parameter external of compare must be caches"):
        compared(made(0), {"a": 1})
    with pytest.raises(SplitError, match="2 to 50 values, got @site with 1"):
        compared(made(0, metadata={"site": ["a"] * 60}), "@site")


def test_every_site_is_tested_by_heads_of_the_others():
    sites = np.repeat(["north", "south", ""], [40, 40, 20])
    comparison = compared(made(0, 100, metadata={"site": sites}), "@site")
    assert [one.name for one in comparison.external] == ["site north", "site south"]
    assert [one.images for one in comparison.external] == [40, 40]


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory, images, draw, small):
    """A cache of 8 training images, saved again, and 12 others."""
    folder = tmp_path_factory.mktemp("elsewhere")
    for kind, name in enumerate(("ash", "birch", "cedar")):
        (folder / "images" / name).mkdir(parents=True)
        for number in range(4):
            draw(kind, 100 + number).save(folder / "images" / name / f"new{number}.png")
    for path in sorted(images.glob("ash/*.png"))[:6]:
        buffer = io.BytesIO()
        Image.open(path).save(buffer, "JPEG", quality=80)
        (folder / "images" / "ash" / f"{path.stem}.jpg").write_bytes(buffer.getvalue())
    return eo.extract_features(folder / "images", folder / "elsewhere.h5", **small)


def test_near_duplicates_of_training_images_are_left_out(cache, elsewhere):
    test = np.arange(len(cache))[7::2]
    split = eo.Split(np.setdiff1d(np.arange(len(cache)), test), test)
    comparison = eo.compare(cache, ["logreg"], split=split, external=elsewhere)
    (external,) = comparison.external
    trained = {cache.paths[row] for row in split.train}
    again = [Path(path).stem for path in elsewhere.paths if path.endswith(".jpg")]
    expected = sum(f"ash/{stem}.png" in trained for stem in again)
    assert 0 < expected == external.near_duplicates
    assert len(external.results[0].predicted) == external.images - expected
    assert len(external.of_all[0].predicted) == external.images
