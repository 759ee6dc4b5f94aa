from __future__ import annotations

import json
import re
import shutil
import zipfile
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
from embedonce.evaluate.comparison.evaluation import evaluate_model
from embedonce.evaluate.finetuning import cut_model as finetune_cut
from embedonce.evaluate.finetuning import image_reader as finetune_images
from embedonce.evaluate.finetuning import training_loop as finetune_training
from embedonce.evaluate.finetuning.run import finetune, unfreeze_last
from embedonce.evaluate.finetuning.validation_split import hold_out, training_rows
from embedonce.evaluate.models.exporting import export
from embedonce.evaluate.models.model_file import ModelFile
from embedonce.evaluate.models.prediction import predict
from embedonce.evaluate.models.training import train
from embedonce.evaluate.splits.groups import Groups
from embedonce.extract import Progress
from embedonce.extract.decoding import decode
from embedonce.heads.io.files import load_head, read_metadata, save_head
from embedonce.heads.io.keras_files import write_keras_metadata
from embedonce.heads.io.metadata import cache_metadata
from embedonce.heads.registry import make_head

SOFTMAX = {"epochs": 3, "learning_rate": 0.01}


@pytest.fixture(scope="module")
def starts(cache, tmp_path_factory):
    """Exported models by the name of their head; the last one is that of logreg, to be fitted again as another head."""
    folder = tmp_path_factory.mktemp("starts")
    paths = {name: folder / f"{name}.keras" for name in ("softmax", "logreg", "linear-svm")}
    train(cache, "softmax", paths["softmax"], parameters=SOFTMAX)  # a whole image model as it is trained
    train(cache, "logreg", folder / "logreg.npz", parameters={"C": 0.01})
    export(folder / "logreg.npz", paths["logreg"], check=2)
    margins = {"head": "linear-svm", "parameters": make_head("linear-svm").get_params(deep=False)}
    shutil.copy(paths["logreg"], paths["linear-svm"])
    write_keras_metadata(paths["linear-svm"], read_metadata(paths["logreg"]) | margins)
    return paths


@pytest.fixture(scope="module")
def tuned(starts, images, in_pairs, tmp_path_factory):
    """A softmax model with the last 10 layers trained so fast that it surely gets better."""
    path = tmp_path_factory.mktemp("tuned") / "tuned.keras"
    settings = {"learning_rate": 1e-3, "epochs": 3, "batch_size": 23, "groups": in_pairs}
    return finetune(images, starts["softmax"], path, unfreeze=10, **settings)


@pytest.fixture(scope="module")
def tuned_model(tuned):
    """The fine-tuned model as Keras loads it; no test changes it."""
    return import_keras().models.load_model(tuned.path, safe_mode=True)


def _layers(model):
    return {layer.name: layer.get_weights() for layer in model.get_layer("mobilenetv2").layers}


def _changed(before, after):
    return {
        name
        for name in before
        if any(not np.array_equal(one, two) for one, two in zip(before[name], after[name], strict=True))
    }


def test_only_unfrozen_layers_change(whole, tuned, tuned_model):
    changed = _changed(_layers(whole), _layers(tuned_model))
    assert changed == {"block_16_depthwise", "block_16_project", "Conv_1"}
    assert changed < set(tuned.layers)
    assert len(tuned.layers) == 10
    assert any("BN" in name for name in tuned.layers)


def test_it_is_never_worse_on_validation_than_the_start(tuned):
    history = tuned.training.history
    assert history["epoch"][0] == 0
    assert tuned.training.best == int(np.argmin(history["val_loss"])) > 0


def test_a_run_that_is_killed_leaves_its_best_epoch(tuned, starts, images, in_pairs, tmp_path, monkeypatch):
    train_one = finetune_training._one_epoch

    def killed_in_epoch_3(*arguments):
        if arguments[6] == 3:
            raise KeyboardInterrupt
        return train_one(*arguments)

    monkeypatch.setattr(finetune_training, "_one_epoch", killed_in_epoch_3)
    path = tmp_path / "tuned.keras"
    settings = {"learning_rate": 1e-3, "epochs": 3, "batch_size": 23, "groups": in_pairs}
    with pytest.raises(KeyboardInterrupt):
        finetune(images, starts["softmax"], path, unfreeze=10, **settings)
    assert [entry.name for entry in tmp_path.iterdir()] == ["tuned.keras"]
    about = read_metadata(path)["finetuned"]
    losses = tuned.training.history["val_loss"][:3]
    assert about["best_epoch"] == int(np.argmin(losses)) > 0
    assert about["history"]["val_loss"] == pytest.approx(losses[: about["best_epoch"] + 1], rel=1e-4)
    predicted = predict(path, images / "ash" / "000.jpg")[0]
    assert predicted.classes[0][1] > 0.3


