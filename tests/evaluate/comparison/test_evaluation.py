from __future__ import annotations

import json
import re

import embedonce
import numpy as np
import pytest
from click.testing import CliRunner
from embedonce import FeatureCache, evaluate_model, train
from embedonce.cli import main
from embedonce.errors import ModelFileError, SplitError
from embedonce.evaluate.duplicates.find import groups_path
from embedonce.evaluate.duplicates.result import write_stored_groups
from PIL import Image
from saving import with_empty_pictures


def test_a_model_of_all_images_cannot_be_scored(cache, tmp_path):
    done = train(cache, "logreg", tmp_path / "a.npz", split="none")
    assert done.result is None
    with pytest.raises(SplitError, match="trained on every one of these images"):
        evaluate_model(tmp_path / "a.npz", cache)


def test_training_images_are_recognized_by_content(cache, tmp_path, make_images, small):
    done = train(cache, "logreg", tmp_path / "a.npz")
    copies = make_images(tmp_path / "copies", ("ash", "birch"), per_class=30)  # 24 known of each class, and 6 more
    for image in sorted(copies.rglob("*.*")):
        image.rename(image.with_stem(f"renamed-{image.stem}"))
    evaluation = evaluate_model(done.path, embedonce.extract_features(copies, tmp_path / "b.h5", **small))
    trained_on = np.isin(np.array(cache.label_names)[done.split.train], ["ash", "birch"]).sum()
    assert (evaluation.left_out, len(evaluation.rows)) == (trained_on, 60 - trained_on)
    assert evaluation.result.scores["accuracy"] > 0.5  # with fewer classes than the model knows


def test_the_test_part_of_a_split_file_can_be_scored(cache, tmp_path):
    train(cache, "logreg", tmp_path / "a.npz")
    lines = ["path,part", f"{cache.paths[0]},train"] + [f"{path},test" for path in cache.paths[1:]]
    (tmp_path / "s.csv").write_text("\n".join(lines))
    done = evaluate_model(tmp_path / "a.npz", cache, split=tmp_path / "s.csv", include_training=True)
    assert len(done.rows) == 71


def test_a_head_without_fingerprint_is_scored_with_a_note(cache, tmp_path):
    head = embedonce.make_head("logreg").fit(cache.features, cache.label_names)
    embedonce.save_head(head, tmp_path / "a.npz")
    done = evaluate_model(tmp_path / "a.npz", cache)
    assert any("does not say which features" in note for note in done.notes)
    narrow = embedonce.make_head("logreg").fit(cache.features[:, :9], cache.label_names)
    embedonce.save_head(narrow, tmp_path / "b.npz")
    with pytest.raises(ModelFileError, match="takes 9 features, the cache has 1280"):
        evaluate_model(tmp_path / "b.npz", cache)


@pytest.fixture
def copied():
    """Thirty images, each four times."""
    features = np.random.default_rng(0).normal(size=(30, 8)).repeat(4, axis=0)
    return FeatureCache.from_arrays(features, (["ash"] * 4 + ["birch"] * 4) * 15, signatures=np.zeros((120, 784)))


def test_near_duplicates_stay_together_by_default(copied, tmp_path):
    trained = train(copied, "knn", tmp_path / "a.npz")
    assert (trained.split.method, trained.split.groups["crossing"]) == ("grouped", 0)
    evaluation = evaluate_model(trained.path, copied)
    assert evaluation.result.scores == trained.result.scores
    assert not any("near-duplicate" in note for note in evaluation.notes)


def test_a_search_that_was_not_made_is_noted(copied, tmp_path):
    trained = train(copied, "knn", tmp_path / "a.npz", split="random")
    assert trained.notes[0].startswith("near-duplicates were not searched, so every score may be too high")


