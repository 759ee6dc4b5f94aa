"""Groups of near-duplicates: found in a cache, stored next to it, and used by a comparison."""

from __future__ import annotations

import csv
import itertools
import json
import shutil

import embedonce
import numpy as np
import photographs
import pytest
from embedonce.cache import FeatureCache
from embedonce.cli.output import print_groups
from embedonce.errors import GroupsError, SplitError
from embedonce.evaluate.comparison.run import compare
from embedonce.evaluate.duplicates import pair_tests, stored_search
from embedonce.evaluate.duplicates.contact_sheets import save_group_sheets
from embedonce.evaluate.duplicates.find import find_groups, groups_for, groups_path, load_or_find_groups
from embedonce.evaluate.duplicates.gray_images import pictures_of
from embedonce.evaluate.duplicates.signatures import signatures_of
from embedonce.evaluate.shared import plots
from PIL import Image
from saving import without_pictures
from textures import texture, variants


def write(picture, path):
    path.parent.mkdir(parents=True, exist_ok=True)
    gray = np.asarray(picture).round().clip(0, 255).astype(np.uint8)
    Image.fromarray(np.repeat(gray[..., None], 3, axis=2)).save(path)


@pytest.fixture(scope="module")
def image_folder(tmp_path_factory):
    """Two classes of six originals each, all with seven near-duplicates."""
    folder = tmp_path_factory.mktemp("variants") / "images"
    for number in range(12):
        name = ("coarse", "fine")[number % 2]
        versions = [texture(number), *variants(texture(number), number)]
        del versions[6]  # a crop from a corner; with random weights it is not always among the nearest
        for version, picture in enumerate(versions):
            write(picture, folder / name / f"o{number:02d}_{version}.png")
    return folder


@pytest.fixture(scope="module")
def grouped_path(tmp_path_factory, image_folder, small):
    path = tmp_path_factory.mktemp("variants") / "grouped.h5"
    embedonce.extract_features(image_folder, path, **(small | {"image_size": 96}))
    return path


@pytest.fixture
def grouped(grouped_path, tmp_path):
    path = tmp_path / "grouped.h5"
    path.write_bytes(grouped_path.read_bytes())
    with FeatureCache.open(path) as cache:
        yield cache


def originals(cache):
    return [path.split("/")[1][:3] for path in cache.paths]


@pytest.fixture(scope="module")
def found(grouped_path):
    """The groups of ``grouped_path``."""
    with FeatureCache.open(grouped_path) as cache:
        yield find_groups(cache)


@pytest.fixture(scope="module")
def conflict(tmp_path_factory, small):
    """A cache of four images, of which two of different classes are identical, and its groups."""
    folder = tmp_path_factory.mktemp("conflict")
    for number, name in ((0, "coarse"), (0, "fine"), (1, "fine"), (2, "coarse")):
        write(texture(number), folder / "images" / name / f"{number}.png")
    cache = embedonce.extract_features(folder / "images", folder / "c.h5", **small)
    return cache, find_groups(cache)


def test_originals_stay_apart_and_nearly_all_variants_join(grouped, found):
    group_of_original: dict[str, set[str]] = {}
    for original, group in zip(originals(grouped), found.groups.names, strict=True):
        group_of_original.setdefault(group, set()).add(original)
    assert all(len(members) == 1 for members in group_of_original.values())
    largest = {originals(grouped)[rows[0]]: len(rows) for rows in reversed(found.members)}
    assert sum(largest.values()) >= 0.95 * len(grouped)
    assert found.label_conflicts == []
    assert f"{len(found.members)} groups of several images among 96 images" in repr(found)


def test_signatures_are_made_from_images_if_missing(grouped, image_folder, tmp_path, monkeypatch):
    stored = np.array(grouped.signatures)
    monkeypatch.setattr(FeatureCache, "signatures", None)
    np.testing.assert_array_equal(signatures_of(grouped), stored)
    monkeypatch.setitem(grouped.provenance, "image_root", str(tmp_path / "moved away"))
    np.testing.assert_array_equal(signatures_of(grouped, image_folder), stored)
    with pytest.raises(GroupsError, match=r"has no signatures, and 96 of its 96 images are gone .* --images"):
        find_groups(grouped)


def test_near_duplicates_of_different_labels_are_conflicts(conflict):
    cache, found = conflict
    assert [sorted(cache.paths[row] for row in rows) for rows in found.label_conflicts] == [
        ["coarse/0.png", "fine/0.png"]
    ]
    assert "<td>coarse/0.png</td><td>2</td><td>1 coarse, 1 fine</td>" in found._repr_html_()
    assert len(find_groups(cache, within_class=True).groups) == 4


