from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from embedonce._keras import import_keras
from embedonce.cli.app import main
from embedonce.errors import (
    FingerprintError,
    HeadError,
    ImageError,
    ImageFolderError,
    ModelFileError,
    ParameterError,
    SplitError,
)
from embedonce.evaluate.finetuning import cut_model as finetune_cut
from embedonce.evaluate.finetuning import image_reader as finetune_images
from embedonce.evaluate.finetuning import training_loop as finetune_training
from embedonce.evaluate.finetuning.run import finetune, unfreeze_last
from embedonce.evaluate.finetuning.validation_split import hold_out, training_rows
from embedonce.evaluate.models.evaluation import evaluate_model
from embedonce.evaluate.models.exporting import export
from embedonce.evaluate.models.model_file import ModelFile
from embedonce.evaluate.models.prediction import predict
from embedonce.evaluate.models.training import train
from embedonce.evaluate.splits.groups import Groups
from embedonce.extract.decoding import decode
from embedonce.heads.io.files import load_head, read_metadata, save_head
from embedonce.heads.io.keras_files import write_keras_metadata
from embedonce.heads.io.metadata import cache_metadata

SOFTMAX = {"epochs": 3, "learning_rate": 0.01}


class Starts(dict):
    """Exported models by the name of their head, made when they are asked for."""

    def __init__(self, cache, folder):
        self.cache, self.folder = cache, folder

    def __missing__(self, name):
        path = self.folder / f"{name}.keras"
        if name == "softmax":  # a whole image model as it is trained
            train(self.cache, name, path, parameters=SOFTMAX)
        else:
            train(self.cache, name, path.with_suffix(".npz"), parameters={"C": 0.01} if name == "logreg" else {})
            export(path.with_suffix(".npz"), path, check=2)
        self[name] = path
        return path


@pytest.fixture(scope="module")
def starts(cache, tmp_path_factory):
    return Starts(cache, tmp_path_factory.mktemp("starts"))


@pytest.fixture(scope="module")
def tuned(starts, images, tmp_path_factory):
    """A softmax model with the last 10 layers trained so fast that it surely gets better."""
    path = tmp_path_factory.mktemp("tuned") / "tuned.keras"
    return finetune(images, starts["softmax"], path, unfreeze=10, learning_rate=1e-3, epochs=3)


def _layers(path):
    whole = import_keras().models.load_model(path, safe_mode=True)
    return {layer.name: layer.get_weights() for layer in whole.get_layer("mobilenetv2").layers}


@pytest.fixture(scope="module")
def before(starts):
    """The weights of the softmax model's backbone, by layer."""
    return _layers(starts["softmax"])


def test_only_unfrozen_layers_change(before, tuned):
    after = _layers(tuned.path)
    changed = {
        name
        for name in before
        if any(not np.array_equal(one, two) for one, two in zip(before[name], after[name], strict=True))
    }
    assert changed == {"block_16_depthwise", "block_16_project", "Conv_1"}
    assert changed < set(tuned.layers)
    assert len(tuned.layers) == 10
    assert any("BN" in name for name in tuned.layers)


@pytest.mark.slow
def test_it_is_never_worse_on_validation_than_the_start(tuned, starts, images, tmp_path):
    history = tuned.training.history
    assert history["epoch"][0] == 0
    assert tuned.training.best == int(np.argmin(history["val_loss"])) > 0
    worse = finetune(
        images, starts["logreg"], tmp_path / "a.keras", unfreeze=10, learning_rate=0.5, epochs=4, patience=1
    )
    losses = worse.training.history["val_loss"]
    assert worse.training.best == int(np.argmin(losses))
    assert len(losses) <= worse.training.best + 2  # one epoch without gain ends it


