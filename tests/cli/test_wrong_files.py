"""A file of another kind than a command needs is named before any work, in one line."""

from __future__ import annotations

import io
import json
import shutil
import tarfile

import pytest
from click.testing import CliRunner
from embedonce import train
from embedonce.cli.app import main
from embedonce.evaluate.report.results_json import FORMAT
from PIL import Image

KINDS = {
    "a feature cache": "cache.h5",
    "a model file": "m.npz",
    "an image": "i.jpg",
    "an archive": "a.tgz",
    "a folder of results": "results",
    "a folder": "photos",
    "a JSON file": "results.json",
    "a table": "groups.csv",
    "a configuration file": "heads.toml",
    "an HDF5 file such as one of weights": "w.weights.h5",
}
CACHE, MODEL, IMAGES = "a feature cache", "a model file", ("an image", "an archive", "a folder of results", "a folder")
SMALL = "--weights random:0 --alpha 0.35 --image-size 32"
WRONG = (  # a command, and the kinds that X may have
    ("info X", (CACHE,)),
    ("verify X", (CACHE,)),
    ("verify cache.h5 --images X", IMAGES[1:]),
    ("pack X out.h5", (CACHE, "a folder")),
    ("convert X -o out.npz", (CACHE,)),
    ("label X --labels groups.csv", (CACHE, "a table", "a folder", "a folder of results")),
    ("label cache.h5 --labels X", ("a table", CACHE)),
    ("groups X -o out.csv", (CACHE,)),
    ("groups cache.h5 -o out.csv --images X", IMAGES[1:]),
    ("train X --head knn -o out.npz", (CACHE,)),
    ("train cache.h5 --head knn --groups X -o out.npz", ("a table",)),
    ("tune X --head knn -o out", (CACHE,)),
    ("compare X -o out", (CACHE,)),
    ("compare cache.h5 --config X -o out", ("a configuration file",)),
    ("compare cache.h5 --with X -o out", (MODEL,)),
    ("compare cache.h5 --groups X -o out", ("a table",)),
    ("diff X results", ("a folder of results", "a folder")),
    ("diff results X", ("a folder of results", "a folder")),
    ("evaluate X cache.h5", (MODEL,)),
    ("evaluate m.npz X", (CACHE,)),
    ("evaluate m.npz cache.h5 --split X", ("a table",)),
    ("predict X i.jpg", (MODEL,)),
    ("predict m.npz X", IMAGES),
    ("predict m.npz i.jpg --cache X", (CACHE,)),
    ("explain X i.jpg -o out.png", (MODEL,)),
    ("explain m.npz X -o out.png", IMAGES),
    ("export X -o out.keras", (MODEL,)),
    ("export m.npz -o out.keras --cache X", (CACHE,)),
    ("finetune X --from m.keras --unfreeze 2 -o out.keras", IMAGES[1:]),
    ("finetune photos --from X --unfreeze 2 -o out.keras", (MODEL,)),
    (f"extract X out.h5 {SMALL}", IMAGES[1:]),
    (f"extract photos X {SMALL}", (CACHE, "a folder", "a folder of results")),
    (f"extract photos out.h5 --labels X {SMALL}", ("a table",)),
    ("extract photos out.h5 --weights X", ("an archive", MODEL, "a table", "an HDF5 file such as one of weights")),
)


@pytest.fixture(scope="module")
def files(tmp_path_factory, cache_path):
    """A folder with a file of every kind."""
    folder = tmp_path_factory.mktemp("files")
    shutil.copy(cache_path, folder / "cache.h5")
    train(folder / "cache.h5", "softmax", folder / "m.npz", split="random", parameters={"epochs": 1})
    (folder / "photos").mkdir()
    for name in "ab":
        (folder / "photos" / name).mkdir()
        Image.new("RGB", (8, 8), "red").save(folder / "photos" / name / "1.png")
    Image.new("RGB", (8, 8)).save(folder / "i.jpg")
    with tarfile.open(folder / "a.tgz", "w:gz") as archive:
        archive.addfile(tarfile.TarInfo("a/1.png"), io.BytesIO())
    (folder / "results").mkdir()
    (folder / "results" / "results.json").write_text(json.dumps({"format": FORMAT, "format_version": 1}))
    (folder / "results.json").write_text("{}")
    (folder / "groups.csv").write_text("path,group\n1,a\n")
    (folder / "heads.toml").write_text("seed = 1\n")
    (folder / "w.weights.h5").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(100))
    return folder


@pytest.mark.parametrize(("command", "right"), WRONG)
def test_a_file_of_another_kind_is_named(files, monkeypatch, command, right):
    monkeypatch.chdir(files)
    before = contents(files)
    for kind, name in KINDS.items():
        if kind in right:
            continue
        result = CliRunner().invoke(main, command.replace("X", name).split())
        last = result.stderr.splitlines()[-1]
        assert result.exit_code in (1, 2)
        assert last.startswith("Error: ")
        assert kind in last or "did you swap" in last or (kind == "a folder" and "is not a feature cache" in last)
    assert contents(files) == before


def contents(folder):
    """Return the names of the files in a folder, except those of locks, and folders without a file."""
    return {path for path in folder.rglob("*") if path.is_file() and not path.name.endswith((".lock", ".writer.json"))}
