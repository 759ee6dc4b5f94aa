"""Groups of copies: found from a cache, kept beside it, and what a comparison makes of them."""

from __future__ import annotations

import csv
import json

import embedonce
import numpy as np
import photographs
import pytest
from embedonce.cache import FeatureCache
from embedonce.cli.output import print_groups
from embedonce.errors import GroupsError, SplitError
from embedonce.evaluate.comparison.run import compare
from embedonce.evaluate.duplicates import find as found_groups
from embedonce.evaluate.duplicates.contact_sheets import save_group_sheets
from embedonce.evaluate.duplicates.find import (
    find_groups,
    groups_for,
    groups_path,
    load_or_find_groups,
    write_found,
)
from embedonce.evaluate.duplicates.save import find_and_write
from PIL import Image
from saving import without_pictures
from textures import copies, texture


def write(picture, path):
    path.parent.mkdir(parents=True, exist_ok=True)
    gray = np.asarray(picture).round().clip(0, 255).astype(np.uint8)
    Image.fromarray(np.repeat(gray[..., None], 3, axis=2)).save(path)


@pytest.fixture(scope="module")
def copied_images(tmp_path_factory):
    """Two classes of six originals each, every one with seven copies."""
    folder = tmp_path_factory.mktemp("copied") / "images"
    for number in range(12):
        name = ("coarse", "fine")[number % 2]
        versions = [texture(number), *copies(texture(number), number)]
        del versions[6]  # a crop from a corner; with random weights it is not always among the nearest
        for version, picture in enumerate(versions):
            write(picture, folder / name / f"o{number:02d}_{version}.png")
    return folder


@pytest.fixture(scope="module")
def copied_path(tmp_path_factory, copied_images, small):
    path = tmp_path_factory.mktemp("copied") / "copied.h5"
    embedonce.extract_features(copied_images, path, **(small | {"image_size": 96}))
    return path


@pytest.fixture
def copied(copied_path, tmp_path):
    path = tmp_path / "copied.h5"
    path.write_bytes(copied_path.read_bytes())
    with FeatureCache.open(path) as cache:
        yield cache


def originals(cache):
    return [path.split("/")[1][:3] for path in cache.paths]


@pytest.fixture(scope="module")
def found(copied_path):
    """The groups of the copied images."""
    with FeatureCache.open(copied_path) as cache:
        yield find_groups(cache)


def test_originals_are_never_joined_and_nearly_all_copies_are_with_theirs(copied, found):
    group_of_original: dict[str, set[str]] = {}
    for original, group in zip(originals(copied), found.groups.names, strict=True):
        group_of_original.setdefault(group, set()).add(original)
    assert all(len(members) == 1 for members in group_of_original.values())
    largest = {originals(copied)[rows[0]]: len(rows) for rows in reversed(found.members)}
    assert sum(largest.values()) >= 0.95 * len(copied)
    assert found.label_conflicts == []


def test_pictures_without_copies_stay_alone(cache):
    assert len(find_groups(cache).groups) == len(cache)


def test_a_cache_without_signatures_is_read_from_its_images(copied, found, copied_images, tmp_path, monkeypatch):
    monkeypatch.setattr(FeatureCache, "signatures", None)
    assert find_groups(copied).groups.names == found.groups.names
    monkeypatch.setitem(copied.provenance, "image_root", str(tmp_path / "moved away"))
    assert find_groups(copied, images=copied_images).groups.names == found.groups.names


def test_a_cache_without_signatures_and_images_is_an_error_that_says_what_to_do(copied, tmp_path, monkeypatch):
    monkeypatch.setattr(FeatureCache, "signatures", None)
    with pytest.raises(GroupsError, match=r"holds no signatures, and 96 of its 96 images are gone .* --images"):
        find_groups(copied, images=tmp_path / "nowhere")


def test_copies_with_different_labels_are_found_unless_only_classes_are_looked_at(copied_images, tmp_path, small):
    folder = tmp_path / "images"
    for number, name in ((0, "coarse"), (0, "fine"), (1, "fine"), (2, "coarse")):
        write(texture(number), folder / name / f"{number}.png")
    cache = embedonce.extract_features(folder, tmp_path / "c.h5", **small)
    found = find_groups(cache)
    assert [sorted(cache.paths[row] for row in rows) for rows in found.label_conflicts] == [
        ["coarse/0.png", "fine/0.png"]
    ]
    assert len(find_groups(cache, within_class=True).groups) == 4