@pytest.mark.slow
def test_if_epoch_zero_is_the_best_the_backbone_is_unchanged(starts, before, images, tmp_path, monkeypatch):
    losses = iter([(0.1, 1.0), (0.2, 1.0), (0.1, 1.0)])
    monkeypatch.setattr(finetune_training, "_measure", lambda *arguments: next(losses))
    done = finetune(images, starts["softmax"], tmp_path / "a.keras", unfreeze=5, learning_rate=0.01, epochs=9)
    assert done.training.best == 0
    assert len(done.training.history["loss"]) == 3  # patience 2
    assert "no epoch had a lower validation loss" in " ".join(done.notes)
    after = _layers(done.path)
    assert all(np.array_equal(one, two) for name in before for one, two in zip(before[name], after[name], strict=True))


@pytest.fixture(scope="module")
def whole(starts):
    """A model whose layers tests unfreeze as they like: nothing is trained in it."""
    return import_keras().models.load_model(starts["softmax"], compile=False)


@pytest.mark.parametrize("unfreeze", [1, 10, 31, 154])
def test_the_two_parts_of_a_model_are_the_model(whole, unfreeze):
    unfreeze_last(whole.get_layer("mobilenetv2"), unfreeze)
    frozen, trained = finetune_cut.cut_model(whole)
    pixels = np.random.default_rng(0).uniform(0, 255, (3, 64, 64, 3)).astype(np.float32)
    inside = frozen.predict_on_batch(pixels)
    np.testing.assert_allclose(trained.predict_on_batch(inside), whole.predict_on_batch(pixels), atol=1e-6)
    assert not frozen.trainable_variables
    assert len(trained.trainable_variables) == len(whole.trainable_variables)
    if unfreeze == 10:  # the last narrow place before it
        assert inside.shape == (3, 2, 2, 56)


ROWS, VIEW_TRANSFORMS = np.array([5, 3, 60, 7, 30]), np.array([0, 3, 1, 2, 0])


@pytest.fixture(scope="module")
def frozen_part(whole, images, cache):
    """The part before the last 10 layers, and what it makes of some views of images."""
    unfreeze_last(whole.get_layer("mobilenetv2"), 10)
    below, _ = finetune_cut.cut_model(whole)
    with finetune_images.ImageReader(cache, images) as reader:
        return below, np.concatenate([np.asarray(below(part)) for _, part in reader.batches(ROWS, 2, VIEW_TRANSFORMS)])


@pytest.mark.parametrize("room", [0, 2**16, 2**30])
def test_every_view_passes_the_frozen_part_once(frozen_part, images, cache, monkeypatch, room):
    monkeypatch.setattr(finetune_cut, "ROOM", room)
    below, expected = frozen_part
    with finetune_images.ImageReader(cache, images) as reader:
        seen = []
        monkeypatch.setattr(
            reader,
            "_read_into",
            lambda out, row, view, right=reader._read_into: (seen.append((row, view)), right(out, row, view))[1],
        )
        frozen = finetune_cut.FrozenPart(below, reader, 100)
        for _ in range(2):
            parts = list(frozen.batches(ROWS, 2, VIEW_TRANSFORMS))
            assert np.concatenate([places for places, _ in parts]).tolist() == list(range(5))
            np.testing.assert_allclose(np.concatenate([got for _, got in parts]), expected, atol=1e-5)
        assert len(seen) == {0: 10, 2**16: 5, 2**30: 5}[room]
        list(frozen.batches(ROWS, 4, VIEW_TRANSFORMS[::-1].copy()))
    assert set(seen) >= set(zip(ROWS.tolist(), VIEW_TRANSFORMS.tolist(), strict=True))


@pytest.fixture(scope="module")
def read_and_done(starts, images, tmp_path_factory):
    """The rows that a fine-tuning of the head alone reads, and what it returns."""
    read = set()
    right = finetune_images.read_unchanged

    def note(cache, root, row):
        read.add(row)
        return right(cache, root, row)

    path = tmp_path_factory.mktemp("watched") / "a.keras"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(finetune_images, "read_unchanged", note)
        return read, finetune(images, starts["logreg"], path, unfreeze=1, epochs=1)


def test_the_images_of_the_test_part_are_never_read(read_and_done, starts, cache):
    read, done = read_and_done
    expected = np.flatnonzero(ModelFile.open(starts["logreg"]).training_mask(cache))
    assert sorted(read) == expected.tolist()
    assert len(read) < len(cache)
    assert done.images + done.validation_images == len(read)