class Activations:
    """Activations of four images, in place of those of frozen layers."""

    def batches(self, rows, size, views=None):
        yield np.arange(len(rows)), np.eye(4, dtype=np.float32)[rows]


@pytest.fixture
def train_layer(monkeypatch):
    """Return a function that trains one layer where an epoch's losses are as given: history, layer and its weights."""

    def run(losses, validation_losses, **settings):
        keras = import_keras()
        layer = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2, activation="softmax")])
        weights, real = [], finetune_training._one_epoch
        monkeypatch.setattr(finetune_training, "_one_epoch", lambda *given: (losses.pop(0), real(*given)[1]))
        monkeypatch.setattr(
            finetune_training,
            "_measure",
            lambda trainer, *given: weights.append(trainer.get_weights()[0]) or (validation_losses.pop(0), 1.0),
        )
        schedule = finetune_training.Schedule(learning_rate=0.5, **settings)
        rows, labels = np.arange(4), np.array([0, 1, 0, 1])
        done = finetune_training.train_epochs(
            layer, Activations(), rows, rows, labels, (0.7, 0.5), None, schedule, Progress()
        )
        return done, layer.get_weights()[0], weights

    return run


@pytest.mark.parametrize(
    ("losses", "patience", "best"),
    [([5, 3, 4, 4, 1], 2, 1), ([5, 6, 4], 1, 0), ([5, 5, 5, 4], 2, 0), ([5, 4, 3], 1, 2)],
)
def test_the_weights_of_the_best_epoch_are_kept(train_layer, losses, patience, best):
    done, kept, weights = train_layer([0.7] * 9, [*losses, 9, 9], epochs=9, patience=patience)
    history = done.history["val_loss"]
    assert history == [*losses, 9, 9][: best + 1 + patience]
    assert done.best == best == int(np.argmin(history))
    np.testing.assert_array_equal(kept, weights[best])
    assert not any(np.array_equal(kept, other) for number, other in enumerate(weights) if number != best)


@pytest.mark.parametrize("losses", [([float("nan")], [2, 1]), ([0.6], [2, float("inf")])])
def test_a_loss_that_is_no_number_ends_the_training(train_layer, losses):
    done, kept, weights = train_layer(*losses, epochs=9)
    assert done.history["epoch"] == [0]
    assert done.notes == ["the loss of epoch 1 was NaN or infinite. Use a smaller learning rate"]
    np.testing.assert_array_equal(kept, weights[0])
    assert not np.array_equal(kept, weights[1])


@pytest.fixture(scope="module")
def whole(starts):
    """A model whose layers tests unfreeze as they like: nothing is trained in it."""
    return import_keras().models.load_model(starts["softmax"], compile=False)


@pytest.mark.parametrize("number", [0, 155])
def test_no_more_layers_than_there_are_can_be_unfrozen(whole, number):
    with pytest.raises(ParameterError, match=f"unfreeze of finetune must be an integer from 1 to 154, got {number}"):
        unfreeze_last(whole.get_layer("mobilenetv2"), number)


@pytest.mark.parametrize("unfreeze", [1, 10, 31, 154])
def test_the_two_parts_of_a_model_are_the_model(whole, unfreeze):
    unfreeze_last(whole.get_layer("mobilenetv2"), unfreeze)
    frozen, trained = finetune_cut.cut_model(whole)
    pixels = np.random.default_rng(0).uniform(0, 255, (3, 64, 64, 3)).astype(np.float32)
    inside = frozen(pixels, training=False)
    np.testing.assert_allclose(trained(inside, training=False), whole(pixels, training=False), atol=1e-6)
    assert not frozen.trainable_variables
    assert len(trained.trainable_variables) == len(whole.trainable_variables)
    if unfreeze == 10:  # the last narrow place before it
        assert inside.shape == (3, 2, 2, 56)


ROWS, VIEW_TRANSFORMS = np.array([5, 3, 60, 7, 30]), np.array([0, 3, 1, 2, 0])


