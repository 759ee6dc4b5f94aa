from __future__ import annotations

import pytest
from embedonce import FeatureCache, compare, extract_features, label, train, verify
from embedonce.cli.output import print_comparison
from embedonce.errors import ParameterError
from embedonce.evaluate.report.html import summary
from embedonce.extract.labels import folder_labels
from embedonce.extract.scan import ImageFile, Scan

TINY = {"weights": "random:0", "alpha": 0.35, "image_size": 32}


def scan_of(tmp_path, *paths):
    return Scan(tmp_path, [ImageFile(path.encode(), 1, 1) for path in sorted(paths)])


def given(scan):
    """Return part and class of every image if the folders are a split, otherwise None."""
    labels = folder_labels(scan)
    if not labels.source.get("given_split"):
        return None
    paths = [image.path for image in scan.images]
    return {path.decode(): (labels.columns["split"][path], labels.names.get(path)) for path in paths}


@pytest.fixture(scope="module")
def folder(tmp_path_factory, draw):
    """Folders of a split, with one test image that is also in training."""
    root = tmp_path_factory.mktemp("given") / "photos"
    for part, count in (("train", 8), ("Valid", 3), ("test", 6)):
        for kind, name in enumerate(("ash", "birch")):
            (root / part / name).mkdir(parents=True)
            for number in range(count):
                draw(kind, 100 * len(part) + number, 64, 64).save(root / part / name / f"{number}.png")
    (root / "test" / "ash" / "copy.png").write_bytes((root / "train" / "ash" / "0.png").read_bytes())
    return root


@pytest.fixture(scope="module")
def cache(folder, tmp_path_factory):
    return extract_features(folder, tmp_path_factory.mktemp("given") / "a.h5", **TINY)


def test_folders_of_a_split_are_read_as_one(tmp_path):
    assert given(scan_of(tmp_path, "train/a/1.png", "train/b/c/2.png", "TEST/a/3.png")) == {
        "train/a/1.png": ("train", b"a"),
        "train/b/c/2.png": ("train", b"b"),
        "TEST/a/3.png": ("test", b"a"),
    }
    flat_test = scan_of(tmp_path, "training/a/1.png", "training/b/2.png", "validation/a/3.png", "test/4.png")
    assert given(flat_test)["test/4.png"] == ("test", None)


@pytest.mark.parametrize(
    "paths",
    [
        ["train/a/1.png", "train/b/1.png", "test/c/1.png"],
        ["train/a/1.png", "train/b/1.png", "bus/a/1.png"],
        ["train/a/1.png", "test/a/1.png"],
        ["train/1.png", "test/1.png"],
        ["val/a/1.png", "val/b/1.png", "test/a/1.png"],
        ["train/a/1.png", "train/b/1.png", "val/a/1.png", "valid/b/1.png"],
    ],
    ids=["other classes", "another folder", "one class", "no classes", "no train", "a part twice"],
)
def test_other_folders_are_classes(tmp_path, paths):
    scan = scan_of(tmp_path, *paths)
    assert given(scan) is None
    assert scan.class_names == sorted({path.split("/")[0].encode() for path in paths})


def test_the_split_is_said_and_stored(cache, folder):
    assert cache.class_names == ["ash", "birch"]
    assert cache.report.notes[0] == (
        "the folders are a given split (train 16, val 6, test 13 images) of 2 classes (ash, birch). compare and train "
        "use it. If they are classes, use --layout classes"
    )
    assert set(cache.metadata["split"]) == {"train", "val", "test"}
    assert not extract_features(folder, cache.path, **TINY).report.published
    assert verify(cache.path, folder).ok


def test_compare_uses_the_split_and_shows_its_leakage(cache, capsys):
    comparison = compare(cache.path, ["logreg"])
    assert comparison.split.method == "given"
    assert (len(comparison.split.train), len(comparison.split.test), len(comparison.split.validation)) == (16, 13, 6)
    assert comparison.leaky is None
    assert comparison.split.groups["crossing"] >= 1
    assert comparison.grouped.split.method == "grouped"
    assert comparison.grouped.split.groups["crossing"] == 0
    (gap,) = comparison.leakage_gap
    assert gap.leaky == comparison.result("logreg").scores["accuracy"]
    assert gap.grouped == comparison.grouped.result("logreg").scores["accuracy"]
    assert comparison.gap_table().titles[1:3] == ["given split", "grouped split"]
    results = comparison.to_dict()
    assert results["grouped"]["split"]["method"] == "grouped"
    assert "The given split " in " ".join(summary(comparison))
    print_comparison(comparison)
    assert "The scores above are those of the given split." in capsys.readouterr().out


def test_train_tests_on_the_given_test_part(cache, tmp_path):
    model = train(cache.path, "softmax", tmp_path / "m.npz")
    assert len(model.result.predicted) == 13


def test_without_labelled_test_images_val_is_tested(folder, tmp_path, draw):
    photos = tmp_path / "photos"
    for path in folder.glob("[tV]*/*/*.png"):
        name = path.relative_to(folder)
        target = photos / ("test/" + path.name if name.parts[0] == "test" else str(name))
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(path.read_bytes())
    cache = extract_features(photos, tmp_path / "a.h5", **TINY)
    comparison = compare(cache, ["logreg"])
    assert len(comparison.split.test) == 6
    assert not len(comparison.split.validation)
    assert any(note.endswith("images have no label and are left out") for note in comparison.notes)


def test_the_split_outlives_changed_labels(folder, tmp_path):
    extract_features(folder, tmp_path / "a.h5", **TINY)
    label(tmp_path / "a.h5", {"train/ash/1.png": "birch"})
    assert compare(tmp_path / "a.h5", ["logreg"]).split.method == "given"
    cache = extract_features(folder, tmp_path / "a.h5", **TINY)
    assert not cache.report.published


def test_folders_of_a_split_can_be_classes(folder, tmp_path):
    cache = extract_features(folder, tmp_path / "a.h5", layout="classes", **TINY)
    assert cache.class_names == ["Valid", "test", "train"]
    assert not cache.metadata
    assert FeatureCache.open(extract_features(folder, tmp_path / "a.h5", **TINY).path).class_names == cache.class_names
    with pytest.raises(ParameterError, match="layout of extract_features is for labels by folders, got 'classes' with"):
        extract_features(folder, tmp_path / "a.h5", layout="classes", labels={"a": "b"}, **TINY)
    with pytest.raises(ParameterError, match="layout of extract_features must be one of auto, classes"):
        extract_features(folder, tmp_path / "a.h5", layout="train", **TINY)