@pytest.mark.slow
def test_heads_whose_margins_were_calibrated_are_trained_on_too(starts, images, tmp_path):
    done = finetune(images, starts["linear-svm"], tmp_path / "a.keras", unfreeze=3, epochs=2, augment="dihedral")
    assert read_metadata(done.path)["head"] == "linear-svm"
    assert done.training.history["val_loss"][done.training.best] <= done.training.history["val_loss"][0]


def test_the_head_starts_without_the_validation_images(read_and_done, starts, cache):
    from embedonce.evaluate.duplicates.find import load_or_find_groups
    from embedonce.heads.registry import make_head
    from sklearn.metrics import log_loss

    done = read_and_done[1]
    rows, _ = training_rows(cache, ModelFile.open(starts["logreg"]))
    fit, held = hold_out(cache, rows, load_or_find_groups(cache), 0)
    head = make_head("logreg", C=0.01).fit(cache.features[fit], cache.label_names[fit])
    start = log_loss(cache.label_names[held], head.predict_proba(cache.features[held]))
    assert done.training.history["val_loss"][0] == pytest.approx(start, abs=2e-3)
    assert "have no weights to train" in " ".join(done.notes)


@pytest.mark.slow
def test_the_losses_of_epochs_are_means_over_their_images(starts, images, tmp_path):
    settings = {"learning_rate": 1e-12, "augment": "none", "epochs": 2, "batch_size": 20}
    history = finetune(images, starts["logreg"], tmp_path / "a.keras", unfreeze=3, **settings).training.history
    for name in ("loss", "val_loss", "accuracy", "val_accuracy"):
        assert history[name] == pytest.approx([history[name][0]] * 3, abs=2e-3), name


PLAIN = """
import json, sys
import numpy as np, keras
model = keras.models.load_model(sys.argv[1], safe_mode=True)
print(json.dumps(model.predict(np.load(sys.argv[2]), verbose=0).tolist()))
assert not any(name.startswith("embedonce") for name in sys.modules)
"""


@pytest.mark.slow
def test_plain_keras_and_predict_give_the_same(tuned, images, cache, tmp_path):
    rows = range(0, len(cache), 9)
    pixels = [decode((images / cache.paths[row]).read_bytes()) for row in rows]
    np.save(tmp_path / "images.npy", np.stack(pixels))
    command = [sys.executable, "-c", PLAIN, str(tuned.path), str(tmp_path / "images.npy")]
    got = np.array(json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout))
    said = predict(tuned.path, [images / cache.paths[row] for row in rows], top=3)
    names = read_metadata(tuned.path)["class_names"]
    shares = [[dict(one.classes)[name] for name in names] for one in said]
    np.testing.assert_allclose(shares, got, atol=1e-3)


def test_the_file_says_how_it_was_made_and_what_still_holds(tuned, starts):
    start, metadata = read_metadata(starts["softmax"]), read_metadata(tuned.path)
    for name in ("class_names", "trained_on", "split", "head"):
        assert metadata[name] == start[name]
    assert start["scores"]
    assert "scores" not in metadata  # they were the start's
    assert not {"weights_path", "novelty"} & set(metadata)
    about = metadata["finetuned"]
    assert about["history"] == tuned.training.history
    assert (about["unfrozen"], about["augment"], about["learning_rate"]) == (10, "flips", 1e-3)
    assert about["layers"] == tuned.layers
    assert tuned.parameters == about["trainable_parameters"] > 0
    assert tuned.curves.read_bytes().startswith(b"\x89PNG")
    assert tuned.curves.name == "tuned.history.png"


def test_cached_features_of_the_frozen_backbone_are_refused(tuned, cache, images):
    with pytest.raises(FingerprintError, match=r"whose backbone was fine-tuned.*weights_sha256"):
        evaluate_model(tuned.path, cache)
    with pytest.raises(FingerprintError, match="weights_sha256"):
        predict(tuned.path, images / "ash", cache=cache)