@pytest.fixture(scope="module")
def photograph_cache(tmp_path_factory, small):
    """A cache of tiles of a photograph with five near-duplicates each."""
    folder = tmp_path_factory.mktemp("photographs")
    for number, tile in enumerate(photographs.tiles()):
        for version, image in enumerate([tile, *photographs.variants(tile, number)]):
            path = folder / "images" / str(number % 2) / f"o{number:02d}_{version}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(path)
    return embedonce.extract_features(folder / "images", folder / "photographs.h5", **(small | {"image_size": 96}))


def test_photographs_are_verified_on_available_images(photograph_cache, tmp_path, capsys, monkeypatch):
    found = find_groups(photograph_cache)
    assert all(len({originals(photograph_cache)[row] for row in rows}) == 1 for rows in found.members)
    about = found.to_dict()
    assert about["images_with_near_duplicates"] > 0.8 * len(photograph_cache)
    assert about["accepted_on_images"] == len(found.search.verified.first) > 0
    print_groups(found)
    assert "borderline pair" in capsys.readouterr().out

    monkeypatch.setitem(photograph_cache.provenance, "image_root", str(tmp_path / "nowhere"))
    blind = find_groups(photograph_cache)
    assert blind.to_dict()["threshold_on_images"] is None
    assert blind.to_dict()["accepted_on_images"] == 0
    print_groups(blind)
    assert "The images are not available" in capsys.readouterr().out


def test_changed_images_have_no_picture(conflict, tmp_path):
    cache, _ = conflict
    for name in cache.paths:
        write(texture(99), tmp_path / name)
    assert pictures_of(cache).rows(np.arange(4))[1].all()
    assert not pictures_of(cache, tmp_path).rows(np.arange(4))[1].any()


def test_stored_groups_count_and_so_do_corrections(grouped, found):
    path = groups_path(grouped)
    assert path.name == "grouped.h5.groups.csv"
    found.save(path)
    assert load_or_find_groups(grouped) == found.groups
    path.write_text(path.read_text().replace(",coarse/o00_0.png,", ",corrected,"))
    assert "corrected" in load_or_find_groups(grouped).names


@pytest.fixture
def partly_labelled(grouped, image_folder, tmp_path, small):
    """A cache in which the first originals of each class have a label."""
    table = tmp_path / "labels.csv"
    rows = [f"{name},{name[0]}" for name in grouped.paths if int(name.split("/")[1][1:3]) < 4]
    table.write_text("path,label\n" + "\n".join(rows))
    cache = embedonce.extract_features(image_folder, grouped.path, labels=table, **(small | {"image_size": 96}))
    assert cache.labelled().unlabelled > 0
    return cache


def test_groups_of_labelled_images_are_found_once(partly_labelled, monkeypatch):
    labelled = partly_labelled.labelled()
    groups = load_or_find_groups(labelled)
    assert groups.paths == labelled.paths
    assert groups_path(labelled).name == "grouped.h5.groups.csv"
    monkeypatch.setattr("embedonce.evaluate.duplicates.find.find_near_duplicates", None)
    assert load_or_find_groups(labelled) == groups


def test_groups_of_all_images_serve_the_labelled_ones(partly_labelled, found):
    path = groups_path(partly_labelled)
    found.save(path)
    before = path.read_bytes()
    labelled = partly_labelled.labelled()
    groups = load_or_find_groups(labelled)
    named = dict(zip(found.groups.paths, found.groups.names, strict=True))
    assert groups.names == [named[name] for name in labelled.paths]
    # a file that lacks labelled images is searched again, and one that has others is not replaced
    path.write_bytes(b"".join(line for line in before.splitlines(True) if not line.startswith(b"coarse/o00_3")))
    shorter = path.read_bytes()
    groups = load_or_find_groups(labelled)
    assert "was not changed: it has images without a label" in groups.notes[0]
    assert path.read_bytes() == shorter


def test_groups_keep_their_names_when_images_are_added(image_folder, tmp_path, small):
    folder = tmp_path / "images"
    for source in sorted(image_folder.rglob("o0[0-3]_[0-4].png")):
        target = folder / source.relative_to(image_folder)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(source.read_bytes())
    path = tmp_path / "c.h5"
    before = load_or_find_groups(embedonce.extract_features(folder, path, **small))
    write(variants(texture(0), 0)[6], folder / "coarse" / "a-new-image.png")  # first in its folder
    after = load_or_find_groups(embedonce.extract_features(folder, path, **small))
    named = dict(zip(after.paths, after.names, strict=True))
    assert all(named[name] == group for name, group in zip(before.paths, before.names, strict=True))
    assert named["coarse/a-new-image.png"] == named["coarse/o00_0.png"]