@pytest.fixture(scope="module")
def frozen_part(whole, images, cache):
    """The part before the last 10 layers, the same compiled, and what it makes of some views of images."""
    unfreeze_last(whole.get_layer("mobilenetv2"), 10)
    below, _ = finetune_cut.cut_model(whole)
    with finetune_images.ImageReader(cache, images) as reader:
        parts = [np.asarray(below(part)) for _, part in reader.batches(ROWS, 2, VIEW_TRANSFORMS)]
    return below, finetune_cut._traced(below), np.concatenate(parts)


@pytest.mark.parametrize("room", [0, 2**16, 2**30])
def test_every_view_passes_the_frozen_part_once(frozen_part, images, cache, monkeypatch, room):
    below, compiled, expected = frozen_part
    monkeypatch.setattr(finetune_cut, "ROOM", room)
    monkeypatch.setattr(finetune_cut, "_traced", {below: compiled}.get)  # compiled once for all
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
def read_and_done(starts, images, in_pairs, tmp_path_factory):
    """The rows that a fine-tuning without any trainable layer or step of weight reads, and what it returns."""
    read = set()
    right = finetune_images.read_unchanged

    def note(cache, root, row):
        read.add(row)
        return right(cache, root, row)

    path = tmp_path_factory.mktemp("watched") / "a.keras"
    settings = {"learning_rate": 1e-12, "augment": "none", "epochs": 2, "batch_size": 20, "groups": in_pairs}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(finetune_images, "read_unchanged", note)
        return read, finetune(images, starts["logreg"], path, unfreeze=2, **settings)


def test_the_images_of_the_test_part_are_never_read(read_and_done, starts, cache):
    read, done = read_and_done
    expected = np.flatnonzero(ModelFile.open(starts["logreg"]).training_mask(cache))
    assert sorted(read) == expected.tolist()
    assert len(read) < len(cache)
    assert done.images + done.validation_images == len(read)


def test_the_head_starts_without_the_validation_images(read_and_done, starts, cache, in_pairs):
    from sklearn.metrics import log_loss

    done = read_and_done[1]
    rows, _ = training_rows(cache, ModelFile.open(starts["logreg"]))
    fit, held = hold_out(cache, rows, in_pairs, 0)
    head = make_head("logreg", C=0.01).fit(cache.features[fit], cache.label_names[fit])
    start = log_loss(cache.label_names[held], head.predict_proba(cache.features[held]))
    assert done.training.history["val_loss"][0] == pytest.approx(start, abs=2e-3)
    assert "have no weights to train" in " ".join(done.notes)


def test_the_losses_of_epochs_are_means_over_their_images(read_and_done):
    done = read_and_done[1]
    assert done.images % 20  # the last batch is smaller
    for name in ("loss", "val_loss", "accuracy", "val_accuracy"):
        losses = done.training.history[name]
        assert losses == pytest.approx([losses[0]] * 3, abs=2e-3), name


@pytest.mark.slow
def test_plain_keras_and_predict_give_the_same(tuned, tuned_model, images, cache):
    rows = range(0, len(cache), 9)
    pixels = [decode((images / cache.paths[row]).read_bytes()) for row in rows]
    got = tuned_model.predict_on_batch(np.stack(pixels))
    said = predict(tuned.path, [images / cache.paths[row] for row in rows], top=3)
    names = read_metadata(tuned.path)["class_names"]
    shares = [[dict(one.classes)[name] for name in names] for one in said]
    np.testing.assert_allclose(shares, got, atol=1e-3)


def test_every_layer_of_the_file_is_of_keras_itself(tuned):
    with zipfile.ZipFile(tuned.path) as archive:
        text = archive.read("config.json").decode()
    modules = re.findall(r'"module": "([^"]*)"', text)
    assert len(modules) > 154
    assert {module.split(".")[0] for module in modules} == {"keras"}
    assert set(re.findall(r'"registered_name": ("[^"]*"|\w+)', text)) <= {"null", '"Functional"'}


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
def test_a_cache_of_the_tuned_backbone_is_taken(tuned, tuned_model, images, in_pairs, tmp_path, small, monkeypatch):
    import embedonce

    own = embedonce.extract_features(images, tmp_path / "own.h5", **small | {"weights": tuned.path})
    done = evaluate_model(tuned.path, own)
    assert done.left_out == tuned.images + tuned.validation_images
    right, moved = finetune_training._one_epoch, []

    def diverge(trainer, *rest):
        before = trainer.get_weights()
        right(trainer, *rest)
        moved.append(any(not np.array_equal(one, two) for one, two in zip(before, trainer.get_weights(), strict=True)))
        return float("nan"), 0.3

    monkeypatch.setattr(finetune_training, "_one_epoch", diverge)
    settings = {"epochs": 9, "learning_rate": 0.01, "groups": in_pairs, "cache": own}
    again = finetune(images, tuned.path, tmp_path / "again.keras", unfreeze=3, **settings)
    assert moved == [True]
    assert (again.training.best, again.training.history["epoch"]) == (0, [0])
    notes = " ".join(again.notes)
    assert "no epoch had a lower validation loss" in notes
    assert "NaN or infinite. Use a smaller learning rate" in notes
    loaded = import_keras().models.load_model(again.path, safe_mode=True)
    assert not _changed(_layers(tuned_model), _layers(loaded))


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


