from __future__ import annotations

import os

import pytest
from embedonce.errors import OutputError, ParameterError
from embedonce.evaluate.models.prediction import Prediction
from embedonce.evaluate.models.sorted_images import names_of_images, sort_images


@pytest.fixture
def predictions(tmp_path):
    made = []
    for name, label in (("a/1.jpg", "ash"), ("a/2.jpg", "birch"), ("b/1.jpg", "ash")):
        path = tmp_path / "new" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
        made.append(Prediction(str(path), ((label, 0.9),)))
    return [*made, Prediction(str(tmp_path / "new" / "c.jpg"), reason="not an image")]


def sort(predictions, tmp_path, **options):
    names = names_of_images(predictions, [tmp_path / "new"])
    return sort_images(predictions, names, tmp_path / "sorted", **({"link": False} | options))


def tree(folder):
    return {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()}


def test_images_are_copied_into_a_folder_per_class(predictions, tmp_path):
    assert sort(predictions, tmp_path) == []
    expected = {"ash/a/1.jpg": "a/1.jpg", "birch/a/2.jpg": "a/2.jpg", "ash/b/1.jpg": "b/1.jpg"}
    assert tree(tmp_path / "sorted") == expected
    assert sort(predictions, tmp_path) == []
    assert tree(tmp_path / "sorted") == expected


def test_nothing_is_overwritten(predictions, tmp_path):
    sort(predictions, tmp_path)
    (tmp_path / "sorted" / "ash" / "a" / "1.jpg").write_text("mine")
    (note,) = sort(predictions, tmp_path)
    assert "1 image was not sorted" in note
    assert "1.jpg" in note
    assert tree(tmp_path / "sorted")["ash/a/1.jpg"] == "mine"


def test_links_lead_to_the_images(predictions, tmp_path):
    assert sort(predictions, tmp_path, link=True) == []
    made = tmp_path / "sorted" / "birch" / "a" / "2.jpg"
    assert made.is_symlink()
    assert os.path.samefile(made, tmp_path / "new" / "a" / "2.jpg")
    assert sort(predictions, tmp_path, link=True) == []


def test_a_link_that_leads_nowhere_stays(predictions, tmp_path):
    target = tmp_path / "sorted" / "ash" / "a" / "1.jpg"
    target.parent.mkdir(parents=True)
    target.symlink_to(tmp_path / "outside")
    (note,) = sort(predictions, tmp_path)
    assert "not sorted" in note
    assert target.is_symlink()
    assert not (tmp_path / "outside").exists()


@pytest.mark.parametrize("label", ["", ".", "..", "../up", "/etc", "a\0b"])
def test_a_class_that_is_no_folder_name_writes_nothing(predictions, tmp_path, label):
    odd = [*predictions, Prediction(str(tmp_path / "new" / "a" / "1.jpg"), ((label, 0.9),))]
    with pytest.raises(ParameterError, match="cannot be the name of a folder"):
        sort_images(odd, [str(number) for number in range(len(odd))], tmp_path / "sorted", link=False)
    assert not (tmp_path / "sorted").exists()


def test_images_in_an_archive_are_refused(predictions, tmp_path):
    inside = [Prediction(str(tmp_path / "new.zip" / "a.jpg"), (("ash", 1.0),))]
    with pytest.raises(ParameterError, match="Unpack the archive first"):
        sort_images(inside, ["a.jpg"], tmp_path / "sorted", link=False)


def test_equal_names_of_two_folders_are_refused(predictions, tmp_path):
    with pytest.raises(ParameterError, match=r"are both 1\.jpg"):
        names_of_images(predictions, [tmp_path / "new" / "a", tmp_path / "new" / "b"])


def test_a_file_in_the_way_is_one_error(predictions, tmp_path):
    (tmp_path / "sorted").mkdir()
    (tmp_path / "sorted" / "ash").write_text("")
    with pytest.raises(OutputError):
        sort(predictions, tmp_path)
