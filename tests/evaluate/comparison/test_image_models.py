from __future__ import annotations

import csv
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from embedonce.cache import FeatureCache
from embedonce.cli.app import main
from embedonce.errors import HeadError, ImageError, ModelFileError, ParameterError, SplitError
from embedonce.evaluate.comparison.run import compare
from embedonce.evaluate.finetuning.run import finetune
from embedonce.evaluate.models.exporting import export
from embedonce.evaluate.models.model_file import ModelFile
from embedonce.evaluate.models.training import train
from embedonce.evaluate.report.follow_up import next_command
from embedonce.evaluate.shared.images import read_unchanged
from embedonce.evaluate.splits.plan import make_split
from embedonce.evaluate.splits.split import Split
from embedonce.heads.io.files import read_metadata
from embedonce.heads.io.keras_files import write_keras_metadata
from embedonce.heads.io.metadata import cache_metadata
from kept_lines import KeptLines
from saving import with_empty_pictures, without_pictures


@pytest.fixture(scope="module")
def files(cache, images, in_pairs, tmp_path_factory):
    """An exported and a fine-tuned model, trained on the grouped split of pairs."""
    folder = tmp_path_factory.mktemp("files")
    train(cache, "logreg", folder / "start.npz", split="grouped", groups=in_pairs)
    start = export(folder / "start.npz", folder / "start.keras", check=2).path
    tuned = finetune(images, start, folder / "tuned.keras", unfreeze=3, epochs=1, batch_size=64, groups=in_pairs).path
    return start, tuned


@pytest.fixture(scope="module")
def comparison(cache, in_pairs, files):
    return compare(cache, ["logreg", "knn"], groups=in_pairs, image_models=files)


def test_image_models_are_scored_on_the_test_rows_of_the_heads(comparison):
    assert [result.name for result in comparison.results] == ["logreg", "knn", "start.keras", "tuned.keras"]
    for result in comparison.results:
        assert len(result.predicted) == len(comparison.split.test)
        assert "accuracy" in result.intervals
    assert len(comparison.differences) == 6
    assert comparison.confusion("tuned.keras").sum() == len(comparison.split.test)


def test_an_export_scores_what_its_head_scores(comparison):
    head, file = comparison.result("logreg"), comparison.result("start.keras")
    np.testing.assert_array_equal(file.predicted, head.predicted)
    np.testing.assert_allclose(file.probabilities, head.probabilities, atol=1e-3)
    np.testing.assert_allclose(file.probabilities.sum(axis=1), 1, atol=1e-9)


def test_the_next_command_predicts_with_an_image_model(comparison, files):
    alone = replace(comparison, results=[comparison.result(files[0].name)])
    assert next_command(alone) == ["predict", str(files[0]), "IMAGES"]


def test_a_fine_tuned_model_brings_its_time_and_its_history(comparison, files, tmp_path):
    result = comparison.result("tuned.keras")
    about = read_metadata(files[1])["finetuned"]
    assert result.fit_seconds == about["seconds"] > 0
    assert result.history == about["history"]
    assert comparison.result("start.keras").history is None
    with with_empty_pictures():
        written = {path.name for path in comparison.save(tmp_path)}
    assert {"curves-tuned.keras.png", "confusion-tuned.keras.csv", "report.html"} <= written
    entry = json.loads((tmp_path / "results.json").read_text())["heads"][3]
    assert entry["parameters"]["unfrozen"] == 3
    assert entry["parameters"]["file"] == str(files[1])
    rows = list(csv.DictReader((tmp_path / "predictions.csv").open()))
    assert sum(row["head"] == "tuned.keras" for row in rows) == len(comparison.split.test)


def test_a_split_with_its_training_images_does_not_test_it(comparison):
    assert {result.name for result in comparison.leaky.results} == {"logreg", "knn"}
    assert {row.head for row in comparison.leakage_gap} == {"logreg", "knn"}
    assert any("start.keras, tuned.keras are not tested on the random split" in note for note in comparison.notes)


def test_a_model_that_was_trained_on_test_images_is_refused(cache, files, in_pairs):
    with pytest.raises(SplitError, match=r"was trained on \d+ of the \d+ test images .* Give --split grouped --seed 0"):
        compare(cache, ["logreg"], split="random", groups=in_pairs, image_models=files)