@pytest.fixture(scope="module")
def copied_photographs(tmp_path_factory, small):
    """A cache of tiles of a photograph with five copies each, and its image folder."""
    folder = tmp_path_factory.mktemp("photographs")
    for number, tile in enumerate(photographs.tiles()):
        for version, image in enumerate([tile, *photographs.copies(tile, number)]):
            path = folder / "images" / str(number % 2) / f"o{number:02d}_{version}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(path)
    return embedonce.extract_features(folder / "images", folder / "photographs.h5", **(small | {"image_size": 96}))


def test_copies_of_photographs_are_verified_on_the_images_where_they_are_at_hand(copied_photographs, tmp_path, capsys):
    found = find_groups(copied_photographs)
    assert all(len({originals(copied_photographs)[row] for row in rows}) == 1 for rows in found.members)
    about = found.summary()
    assert about["images_with_a_copy"] > 0.8 * len(copied_photographs)
    assert about["proven_on_images"] == len(found.duplicates.verified.first) > 0
    print_groups(found)
    assert "compared on the images" in capsys.readouterr().out

    blind = find_groups(copied_photographs, images=tmp_path / "nowhere")
    assert blind.summary()["threshold_on_images"] is None
    assert blind.summary()["proven_on_images"] == 0
    print_groups(blind)
    assert "The images are not at hand" in capsys.readouterr().out


def test_images_that_have_changed_do_not_decide(copied_photographs, tmp_path):
    folder = tmp_path / "images"
    for name in copied_photographs.paths:
        write(texture(0), folder / name)
    changed = find_groups(copied_photographs, images=folder)
    assert changed.summary()["proven_on_images"] == changed.summary()["rejected_on_images"] == 0


def test_found_groups_are_kept_beside_the_cache_and_believed_while_the_images_are_the_same(copied, monkeypatch):
    first = load_or_find_groups(copied)
    assert groups_path(copied).name == "copied.h5.groups.csv"
    monkeypatch.setattr(found_groups, "find_groups", lambda *args, **kwargs: pytest.fail("found again"))
    assert load_or_find_groups(copied) == first


def test_a_correction_by_hand_counts(copied):
    load_or_find_groups(copied)
    path = groups_path(copied)
    path.write_text(path.read_text().replace("o00", "corrected", 0).replace(",coarse/o00_0.png,", ",mine,"))
    assert "mine" in load_or_find_groups(copied).names


def test_groups_are_found_again_when_images_change_and_keep_their_names(copied_images, tmp_path, small):
    folder = tmp_path / "images"
    for source in sorted(copied_images.rglob("*_[0-4].png")):
        target = folder / source.relative_to(copied_images)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(source.read_bytes())
    path = tmp_path / "c.h5"
    before = load_or_find_groups(embedonce.extract_features(folder, path, **small))
    write(copies(texture(0), 0)[6], folder / "coarse" / "a-new-copy.png")  # first in its folder
    after = load_or_find_groups(embedonce.extract_features(folder, path, **small))
    named = dict(zip(after.paths, after.names, strict=True))
    assert all(named[name] == group for name, group in zip(before.paths, before.names, strict=True))
    assert named["coarse/a-new-copy.png"] == named["coarse/o00_0.png"]


@pytest.mark.parametrize("spoil", [lambda text: "nonsense\n", lambda text: text.replace(",coarse/o00_0.png,", ",,")])
def test_a_spoilt_file_beside_the_cache_is_left_alone_and_the_notes_say_so(copied, found, spoil, monkeypatch):
    write_found(found.groups, copied, groups_path(copied))
    spoilt = spoil(groups_path(copied).read_text())
    groups_path(copied).write_text(spoilt)
    monkeypatch.setattr(found_groups, "find_groups", lambda cache, progress=None: found)
    known, notes = groups_for(copied, None, "grouped")
    assert known.names == found.groups.names
    assert len(notes) == 1
    assert "looked for anew, and copied.h5.groups.csv stays as it is: the groups file" in notes[0]
    assert groups_path(copied).read_text() == spoilt