@pytest.fixture
def growing(image_folder, tmp_path, small, monkeypatch):
    """A cache without three of the images, which has been searched, and a function that adds the others to it."""
    monkeypatch.setattr(stored_search, "MINIMUM_ROWS", 1)
    folder = tmp_path / "images"
    shutil.copytree(image_folder, folder)
    added = ["coarse/o00_0.png", "coarse/o02_3.png", "fine/o03_7.png"]
    for name in added:
        (folder / name).unlink()
    write(texture(77), folder / "fine" / "alone.png")
    cache = embedonce.extract_features(folder, tmp_path / "c.h5", **(small | {"image_size": 96}))
    find_groups(cache)

    def add():
        for name in added:
            shutil.copy(image_folder / name, folder / name)
        return embedonce.extract_features(folder, tmp_path / "c.h5", **(small | {"image_size": 96}))

    return cache, add


def counted(monkeypatch):
    """Return a list that gets the number of pairs of each registration."""
    counts = []
    register = pair_tests.register
    monkeypatch.setattr(
        pair_tests, "register", lambda thumbnails, *rest: counts.append(len(rest[0])) or register(thumbnails, *rest)
    )
    return counts


def test_of_added_images_only_their_pairs_are_compared(growing, monkeypatch):
    _, add = growing
    cache = add()
    counts = counted(monkeypatch)
    found = find_groups(cache)
    assert 0 < sum(counts) < 60
    assert find_groups(cache).to_dict() | {"seconds": 0} == found.to_dict() | {"seconds": 0}
    assert 0 < sum(counts) < 60
    (cache.path.parent / "c.h5.groups.npz").unlink()
    fresh = find_groups(cache)
    assert sum(counts) > 300
    assert found.groups == fresh.groups
    assert set(zip(*found.search.links[:2], strict=True)) <= {
        pair for part in fresh.members for pair in itertools.permutations(part.tolist(), 2)
    }


@pytest.mark.parametrize(
    "change",
    [
        lambda path: path.write_bytes(path.read_bytes()[:-100]),
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(bytes([*path.read_bytes()[:-1], path.read_bytes()[-1] ^ 1])),
    ],
)
def test_a_damaged_stored_search_is_not_used(growing, monkeypatch, change):
    cache, _ = growing
    path = cache.path.parent / "c.h5.groups.npz"
    counts = counted(monkeypatch)
    find_groups(cache)
    assert not counts
    change(path)
    find_groups(cache)
    assert sum(counts) > 300
    counts.clear()
    find_groups(cache)
    assert not counts


def test_a_stored_search_of_other_images_or_options_is_not_used(growing, monkeypatch, image_folder, tmp_path, small):
    cache, add = growing
    counts = counted(monkeypatch)
    find_groups(cache, within_class=True)
    assert sum(counts) > 100
    find_groups(cache)  # the file holds the last search
    larger, folder = add(), tmp_path / "images"
    find_groups(larger)
    counts.clear()
    (folder / "coarse" / "o00_0.png").unlink()
    find_groups(embedonce.extract_features(folder, cache.path, **(small | {"image_size": 96})))
    assert sum(counts) > 300


@pytest.mark.parametrize("spoil", [lambda text: "nonsense\n", lambda text: text.replace(",coarse/0.png,", ",,")])
def test_a_damaged_groups_file_is_not_changed(conflict, spoil):
    cache, found = conflict
    found.save(groups_path(cache))
    spoilt = spoil(groups_path(cache).read_text())
    groups_path(cache).write_text(spoilt)
    groups, notes = groups_for(cache, None, "grouped")
    assert groups.names == found.groups.names
    assert len(notes) == 1
    assert "searched again, and c.h5.groups.csv was not changed: the groups file" in notes[0]
    assert groups_path(cache).read_text() == spoilt


def test_given_groups_must_fit_the_cache(grouped, tmp_path):
    path = tmp_path / "patients.csv"
    path.write_text("path,group\n" + "".join(f"{name},p{name[-6]}\n" for name in grouped.paths))
    assert groups_for(grouped, path)[0].source == "file"
    assert groups_for(grouped, [name[-6] for name in grouped.paths])[0].source == "custom"
    path.write_text("path,group\ncoarse/o00_0.png,p\n")
    with pytest.raises(SplitError, match="no group for 95 of 96 images"):
        groups_for(grouped, path)