def test_an_image_that_changed_is_named_and_nothing_is_written(starts, whole, images, in_pairs, tmp_path, monkeypatch):
    monkeypatch.setattr(ModelFile, "keras_model", lambda file: whole)  # loaded once for all
    copy = shutil.copytree(images, tmp_path / "images")
    for path in sorted((copy / "ash").iterdir()):
        shutil.copy(next((copy / "birch").glob(f"*{path.suffix}")), path)
    with pytest.raises(ImageError, match=r"the image ash/0.*has changed since it was embedded; bring it back"):
        finetune(copy, starts["logreg"], tmp_path / "a.keras", unfreeze=3, groups=in_pairs)
    shutil.rmtree(copy / "ash")
    with pytest.raises(ImageFolderError, match=r"must hold the 57 images .* are not there, such as ash/"):
        finetune(copy, starts["logreg"], tmp_path / "a.keras", unfreeze=3, groups=in_pairs)
    assert not (tmp_path / "a.keras").exists()


@pytest.mark.parametrize(
    ("parameter", "value", "message"),
    [
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


def test_models_that_cannot_be_trained_on_are_refused(starts, images, tmp_path):
    kernel = shutil.copy(starts["logreg"], tmp_path / "svm.keras")
    write_keras_metadata(kernel, read_metadata(kernel) | {"head": "svm", "parameters": {}})
    with pytest.raises(HeadError, match=r"head 'svm' cannot be fine-tuned, .* are softmax, logreg, linear-svm"):
        finetune(images, kernel, tmp_path / "a.keras", unfreeze=3)
    with pytest.raises(ModelFileError, match="must be a .keras file of embedonce export"):
        finetune(images, starts["logreg"].with_suffix(".npz"), tmp_path / "a.keras", unfreeze=3)
    save_head(load_head(starts["softmax"]), tmp_path / "alone.keras", read_metadata(starts["softmax"]))
    with pytest.raises(ModelFileError, match="holds no backbone and head"):
        finetune(images, tmp_path / "alone.keras", tmp_path / "a.keras", unfreeze=3)
    with pytest.raises(ModelFileError, match="must end in .keras"):
        finetune(images, starts["logreg"], tmp_path / "a.tflite", unfreeze=3)
    with pytest.raises(ModelFileError, match="must end in .png or .svg"):
        finetune(images, starts["logreg"], tmp_path / "a.keras", unfreeze=3, curves=tmp_path / "a.txt")


@pytest.mark.slow
def test_the_command_says_what_it_did(starts, tuned, images, in_pairs, tmp_path, monkeypatch):
    path = tmp_path / "deep" / "tuned.keras"
    in_pairs.save(tmp_path / "groups.csv")
    # margins that were calibrated are trained on too
    arguments = ["finetune", str(images), "--from", str(starts["linear-svm"]), "--unfreeze", "3", "-o", str(path)]
    arguments += ["--groups", str(tmp_path / "groups.csv")]
    result = CliRunner().invoke(main, [*arguments, "--epochs", "2", "--augment", "dihedral"])
    assert result.exit_code == 0, result.output
    assert "Trained 3 layers of the backbone, Conv_1 to out_relu, and the head" in result.stdout
    assert "epoch 1 of 2: loss" in result.stderr
    assert path.with_name("tuned.history.png").is_file()
    metadata = read_metadata(path)
    assert (metadata["head"], metadata["finetuned"]["augment"]) == ("linear-svm", "dihedral")
    history, best = metadata["finetuned"]["history"], metadata["finetuned"]["best_epoch"]
    assert history["val_loss"][best] <= history["val_loss"][0]
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