def test_near_duplicates_in_training_are_noted(cache_path, in_pairs, tmp_path):
    path = tmp_path / "trees.h5"
    path.write_bytes(cache_path.read_bytes())
    with FeatureCache.open(path) as cache:
        write_stored_groups(in_pairs, cache, groups_path(cache))
        trained = train(cache, "knn", tmp_path / "a.npz", split="random")
        leaked = int(np.isin(trained.split.test // 2, trained.split.train // 2).sum())
        assert leaked
        assert any("have an image of their group in training" in note for note in trained.notes)
        assert (
            evaluate_model(trained.path, cache)
            .notes[0]
            .startswith(
                f"{leaked} of the {len(trained.split.test)} images that it was not trained on have a near-duplicate in training"
            )
        )
        grouped = train(cache, "knn", tmp_path / "b.npz")
        assert grouped.split.method == "grouped"
        assert not any("have a near-duplicate" in note for note in evaluate_model(grouped.path, cache).notes)


def test_training_images_that_are_in_no_cache_are_noted(copied, tmp_path):
    trained = train(copied, "knn", tmp_path / "a.npz")
    others = FeatureCache.from_arrays(np.random.default_rng(1).normal(size=(20, 8)), ["ash", "birch"] * 10)
    (note,) = [note for note in evaluate_model(trained.path, others).notes if "were not searched" in note]
    assert note.startswith(
        f"near-duplicates of {len(set(map(bytes, copied.files.hashes[trained.split.train])))} training images were not "
        "searched, because these are in no cache here, so scores may be too high: the model"
    )


@pytest.fixture
def external(images, cache_path, small, tmp_path_factory, draw):
    """A copy of a cache, and one of other images and of recompressed ones of it, under the same paths."""
    folder = tmp_path_factory.mktemp("external")
    (folder / "train.h5").write_bytes(cache_path.read_bytes())
    for kind, name in enumerate(("ash", "birch", "cedar")):
        (folder / "images" / name).mkdir(parents=True)
        for number, path in enumerate(sorted((images / name).iterdir())[:6]):
            with Image.open(path) as image:
                image.convert("RGB").save(folder / "images" / name / f"{number:03d}.jpg", quality=88)
        for number in range(6, 14):
            draw(kind, 500 + number).save(folder / "images" / name / f"{number:03d}.png")
    return folder / "train.h5", embedonce.extract_features(folder / "images", folder / "other.h5", **small)


def test_near_duplicates_are_searched_across_caches(external, tmp_path):
    train_path, other = external
    trained = train(train_path, "logreg", tmp_path / "a.npz", split="none")
    done = evaluate_model(trained.path, other)
    assert (len(done.rows), done.left_out) == (42, 0)
    assert done.near_duplicates >= 12
    assert done.notes[0].startswith(
        f"{done.near_duplicates} of the 42 images that it was not trained on have a near-duplicate in training, so"
    )
    independent = done.independent
    assert len(independent.predicted) == 42 - done.near_duplicates
    assert set(done.result.intervals) == set(independent.intervals) >= {"accuracy", "macro_f1"}
    about = done.to_dict()
    assert about["independent"]["images"] == 42 - done.near_duplicates
    assert about["near_duplicates"] == done.near_duplicates


def test_an_evaluation_has_the_report_of_a_comparison(external, tmp_path):
    train_path, other = external
    trained = train(train_path, "logreg", tmp_path / "a.npz", split="none")
    call = ["evaluate", str(trained.path), str(other.path), "-o", str(tmp_path / "out")]
    with with_empty_pictures():
        done = CliRunner().invoke(main, call)
    assert done.exit_code == 0, done.output
    assert "95 % interval" in done.stdout
    assert "Without the images that have a near-duplicate in training, " in done.stdout
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert results["split"]["method"] == "model"
    assert results["heads"][0]["intervals"]["accuracy"]
    page = (tmp_path / "out" / "report.html").read_text()
    assert "a trained model, tested on 42 of them" in page
    independent = results["independent"]
    gap = results["heads"][0]["accuracy"] - independent["scores"]["accuracy"]
    assert f"<b>{100 * gap:+.1f} points</b>" in page
    assert f"on the {independent['images']} without a near-duplicate in training (" in re.sub("</?span[^>]*>", "", page)
    assert f"embedonce predict {trained.path} IMAGES" in re.sub("</?span>", "", page)


def test_given_groups_decide_the_intervals(cache, tmp_path):
    trained = train(cache, "logreg", tmp_path / "a.npz", split="random")
    singles = evaluate_model(trained.path, cache, include_training=True, groups=np.arange(len(cache)))
    whole = evaluate_model(trained.path, cache, include_training=True, groups=np.arange(len(cache)) // 24)
    widths = [np.ptp(done.result.intervals["accuracy"]) for done in (singles, whole)]
    assert widths[0] < widths[1]


def test_given_groups_are_not_called_near_duplicates(cache, tmp_path):
    trained = train(cache, "logreg", tmp_path / "a.npz", split="random")
    done = evaluate_model(trained.path, cache, groups=np.arange(len(cache)) // 24)
    assert done.near_duplicates == len(done.rows)
    assert done.relation == "an image of their group"
    assert f"have {done.relation} in training" in done.notes[0]
    assert not any("duplicate" in note for note in done.notes)