def test_a_groups_file_of_the_users_is_taken_and_a_wrong_one_refused(copied, tmp_path):
    path = tmp_path / "patients.csv"
    path.write_text("path,group\n" + "".join(f"{name},p{name[-6]}\n" for name in copied.paths))
    known, _ = groups_for(copied, path)
    assert known is not None
    assert known.source == "file"
    path.write_text("path,group\ncoarse/o00_0.png,p\n")
    with pytest.raises(SplitError, match="no group for 95 of 96 images"):
        groups_for(copied, path)


def test_a_comparison_shows_what_copies_pretend(copied, tmp_path):
    made = compare(copied, ["knn", "logreg"])
    assert made.split.method == "grouped"
    assert made.split.groups["crossing"] == 0
    assert made.leaky.split.method == "random"
    assert made.leaky.split.groups["leak_share"] > 0.9
    gaps = {row.head: row for row in made.leakage_gap}
    assert set(gaps) == {"knn", "logreg"}
    for name, row in gaps.items():
        assert row.grouped == made.result(name).scores["accuracy"]
        assert row.random == made.leaky.result(name).scores["accuracy"]
        assert row.gap == pytest.approx(row.random - row.grouped)
    with without_pictures():
        made.save(tmp_path / "out")
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert results["split"]["groups"]["crossing"] == 0
    assert results["split"]["groups"]["group_source"] == "found"
    assert results["random"]["split"]["groups"]["leak_share"] == made.leaky.split.groups["leak_share"]
    assert [row["head"] for row in results["leak_gap"]] == [result.name for result in made.table]


def test_without_copies_one_random_split_is_enough(cache):
    made = compare(cache, ["dummy"])
    assert made.leaky is None
    assert made.leakage_gap == ()
    assert any("without leakage" in note for note in made.notes)


def test_heads_that_cross_validate_get_the_groups_of_their_training_rows(copied, monkeypatch):
    seen = {}
    head = embedonce.make_head("linear-svm")
    fit = type(head).fit

    def spy(self, X, y, groups=None):
        seen["groups"] = groups
        return fit(self, X, y, groups=groups)

    monkeypatch.setattr(type(head), "fit", spy)
    made = compare(copied, ["linear-svm"], split="grouped")
    known = load_or_find_groups(copied)
    assert np.array_equal(seen["groups"], known.ids[made.split.train])


def test_a_report_shows_the_groups(copied, tmp_path):
    found, written = find_and_write(copied.path, tmp_path / "g.csv", report=tmp_path / "report")
    assert {path.name for path in written} >= {"g.csv", "groups.json", "largest.png"}
    rows = list(csv.DictReader((tmp_path / "g.csv").open()))
    assert [row["path"] for row in rows] == copied.paths
    assert json.loads((tmp_path / "report" / "groups.json").read_text())["groups"] == len(found.groups)
    with Image.open(tmp_path / "report" / "largest.png") as sheet:
        assert np.asarray(sheet.convert("L")).std() > 10


def test_an_image_that_is_gone_or_has_changed_is_a_gray_square_in_the_report(copied, found, tmp_path):
    for name in copied.paths:
        write(texture(99), tmp_path / "changed" / name)
    sheets = []
    for images in ("nowhere", "changed"):
        (tmp_path / f"sheets of {images}").mkdir()
        written = save_group_sheets(found, tmp_path / f"sheets of {images}", images=tmp_path / images)
        sheets.append({path.name: path.read_bytes() for path in written})
    assert sheets[0] == sheets[1]
    with Image.open(tmp_path / "sheets of changed" / "largest.png") as sheet:
        assert (np.asarray(sheet.convert("L")) == 230).mean() > 0.3


def test_an_output_that_holds_something_else_is_not_written_over(copied, tmp_path):
    path = tmp_path / "letter.txt"
    path.write_text("dear all\n")
    with pytest.raises(SplitError, match="groups file"):
        find_and_write(copied.path, path)
    assert path.read_text() == "dear all\n"