def test_a_model_trained_on_near_duplicates_is_refused(cache, files, tmp_path, in_pairs):
    own = make_split(cache, "random", 0, in_pairs)
    model = shutil.copy(files[0], tmp_path / "a.keras")
    write_keras_metadata(model, read_metadata(model) | cache_metadata(cache, own.train) | {"split": own.to_dict()})
    seen = ModelFile.open(model).training_mask(cache)
    np.testing.assert_array_equal(np.flatnonzero(seen), own.train)
    # a split whose test rows it has not seen, but whose groups it has
    test = np.flatnonzero(~seen)
    mates = np.flatnonzero(np.isin(in_pairs.ids, in_pairs.ids[test]))
    split = Split(np.setdiff1d(np.arange(len(cache)), mates), test, "file")
    for source, related in (("file", "images of their groups"), ("found", "near-duplicates of them")):
        with pytest.raises(SplitError, match=f"or on {related}"):
            groups = replace(in_pairs, source=source)
            compare(cache, ["logreg"], split=split, groups=groups, image_models=model)
    # on its own split it knows no more than the heads
    assert compare(cache, ["logreg"], split="random", groups=in_pairs, image_models=model).result("a.keras")


def test_nothing_is_trained_before_the_files_are_looked_at(cache, files, in_pairs, tmp_path):
    progress = KeptLines()

    def attempt(path, **options):
        return compare(cache, ["logreg"], groups=in_pairs, image_models=[path], progress=progress, **options)

    with pytest.raises(ModelFileError, match="there is no such file"):
        attempt(tmp_path / "none.keras")
    with pytest.raises(ModelFileError, match=r"must be .keras files of embedonce export or finetune"):
        attempt(files[0].with_name("start.npz"))
    other = shutil.copy(files[0], tmp_path / "other.keras")
    write_keras_metadata(other, read_metadata(files[0]) | {"class_names": ["ash", "birch", "oak"]})
    with pytest.raises(HeadError, match="must have the classes of the cache, .*, got ash, birch, oak"):
        attempt(other)
    write_keras_metadata(
        other, {name: value for name, value in read_metadata(files[0]).items() if name != "trained_on"}
    )
    with pytest.raises(ModelFileError, match="does not list its training images"):
        attempt(other)
    with pytest.raises(SplitError, match="Leave out folds"):
        attempt(files[0], split="grouped", folds=2)
    with pytest.raises(ParameterError, match="names 'start.keras' twice"):
        compare(cache, ["logreg"], groups=in_pairs, image_models=[files[0], files[0]])
    assert not progress.lines


def test_a_model_of_features_alone_is_refused(cache, files, in_pairs, tmp_path):
    from embedonce.heads.io.files import load_head, save_head

    path = tmp_path / "alone.keras"
    save_head(load_head(files[1]), path, read_metadata(files[1]))
    with pytest.raises(ModelFileError, match="takes no images. Write an image model with embedonce export"):
        compare(cache, ["logreg"], groups=in_pairs, image_models=path)


def test_an_image_that_is_gone_or_changed_stops_it(files, images, in_pairs, tmp_path, small):
    import embedonce

    copy = shutil.copytree(images, tmp_path / "images")
    opened = embedonce.extract_features(copy, tmp_path / "trees.h5", **small)
    for path in (copy / "birch").iterdir():
        path.unlink()
    with pytest.raises(ImageError, match=r"tuned.keras must classify every test image, but birch/.*Restore it"):
        compare(opened, ["logreg"], groups=in_pairs, image_models=files[1])
    assert isinstance(opened, FeatureCache)
    assert read_unchanged(opened, copy, 0)


def test_the_command_takes_files_with_the_heads(cache_path, comparison, files, in_pairs, tmp_path, monkeypatch):
    in_pairs.save(tmp_path / "groups.csv")
    arguments = ["compare", str(cache_path), "--heads", "logreg", "--groups", str(tmp_path / "groups.csv")]
    arguments += ["--split", "grouped", "-o", str(tmp_path / "results")]
    models = ["--with", str(files[0]), "--with", str(files[1])]
    (tmp_path / "heads.toml").write_text(f"image_models = [{json.dumps(str(files[1]))}]")
    given = {}
    monkeypatch.setattr(
        "embedonce.evaluate.comparison.compare", lambda *files, **options: given.update(options) or comparison
    )
    for options, expected in (
        ([*models, "--fail-under", "tuned.keras.accuracy=0.2"], files),
        (["--config", str(tmp_path / "heads.toml")], files[1:]),
    ):
        with without_pictures():
            result = CliRunner().invoke(main, [*arguments, *options])
        assert result.exit_code == 0, result.output
        assert tuple(map(Path, given["image_models"])) == expected
        assert "tuned.keras" in result.stdout
        assert "start.keras" in result.stdout
        assert (tmp_path / "results" / "results.json").is_file()