@pytest.mark.slow
def test_a_cache_of_the_tuned_backbone_is_taken(tuned, images, tmp_path, small):
    import embedonce

    own = embedonce.extract_features(images, tmp_path / "own.h5", **small | {"weights": tuned.path})
    done = evaluate_model(tuned.path, own)
    assert done.left_out == tuned.images + tuned.validation_images
    again = finetune(images, tuned.path, tmp_path / "again.keras", unfreeze=3, epochs=1, cache=own)
    assert again.training.best >= 0


@pytest.mark.slow
def test_a_tuned_model_can_be_explained(tuned, images):
    from embedonce.evaluate.models.explanation import explain

    explained = explain(tuned.path, next((images / "ash").iterdir()))
    assert abs(explained.remainder) < 1e-3


@pytest.mark.slow
def test_a_tuned_model_can_be_exported_for_litert(tuned, images, tmp_path):
    with pytest.raises(ModelFileError, match="--images PATH"):
        export(tuned.path, tmp_path / "a.tflite")
    assert export(tuned.path, tmp_path / "a.tflite", images=images / "ash", check=3).checked == 3


def test_a_group_stays_on_one_side_of_the_validation(cache, in_pairs):
    rows = np.arange(10, 60)
    fit, held = hold_out(cache, rows, in_pairs, 3)
    assert sorted([*fit, *held]) == rows.tolist()
    assert 0 < len(held) < len(fit)
    assert not set(in_pairs.ids[fit]) & set(in_pairs.ids[held])
    assert set(cache.labels[held]) == set(cache.labels[fit]) == {0, 1, 2}
    assert [part.tolist() for part in hold_out(cache, rows, in_pairs, 3)] == [fit.tolist(), held.tolist()]
    assert hold_out(cache, rows, in_pairs, 4)[1].tolist() != held.tolist()


def test_a_class_of_one_group_cannot_be_validated_on(cache):
    groups = Groups(list(cache.paths), [path.split("/")[0] for path in cache.paths], "file")
    with pytest.raises(SplitError, match=r"at least 2 groups in every class .* ash has 1"):
        hold_out(cache, np.arange(len(cache)), groups, 0)


def test_the_training_images_are_known_by_content(cache, starts):
    from embedonce.evaluate.splits.plan import make_split

    split = make_split(cache, "random", 0)
    metadata = cache_metadata(cache, split.train)
    rows, notes = training_rows(cache, ModelFile(Path("a.keras"), metadata))
    assert rows.tolist() == split.train.tolist()
    assert not notes
    cut = metadata | {"trained_on": metadata["trained_on"] + "00" * 8}
    assert "1 of the 58 images" in training_rows(cache, ModelFile(Path("a.keras"), cut))[1][0]
    with pytest.raises(ModelFileError, match="trained on none of the images"):
        training_rows(cache, ModelFile(Path("a.keras"), {"trained_on": "00" * 8}))
    with pytest.raises(ModelFileError, match="does not say which images"):
        training_rows(cache, ModelFile(Path("a.keras"), {}))


def test_an_image_that_changed_is_named_and_nothing_is_written(starts, images, tmp_path):
    copy = shutil.copytree(images, tmp_path / "images")
    for path in sorted((copy / "ash").iterdir()):
        shutil.copy(next((copy / "birch").glob(f"*{path.suffix}")), path)
    with pytest.raises(ImageError, match=r"the image ash/0.*has changed since it was embedded; bring it back"):
        finetune(copy, starts["logreg"], tmp_path / "a.keras", unfreeze=3)
    shutil.rmtree(copy / "ash")
    with pytest.raises(ImageFolderError, match=r"must hold the 57 images .* are not there, such as ash/"):
        finetune(copy, starts["logreg"], tmp_path / "a.keras", unfreeze=3)
    assert not (tmp_path / "a.keras").exists()


