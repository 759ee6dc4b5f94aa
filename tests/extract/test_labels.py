from __future__ import annotations

import csv
import json
import os
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from embedonce import FeatureCache, convert, extract_features, info, label
from embedonce.cli import main
from embedonce.errors import LabelsError, MissingPackageError, ParameterError
from embedonce.extract.labels import pattern_labels, table_labels
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

TINY = {"weights": "random:0", "alpha": 0.35, "image_size": 32}
NAMES = ["ash_1.jpg", "ash_2.png", "birch_1.jpg", "birch_2.png", "cedar_1.jpg", "cedar_2.png"]


@pytest.fixture(scope="module")
def flat(tmp_path_factory, draw):
    """A folder of images without class folders."""
    folder = tmp_path_factory.mktemp("flat") / "images"
    folder.mkdir()
    for number, name in enumerate(NAMES):
        draw(number // 2, number, 40, 40).save(folder / name)
    return folder


@pytest.fixture
def table(tmp_path):
    """Return a function that writes a table with a header."""

    def write(text, name="labels.csv", encoding="utf-8"):
        (tmp_path / name).write_bytes(text.encode(encoding))
        return tmp_path / name

    return write


def labels_of(source, paths, *columns):
    """Return the names of the classes of images, None without a label."""
    found = table_labels(source, [os.fsencode(path) for path in paths], *columns)
    return [found.names.get(os.fsencode(path), b"-").decode() for path in paths]


def never(*args, **options):
    raise AssertionError("an engine was made")


def test_labels_of_a_table_need_no_class_folders(flat, table, tmp_path):
    rows = "".join(f"{name[:-4]},{name[:-6]},{number}\n" for number, name in enumerate(NAMES))
    cache = extract_features(flat, tmp_path / "a.h5", labels=table(f"id,label,age\n{rows}"), **TINY)
    assert cache.class_counts == {"ash": 2, "birch": 2, "cedar": 2}
    assert cache.metadata["age"].tolist() == list("012345")
    assert cache.report.notes[0].startswith("6 of 6 images have the labels of ")
    assert cache.report.notes[0].endswith("paths from the column id, labels from label, metadata from age")
    again = FeatureCache.open(tmp_path / "a.h5")
    assert (again.labels.tolist(), again.paths) == (cache.labels.tolist(), NAMES)


@pytest.mark.parametrize(
    ("header", "delimiter"), [("image,target", ","), ("FileName;Class", ";"), ("path\tcategory", "\t"), ("id,dx", ",")]
)
def test_columns_and_delimiters_are_found(table, header, delimiter):
    rows = "".join(f"{name}{delimiter}{name[:3]}\n" for name in NAMES)
    assert labels_of(table(f"{header}\n{rows}"), NAMES) == [name[:3] for name in NAMES]


@pytest.mark.parametrize(
    ("paths", "rows"),
    [
        (["a/1.jpg", "b/1.jpg"], ["a/1.jpg", "b/1.jpg"]),
        (["train/a/1.jpg", "train/b/1.jpg"], ["a/1.jpg", "b/1.jpg"]),
        (["a/1.jpg", "b/1.jpg"], ["data/train/a/1.jpg", "data/train/b/1.jpg"]),
        (["x/1.jpg", "x/2.jpg"], ["1.jpg", "2.jpg"]),
        (["x/1.jpg", "x/2.jpg"], ["1", "2"]),
        (["x/a/1.jpg", "x/b/1.jpg"], ["a/1", "b/1"]),
        (["1.2.840.1", "1.2.840.2"], ["1.2.840.1", "1.2.840.2"]),
        (["x/é.jpg", "x/2.jpg"], ["e\u0301.jpg", "2.jpg"]),
        (["x/a.jpg", "x/b.jpg"], [r"x\a.jpg", " x/b.jpg "]),
    ],
    ids=["paths", "longer paths", "longer rows", "names", "stems", "ends of stems", "UID", "Unicode", "Windows"],
)
def test_rows_match_by_path_then_name_then_stem(table, paths, rows):
    text = "id,label\n" + "".join(f"{row},{kind}\n" for row, kind in zip(rows, "pq", strict=True))
    assert labels_of(table(text), paths) == ["p", "q"]


def test_a_row_of_a_known_folder_is_no_other_image(table):
    text = "id,label\ncat/1.jpg,x\ncat/9.jpg,y\n"
    found = table_labels(table(text), [b"cat/1.jpg", b"dog/9.jpg"])
    assert found.names == {b"cat/1.jpg": b"x"}
    assert "1 of 2 rows of" in found.notes[1]
    assert "name no image and are left out: cat/9.jpg" in found.notes[1]


def test_ambiguous_names_are_listed(table):
    text = "id,label\n1,x\n2,y\n"
    with pytest.raises(LabelsError, match=r"not tell the image of 1 name, .*: 1 \(a/1.jpg, b/1.jpg\)\. Write"):
        table_labels(table(text), [b"a/1.jpg", b"b/1.jpg", b"a/2.jpg"])


def test_rows_that_differ_for_one_image_are_refused(table):
    same = table("id,label\n1,x\n1,x\n2,y\n")
    assert labels_of(same, ["1.jpg", "2.jpg"]) == ["x", "y"]
    with pytest.raises(LabelsError, match=r"one row for each image, got rows that differ for 1 image, such as row 3"):
        table_labels(table("id,label\n1,x\n1,y\n"), [b"1.jpg", b"2.jpg"])


def test_images_and_rows_without_a_partner_are_said(flat, table, tmp_path):
    text = "id,label\n" + "".join(f"{name},{name[:3]}\n" for name in NAMES[1:5]) + "gone.jpg,ash\nlost.jpg,\n"
    cache = extract_features(flat, tmp_path / "a.h5", labels=table(text), **TINY)
    assert cache.labels.tolist() == [-1, 0, 1, 1, 2, -1]
    assert "2 of 6 rows of" in cache.report.notes[1]
    assert cache.report.notes[1].endswith("name no image and are left out: gone.jpg, lost.jpg")
    assert "2 of 6 images have no label in" in cache.report.notes[2]
    assert cache.report.notes[2].endswith(": ash_1.jpg, cedar_2.png")


@pytest.mark.parametrize(
    ("text", "columns", "message"),
    [
        ("", (), "must be a table with a column of paths and one of labels, got no columns"),
        ("label\nx\n", (), "must be a table with a column of paths and one of labels, got label"),
        ("id,label\n1.jpg,\n2.jpg,nan\n", (), "the column label of .* must hold labels, but all its fields are empty"),
        ("id,label\n8.jpg,x\n9.jpg,y\n", (), r"must name images in the column id, but none of its 2 rows does: 8.jpg"),
        (
            "id,a,b\n1.jpg,x,y\n",
            (),
            r"must have one column of labels \(label, .*\), got id, a, b. Name it with --label",
        ),
        ("id,label,class\n1.jpg,x,y\n", (), "must have one column of labels .*, got label, class. Name it"),
        ("a,label\nx,y\n", (), "must have one column with the paths of images, got a, label. Name it with --path-col"),
        ("id,label\n1.jpg,x\n", ("name", None), "must have one column name|must be a column of .*, got 'name'"),
        ("id,label\n1.jpg,x\n", (None, "dx"), "must be a column of .*, got 'dx'. Its columns are id, label"),
        ("id,id,label\n1.jpg,1,x\n", (), "must name every column once, got 'id' twice"),
        ("id,label\n1.jpg,x,y\n", (), "line 2: a row must have at most the 2 fields of the header, got 3"),
        ("id,label\n1.jpg,\0\n", (), "cannot read the table of labels .*: it is not a text file"),
    ],
)
def test_tables_that_are_none_are_refused_in_one_line(table, text, columns, message):
    with pytest.raises(LabelsError, match=message) as caught:
        table_labels(table(text), [b"1.jpg", b"2.jpg"], *columns)
    assert "\n" not in str(caught.value)


def test_a_missing_table_costs_nothing(flat, tmp_path):
    cache = extract_features(flat, tmp_path / "a.h5", label_pattern=r"(?P<label>[a-z]+)_\d", **TINY)
    before = (tmp_path / "a.h5").read_bytes()
    for command in (["extract", str(flat)], ["label"]):
        arguments = [*command, str(tmp_path / "a.h5"), "--labels", str(tmp_path / "none.csv")]
        options = ["--weights", "random:0", "--alpha", "0.35", "--image-size", "32"] if command[0] == "extract" else []
        done = CliRunner().invoke(main, arguments + options)
        assert done.exit_code == 2
        assert re.fullmatch(r"Error: cannot read the table of labels \S+none.csv: .*No such file.*\n", done.stderr)
    assert (tmp_path / "a.h5").read_bytes() == before
    assert cache.class_names == ["ash", "birch", "cedar"]


def test_a_pattern_takes_labels_from_names(flat):
    paths = [b"x/ash_1.jpg", b"y/birch_22.png"]
    assert pattern_labels(r"(?P<label>[a-z]+)_\d+", paths).names == {paths[0]: b"ash", paths[1]: b"birch"}
    assert pattern_labels(r"^(?P<label>[a-z])/", paths).names == {paths[0]: b"x", paths[1]: b"y"}
    found = pattern_labels(r"(?P<label>ash)_", paths)
    assert found.notes == ["1 of 2 images have no label in (?P<label>ash)_: y/birch_22.png"]
    for pattern, message in (("(", "must be a regular expression"), (r"(a)_\d", r"one named group, \(\?P<label>...\)")):
        with pytest.raises(ParameterError, match=message):
            pattern_labels(pattern, paths)
    with pytest.raises(LabelsError, match="must match the names of images, got none of 2: x/ash_1.jpg"):
        pattern_labels("(?P<label>oak)", paths)


def test_parameters_that_exclude_each_other_are_refused(tmp_path):
    with pytest.raises(ParameterError, match="labels and label_pattern of label exclude each other"):
        label(tmp_path / "a.h5", {"a": "b"}, label_pattern="(?P<label>.)")
    with pytest.raises(ParameterError, match="path_column of label must be the name of a column .* without labels"):
        label(tmp_path / "a.h5", path_column="id")
    with pytest.raises(ParameterError, match="labels of label must be given"):
        label(tmp_path / "a.h5")
    with pytest.raises(ParameterError, match="a data frame or a mapping from path to label, got 3"):
        table_labels(3, [b"1.jpg"])


def test_frames_and_mappings_are_tables(tmp_path):
    paths = ["1.jpg", "2.jpg"]
    assert labels_of({"1": "x", "2.jpg": 5}, paths) == ["x", "5"]
    for library in ("pandas", "polars"):
        frames = pytest.importorskip(library)
        assert labels_of(frames.DataFrame({"id": [2, 1], "label": ["x", None]}), paths) == ["-", "x"]
    pandas = pytest.importorskip("pandas")
    assert labels_of(pandas.DataFrame({"label": ["x", "y"], "age": [1, 2]}, index=paths), paths) == ["x", "y"]
    twice = pandas.DataFrame([["1.jpg", "x", "y"]], columns=["id", "label", "label"])
    with pytest.raises(LabelsError, match="must name every column once, got 'label' twice"):
        labels_of(twice, paths)


def test_parquet_files_are_tables(tmp_path, monkeypatch):
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    table = arrow.table({"id": ["1", "2"], "label": ["x", None], "dose": [0.5, 2.0]})
    parquet.write_table(table, tmp_path / "a.parquet")
    found = table_labels(tmp_path / "a.parquet", [b"1.jpg", b"2.jpg"])
    assert (found.names, found.columns) == ({b"1.jpg": b"x"}, {"dose": {b"1.jpg": "0.5", b"2.jpg": "2.0"}})
    monkeypatch.setattr("embedonce.extract.labels._MOST_CELLS", 5)
    with pytest.raises(LabelsError, match="must have at most 5 cells, got 6"):
        table_labels(tmp_path / "a.parquet", [b"1.jpg"])
    (tmp_path / "b.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(LabelsError, match="cannot read the table of labels .*b.parquet"):
        table_labels(tmp_path / "b.parquet", [b"1.jpg"])
    monkeypatch.setitem(__import__("sys").modules, "pyarrow.parquet", None)
    with pytest.raises(MissingPackageError, match="pip install pyarrow"):
        table_labels(tmp_path / "a.parquet", [b"1.jpg"])


def test_images_without_class_folders_have_no_labels(flat, tmp_path):
    cache = extract_features(flat, tmp_path / "a.h5", **TINY)
    assert (cache.labels.tolist(), cache.class_names) == ([-1] * 6, [])
    assert cache.report.notes == [
        "6 images are not in class folders and have no label. Give labels with --labels FILE, or later with: "
        "embedonce label CACHE --labels FILE"
    ]
    again = extract_features(flat, tmp_path / "a.h5", **TINY)
    assert not again.report.published


def test_labels_change_without_a_forward_pass(flat, tmp_path, monkeypatch):
    first = extract_features(flat, tmp_path / "a.h5", **TINY)
    monkeypatch.setattr("embedonce.extract.run.make_engine", never)
    cache = label(tmp_path / "a.h5", {name: name[:3] for name in NAMES})
    assert cache.class_names == ["ash", "bir", "ced"]
    np.testing.assert_array_equal(cache.features, first.features)
    np.testing.assert_array_equal(cache.signatures, first.signatures)
    assert not label(tmp_path / "a.h5", {name: name[:3] for name in NAMES}).report.published
    by_run = extract_features(flat, tmp_path / "a.h5", labels={name: name[:4] for name in NAMES}, **TINY)
    assert by_run.report.published
    assert by_run.class_names == ["ash_", "birc", "ceda"]


def test_images_that_a_table_does_not_name_keep_labels(flat, table, tmp_path):
    extract_features(
        flat, tmp_path / "a.h5", labels=table("id,label,age\n" + "".join(f"{n},x,1\n" for n in NAMES)), **TINY
    )
    suspects = "path,label,suggested,p_label,p_suggested,group\nash_1.jpg,y,y,0.1,0.9,3\n"
    cache = label(tmp_path / "a.h5", table(suspects, "suspects.csv"))
    assert cache.label_names.tolist() == ["y", "x", "x", "x", "x", "x"]
    assert {name: column.tolist() for name, column in cache.metadata.items()} == {"age": ["1"] * 6}
    assert cache.report.notes[-1] == (
        "compare, train and tune need at least 2 images in every class, but y has 1. Add images or remove the class "
        "folder, then run embedonce extract again"
    )
    assert "5 of 6 images are not in it and keep their labels" in cache.report.notes


def test_stored_labels_outlive_the_next_run(flat, draw, table, tmp_path):
    images = tmp_path / "images"
    images.mkdir()
    for name in NAMES[:4]:
        (images / name).write_bytes((flat / name).read_bytes())
    text = "id,label,site\n" + "".join(f"{name},{name[:3]},s{name[-5]}\n" for name in NAMES[:4])
    extract_features(images, tmp_path / "a.h5", labels=table(text), **TINY)
    draw(2, 9, 40, 40).save(images / "new.png")
    cache = extract_features(images, tmp_path / "a.h5", **TINY)
    assert cache.label_names.tolist() == ["ash", "ash", "bir", "bir", ""]
    assert cache.metadata["site"].tolist() == ["s1", "s2", "s1", "s2", ""]
    assert re.search(
        r"4 images keep the labels of \S+labels.csv, 1 new images have no label: new.png", cache.report.notes[0]
    )


def test_metadata_without_a_label_outlive_the_next_run(flat, table, tmp_path):
    text = "id,label,site\n" + "".join(f"{name},{name[:3] if name > 'b' else ''},s\n" for name in NAMES)
    extract_features(flat, tmp_path / "a.h5", labels=table(text), **TINY)
    cache = extract_features(flat, tmp_path / "a.h5", **TINY)
    assert not cache.report.published
    assert cache.label_names.tolist() == ["", "", "bir", "bir", "ced", "ced"]
    assert cache.metadata["site"].tolist() == ["s"] * 6


def test_edited_labels_outlive_the_next_run(make_images, tmp_path):
    images = make_images(tmp_path / "images", per_class=2)
    extract_features(images, tmp_path / "a.h5", **TINY)
    label(tmp_path / "a.h5", {"ash/000.jpg": "cedar"})
    (images / "ash" / "001.png").rename(images / "birch" / "moved.png")
    cache = extract_features(images, tmp_path / "a.h5", **TINY)
    assert cache.report.embedded == 0
    assert dict(zip(cache.paths, cache.label_names.tolist(), strict=True))["ash/000.jpg"] == "cedar"
    assert dict(zip(cache.paths, cache.label_names.tolist(), strict=True))["birch/moved.png"] == "birch"


def test_shards_and_views_are_labelled_alike(flat, tmp_path, monkeypatch):
    monkeypatch.setattr("embedonce.extract.run.SHARD_ROWS", 2)
    first = extract_features(flat, tmp_path / "a.cache", views="flips", **TINY)
    cache = label(tmp_path / "a.cache", {name: name[:3] for name in NAMES})
    assert cache.label_names.tolist() == [name[:3] for name in NAMES]
    np.testing.assert_array_equal(cache.features, first.features)
    view = FeatureCache.open(tmp_path / "a.views" / "flip-left-right.cache")
    assert view.label_names.tolist() == [name[:3] for name in NAMES]
    again = extract_features(flat, tmp_path / "a.cache", labels=dict.fromkeys(NAMES, "x"), **TINY)
    assert (again.class_names, again.report.embedded) == (["x"], 0)


def test_metadata_are_groups_and_splits(flat, table, tmp_path):
    from embedonce import compare

    rows = "".join(
        f"{name},{name[:3]},p{number % 2},{'train' if number % 2 else 'test'}\n" for number, name in enumerate(NAMES)
    )
    extract_features(flat, tmp_path / "a.h5", labels=table(f"id,label,patient,part\n{rows}"), **TINY)
    done = CliRunner().invoke(
        main,
        [
            "compare",
            str(tmp_path / "a.h5"),
            "--heads",
            "logreg",
            "--split",
            "@part",
            "--groups",
            "@patient",
            "--json",
            "-o",
            str(tmp_path / "out"),
        ],
    )
    assert done.exit_code == 0, done.output
    result = json.loads(done.stdout)
    assert result["split"]["groups"]["groups"] == 2
    with pytest.raises(
        ValueError, match="@site must be a column of metadata of .*, but it has patient, part. Add columns"
    ):
        compare(tmp_path / "a.h5", ["logreg"], split="@site")


def test_commands_that_need_labels_say_how_to_add_them(flat, tmp_path):
    extract_features(flat, tmp_path / "a.h5", **TINY)
    for command in (
        ["compare", "-o", str(tmp_path / "out")],
        ["tune", "--head", "knn", "-o", str(tmp_path / "out")],
        ["train", "--head", "knn", "-o", str(tmp_path / "m.npz")],
    ):
        done = CliRunner().invoke(main, [command[0], str(tmp_path / "a.h5"), *command[1:]])
        assert done.exit_code == 2, done.output
        assert re.search(
            rf"(?m)^Error: \S+a.h5 has no labels, which {command[0]} needs. Add them with: embedonce label CACHE --labels FILE\n$",
            done.stderr,
        )


def test_images_without_labels_do_not_stop_a_comparison(images, small, tmp_path):
    cache = extract_features(images, tmp_path / "a.h5", **small)
    from embedonce import compare

    names = cache.label_names.astype(object)
    some = cache.with_labels(
        [cache.class_names.index(name) if row % 5 else -1 for row, name in enumerate(names)], cache.class_names
    )
    comparison = compare(some, ["knn"], split="random")
    assert len(comparison.cache) == len(cache) - 15
    assert "15 images have no label and are left out" in comparison.notes
    assert comparison.to_dict()["cache"]["unlabelled"] == 15


@pytest.mark.parametrize("name", ["cache-v1.h5", "cache-v2.h5", "cache-v1.cache", "cache-v2.cache"])
def test_caches_of_older_versions_are_labelled_and_converted(tmp_path, name):
    source = Path(__file__).parents[1] / "data" / name
    if source.is_dir():
        shutil.copytree(source, tmp_path / name)
    else:
        shutil.copy(source, tmp_path / name)
    before = FeatureCache.open(tmp_path / name)
    cache = label(tmp_path / name, {before.paths[0]: "new"})
    assert cache.label_names[0] == "new"
    np.testing.assert_array_equal(cache.features, before.features)
    assert (cache.signatures is None) == (before.signatures is None)
    assert cache.rejects == before.rejects
    convert(cache, tmp_path / "a.csv")
    with open(tmp_path / "a.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["class_name"] for row in rows] == cache.label_names.tolist()
    assert np.float32(rows[0]["feature_0"]) == cache.features[0, 0]


def test_the_origin_of_labels_is_shown(flat, table, tmp_path):
    text = "id,label,age\n" + "".join(f"{name},x,1\n" for name in NAMES[1:])
    extract_features(flat, tmp_path / "a.h5", labels=table(text), **TINY)
    shown = str(info(tmp_path / "a.h5"))
    assert re.search(r"(?m)^labels +table, \S+labels.csv$", shown)
    assert re.search(r"(?m)^without label +1$", shown)
    assert re.search(r"(?m)^metadata +age \(1 values\)$", shown)


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.one_of(st.binary(max_size=200), st.text(alphabet='id,label;\t\n"\r\0é1.jpg|=', max_size=200).map(str.encode)))
def test_any_bytes_are_a_table_or_one_line(tmp_path, content):
    for name in ("a.csv", "a.parquet"):
        (tmp_path / name).write_bytes(content)
        try:
            found = table_labels(tmp_path / name, [b"1.jpg", b"id.jpg"])
        except LabelsError as error:
            assert len(str(error).splitlines()) == 1
        else:
            assert set(found.names) <= {b"1.jpg", b"id.jpg"}
