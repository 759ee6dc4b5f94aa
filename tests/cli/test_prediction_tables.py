from __future__ import annotations

import csv
import shutil

import pytest
from click.testing import CliRunner
from embedonce.cli import main


@pytest.fixture(scope="module")
def model(cache_path, tmp_path_factory):
    path = tmp_path_factory.mktemp("models") / "a.npz"
    made = CliRunner().invoke(main, ["train", str(cache_path), "--head", "knn", "--split", "random", "-o", str(path)])
    assert made.exit_code == 0, made.output
    return path


def predict(*arguments):
    return CliRunner().invoke(main, ["predict", *map(str, arguments)])


def rows_of(path):
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.reader(file))


def test_a_table_has_names_in_the_folder_and_classes(model, images, tmp_path):
    done = predict(model, images, "-o", tmp_path / "made" / "t.csv", "--columns", "file,species")
    assert done.exit_code == 0, done.output
    titles, *rows = rows_of(tmp_path / "made" / "t.csv")
    assert titles == ["file", "species"]
    assert [name for name, _ in rows] == sorted(f"{path.parent.name}/{path.name}" for path in images.glob("*/*"))
    right = sum(name.startswith(species) for name, species in rows)
    assert right > len(rows) / 2
    last = done.stdout.splitlines()[-2]
    assert last.startswith(f"{len(rows)} images: ")
    assert sum(int(part.split()[-1]) for part in last.rstrip(".").split(": ")[1].split(", ")) == len(rows)


def test_an_unreadable_image_has_a_line_with_the_error(model, images, tmp_path):
    folder = tmp_path / "new"
    folder.mkdir()
    shutil.copy(images / "ash" / "000.jpg", folder / "a.jpg")
    (folder / "b.jpg").write_bytes(b"no image")
    done = predict(model, folder, "-o", tmp_path / "t.csv")
    assert done.exit_code == 1
    titles, first, second = rows_of(tmp_path / "t.csv")
    assert titles == ["id", "label", "error"]
    assert first[0] == "a.jpg"
    assert first[2] == ""
    assert second[:2] == ["b.jpg", ""]
    assert second[2]
    assert "not read 1" in done.stdout


def test_files_have_their_names(model, images, tmp_path):
    done = predict(model, images / "ash" / "000.jpg", "-o", tmp_path / "t.csv")
    assert done.exit_code == 0
    assert rows_of(tmp_path / "t.csv")[1][0] == "000.jpg"


def test_equal_names_write_nothing(model, images, tmp_path):
    done = predict(model, images / "ash", images / "birch", "-o", tmp_path / "t.csv")
    assert done.exit_code == 2
    assert "are both 000.jpg" in done.stderr
    assert not (tmp_path / "t.csv").exists()


@pytest.mark.parametrize("columns", ["id", "id,", "a,b,c", "a,a"])
def test_other_columns_are_refused(model, images, tmp_path, columns):
    done = predict(model, images / "ash" / "000.jpg", "-o", tmp_path / "t.csv", "--columns", columns)
    assert done.exit_code == 2
    assert "--columns must be two names" in done.stderr


def test_an_input_is_not_overwritten(model, images):
    before = model.read_bytes()
    done = predict(model, images / "ash" / "000.jpg", "-o", model)
    assert done.exit_code != 0
    assert model.read_bytes() == before