@pytest.mark.parametrize(
    ("parameter", "value", "message"),
    [
        ("unfreeze", 0, "unfreeze of finetune must be an integer from 1 to 154, got 0"),
        ("unfreeze", 155, "from 1 to 154"),
        ("augment", "colour", "augment of finetune must be one of none, flips, dihedral, got 'colour'"),
        ("learning_rate", 0, "learning_rate of finetune must be a number between 0 and 1, got 0"),
        ("epochs", 0, "epochs of finetune must be an integer from 1"),
        ("patience", True, "patience of finetune must be an integer from 1"),
        ("batch_size", 1.5, "batch_size of finetune must be an integer from 1"),
        ("seed", -1, "seed of finetune must be an integer from 0"),
    ],
)
def test_a_wrong_parameter_says_what_is_allowed(starts, images, tmp_path, parameter, value, message):
    with pytest.raises(ParameterError, match=message):
        finetune(images, starts["logreg"], tmp_path / "a.keras", **{"unfreeze": 3, parameter: value})


def test_models_that_cannot_be_trained_on_are_refused(starts, images, cache, tmp_path):
    kernel = shutil.copy(starts["logreg"], tmp_path / "svm.keras")
    write_keras_metadata(kernel, read_metadata(kernel) | {"head": "svm", "parameters": {}})
    with pytest.raises(HeadError, match=r"head 'svm' cannot be fine-tuned, .* are softmax, logreg, linear-svm"):
        finetune(images, kernel, tmp_path / "a.keras", unfreeze=3)
    train(cache, "logreg", tmp_path / "alone.npz")
    with pytest.raises(ModelFileError, match="must be a .keras file of embedonce export"):
        finetune(images, tmp_path / "alone.npz", tmp_path / "a.keras", unfreeze=3)
    save_head(load_head(starts["softmax"]), tmp_path / "alone.keras", read_metadata(starts["softmax"]))
    with pytest.raises(ModelFileError, match="holds no backbone and head"):
        finetune(images, tmp_path / "alone.keras", tmp_path / "a.keras", unfreeze=3)
    with pytest.raises(ModelFileError, match="must end in .keras"):
        finetune(images, starts["logreg"], tmp_path / "a.tflite", unfreeze=3)
    with pytest.raises(ModelFileError, match="must end in .png or .svg"):
        finetune(images, starts["logreg"], tmp_path / "a.keras", unfreeze=3, curves=tmp_path / "a.txt")


@pytest.mark.slow
def test_a_loss_that_is_no_number_ends_the_training(starts, images, tmp_path, monkeypatch):
    monkeypatch.setattr(finetune_training, "_one_epoch", lambda *arguments: (float("nan"), 0.3))
    done = finetune(images, starts["logreg"], tmp_path / "a.keras", unfreeze=3)
    assert done.training.history["epoch"] == [0]
    assert "NaN or infinite. Use a smaller learning rate" in " ".join(done.notes)


@pytest.mark.slow
def test_the_command_says_what_it_did(starts, tuned, images, tmp_path, monkeypatch):
    path = tmp_path / "deep" / "tuned.keras"
    arguments = ["finetune", str(images), "--from", str(starts["softmax"]), "--unfreeze", "3", "-o", str(path)]
    result = CliRunner().invoke(main, [*arguments, "--epochs", "1"])
    assert result.exit_code == 0, result.output
    assert "Trained 3 layers of the backbone, Conv_1 to out_relu, and the head" in result.stdout
    assert "epoch 1 of 1: loss" in result.stderr
    assert path.with_name("tuned.history.png").is_file()
    result = CliRunner().invoke(main, [*arguments[:5], "900", "-o", str(path)])
    assert (result.exit_code, "from 1 to 154" in result.output) == (2, True)
    given = {}
    monkeypatch.setattr(
        "embedonce.evaluate.finetuning.finetune", lambda *files, **options: given.update(options) or tuned
    )
    curves = tmp_path / "c.svg"
    told = json.loads(CliRunner().invoke(main, [*arguments, "--curves", str(curves), "--json"]).stdout)
    assert given["curves"] == curves
    assert told == json.loads(json.dumps(tuned.to_dict()))