def test_a_comparison_shows_the_leakage_gap(grouped, found, tmp_path):
    found.save(groups_path(grouped))
    compared = compare(grouped, ["knn", "logreg"])
    assert compared.split.method == "grouped"
    assert compared.split.groups["crossing"] == 0
    assert compared.leaky.split.method == "random"
    assert compared.leaky.split.groups["leak_share"] > 0.9
    gaps = {row.head: row for row in compared.leakage_gap}
    assert set(gaps) == {"knn", "logreg"}
    for name, row in gaps.items():
        assert row.grouped == compared.result(name).scores["accuracy"]
        assert row.leaky == compared.leaky.result(name).scores["accuracy"]
        assert row.gap == pytest.approx(row.leaky - row.grouped)
    with without_pictures():
        compared.save(tmp_path / "out")
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert results["split"]["groups"]["crossing"] == 0
    assert results["split"]["groups"]["group_source"] == "found"
    assert results["random"]["split"]["groups"]["leak_share"] == compared.leaky.split.groups["leak_share"]
    assert [row["head"] for row in results["leak_gap"]] == [result.name for result in compared.table]


def test_without_near_duplicates_one_random_split_is_enough(cache):
    compared = compare(cache, ["dummy"])
    assert len(compared.groups) == len(cache)
    assert compared.leaky is None
    assert compared.leakage_gap == ()
    assert any("so the split is random" in note for note in compared.notes)


def test_heads_that_cross_validate_get_the_groups(grouped, found, monkeypatch):
    seen = {}
    head = embedonce.make_head("linear-svm")
    fit = type(head).fit

    def spy(self, X, y, groups=None):
        seen["groups"] = groups
        return fit(self, X, y, groups=groups)

    monkeypatch.setattr(type(head), "fit", spy)
    compared = compare(grouped, ["linear-svm"], split="grouped", groups=found.groups)
    assert np.array_equal(seen["groups"], found.groups.ids[compared.split.train])


def test_a_sheet_that_fails_does_not_cost_the_groups(conflict, tmp_path, monkeypatch):
    def fail(figure, path):
        raise RuntimeError("no font")

    (tmp_path / "report").mkdir()
    (tmp_path / "report" / "largest.png").write_text("of an earlier search")
    monkeypatch.setattr(plots, "save_figure", fail)
    found = find_groups(conflict[0], report=tmp_path / "report")
    assert found.written == (tmp_path / "report" / "groups.json",)
    assert found.notes[0] == "largest.png could not be drawn (RuntimeError: no font)"
    assert [path.name for path in (tmp_path / "report").iterdir()] == ["groups.json"]


def test_a_report_shows_the_groups(conflict, tmp_path):
    cache, _ = conflict
    found = find_groups(cache.path, tmp_path / "g.csv", report=tmp_path / "report")
    assert [path.name for path in found.written] == ["g.csv", "groups.json", "largest.png", "labels.png"]
    rows = list(csv.DictReader((tmp_path / "g.csv").open()))
    assert [row["path"] for row in rows] == cache.paths
    assert json.loads((tmp_path / "report" / "groups.json").read_text())["groups"] == len(found.groups)
    with Image.open(tmp_path / "report" / "largest.png") as sheet:
        assert np.asarray(sheet.convert("L")).std() > 10


def test_contact_sheets_have_file_names_and_labels(conflict, tmp_path, monkeypatch):
    cache, found = conflict
    texts = {}

    def save(figure, path):
        texts[path.name] = [text.get_text() for ax in figure.axes for text in (*ax.texts, ax.title, ax._left_title)]

    monkeypatch.setattr(plots, "save_figure", save)
    save_group_sheets(found, tmp_path)
    (rows,) = found.label_conflicts
    for row in rows:
        folder, name = cache.paths[row].split("/")
        assert f"{name}\n{cache.label_names[row]}" in texts["labels.png"]
        assert f"{name}\n{folder}" in texts["largest.png"]


def test_a_missing_or_changed_image_is_a_gray_square(conflict, tmp_path):
    cache, found = conflict
    for name in cache.paths:
        write(texture(99), tmp_path / "changed" / name)
    sheets = []
    for images in ("nowhere", "changed"):
        (tmp_path / f"sheets of {images}").mkdir()
        written = save_group_sheets(found, tmp_path / f"sheets of {images}", images=tmp_path / images)
        sheets.append({path.name: path.read_bytes() for path in written})
    assert sheets[0] == sheets[1]
    with Image.open(tmp_path / "sheets of changed" / "largest.png") as sheet:
        assert (np.asarray(sheet.convert("L")) == 230).mean() > 0.3


def test_an_output_that_is_no_groups_file_is_not_overwritten(conflict, tmp_path):
    path = tmp_path / "letter.txt"
    path.write_text("dear all\n")
    with pytest.raises(SplitError, match="groups file"):
        find_groups(conflict[0].path, path)
    assert path.read_text() == "dear all\n"
