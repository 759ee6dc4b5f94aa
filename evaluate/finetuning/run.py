"""Fine-tuning of the last layers of an exported model's backbone, on the images that it was trained on."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from ..._keras import import_keras
from ...cache import FeatureCache, counted, display, make_folder, refuse_input_as_output
from ...errors import HeadError, ImageFolderError, ModelFileError, ModelSuffixError, check_int, check_path
from ...extract import Progress, as_progress, has_file
from ...extract.backbone import weights_of, weights_sha256
from ...heads import make_head, weights_of_classes
from ...heads.io import dense_softmax, keras_head, read_parameters
from ..duplicates import groups_for
from ..models import ModelFile, ReferencePredictions, check_order, save_image_model
from ..scoring import fit_head
from ..shared import evenly_spaced_indices, history_figure, replacing_files, require_folder, try_figure
from ..splits import GroupsLike, Split
from .cut_model import FrozenPart, cut_model
from .image_reader import AUGMENTATIONS, ImageReader, Indices
from .training_loop import Schedule, TrainingHistory, cross_entropy, train_epochs
from .validation_split import hold_out, training_rows

HEADS = ("softmax", "logreg", "linear-svm")
CHECKED_IMAGES = 16
STILL_TRUE = ("embedonce", "head", "parameters", "class_names", "weights", "split", "trained_on")
"""Metadata of the initial model that are also true of the fine-tuned one, unlike its scores."""


@dataclass(frozen=True)
class FineTuned:
    """Result of fine-tuning.

    Attributes
    ----------
    path : Path
        The model file.
    curves : Path or None
        Figure of loss and accuracy per epoch; None if it could not be drawn.
    layers : list of str
        The unfrozen layers at the end of the backbone; batch normalization among them stayed frozen.
    parameters : int
        Number of trained weights, those of the head included.
    images, validation_images : int
    training : TrainingHistory
    notes : list of str
    """

    path: Path
    curves: Path | None
    layers: list[str]
    parameters: int
    images: int
    validation_images: int
    training: TrainingHistory
    notes: list[str]

    def to_dict(self) -> dict[str, Any]:
        """Return the values JSON-serialisable."""
        return {
            "path": str(self.path),
            "curves": None if self.curves is None else str(self.curves),
            "layers": self.layers,
            "trainable_parameters": self.parameters,
            "images": self.images,
            "validation_images": self.validation_images,
            "best_epoch": self.training.best,
            "history": self.training.history,
            "seconds": self.training.seconds,
            "notes": self.notes,
        }


def finetune(
    images: Path | str,
    model: Path | str,
    path: Path | str,
    *,
    unfreeze: int,
    cache: FeatureCache | Path | str | None = None,
    groups: GroupsLike | None = None,
    augment: Literal["none", "flips", "dihedral"] = "flips",
    learning_rate: float = 1e-5,
    epochs: int = 10,
    patience: int = 2,
    batch_size: int = 32,
    seed: int = 0,
    curves: Path | str | None = None,
    progress: Progress | None = None,
) -> FineTuned:
    """Train the last layers of an exported model's backbone, and its head, on the images that it was trained on.

    A fifth of these images is for validation, with each group on one side; other images are not read. The head is first
    fitted again without the validation images, from the cached features, since their loss would be too low otherwise.
    The weights of the epoch with the lowest validation loss are kept; epoch 0, before training, is one of them. Each
    better epoch is written to ``path`` at once, so that a run that is killed leaves its best one.

    Parameters
    ----------
    images : path-like
        The image folder or archive.
    model : path-like
        Image model (``.keras``) of ``embedonce export`` or, for the softmax head, ``embedonce train``. Its head must be
        softmax, logreg or linear-svm.
    path : path-like
        The file to write (``.keras``); plain ``keras.models.load_model`` opens it.
    unfreeze : int
        Number of layers at the end of the backbone to train. Batch normalization stays frozen.
    cache : FeatureCache or path-like, default=None
        The cache that the model was trained on; by default at the path in the model file.
    groups : path-like, Groups, mapping, array-like or Series, default=None
        See `compare`.
    augment : {"none", "flips", "dihedral"}, default="flips"
        Random augmentation of each training image in each epoch: nothing; mirroring left to right and upside down; or
        any of the eight symmetries of the square.
    learning_rate : float, default=1e-5
        Learning rate of Adam.
    epochs : int, default=10
        Largest number of epochs.
    patience : int, default=2
        Training stops after this many epochs without a lower validation loss.
    batch_size : int, default=32
    seed : int, default=0
        Random seed of the validation part, the order and the augmentation.
    curves : path-like, default=None
        Figure of loss and accuracy, ``.png`` or ``.svg``; by default ``NAME.history.png`` next to the model.
    progress : Progress, default=None

    Returns
    -------
    FineTuned

    Raises
    ------
    ParameterError
        When a parameter is invalid.
    HeadError
        When the head cannot be fine-tuned.
    ModelFileError
        When the model cannot be read, or the written file gives other predictions. The file at ``path`` is kept.
    CacheError, FingerprintError
        When the cache is missing or has another fingerprint.
    SplitError
        When a class has too few images to validate on.
    ImageError, ImageFolderError
        When images are missing or have changed.
    OutputError
        When a file cannot be written.

    See Also
    --------
    embedonce.export : Write the image model to start from.
    embedonce.compare : Test the result with ``image_models``.

    Examples
    --------
    >>> import embedonce as eo
    >>> eo.finetune("photos", "start.keras", "tuned.keras", unfreeze=28)  # doctest: +SKIP
    """
    check_order("finetune", model, "IMAGES", images)
    path, root = check_path("path", "finetune", path), check_path("images", "finetune", images)
    progress = as_progress(progress, "finetune")
    curves_path = (
        check_path("curves", "finetune", curves) if curves is not None else path.with_name(f"{path.stem}.history.png")
    )
    schedule = Schedule(augment, learning_rate, epochs, patience, batch_size, seed)
    _check_names(path, curves_path)
    require_folder(root)
    start = ModelFile.open(model)
    metadata = start.metadata
    head = _unfitted_head(start)
    opened = start.open_cache(cache, "finetune").labelled("finetune")
    rows, notes = training_rows(opened, start)
    whole = _load(start)
    layers = unfreeze_last(whole.get_layer("mobilenetv2"), unfreeze)
    row_groups, group_notes = groups_for(opened, groups, None, progress)
    fit, validation = hold_out(opened, rows, row_groups, seed)
    _require_files(opened, root, np.concatenate([fit, validation]))
    for written in (path, curves_path):
        refuse_input_as_output(written, start.path, opened.path, root, groups)
    make_folder(path.parent, "the model")  # before the work, not after it
    make_folder(curves_path.parent, "the curves")

    class_names = [str(name) for name in metadata["class_names"]]
    fit_head(head, opened, Split(fit, np.zeros(0, np.intp), "none"), row_groups)
    if [str(name) for name in head.classes_] != class_names:
        raise ModelFileError(
            f"{start.name} knows the classes {', '.join(map(display, class_names))}; the images that it was trained "
            f"on hold only {', '.join(display(str(name)) for name in head.classes_)}. Give the cache that it was "
            "trained on with --cache CACHE"
        )
    whole.get_layer("head").set_weights(keras_head(head).get_weights())
    index = {name: number for number, name in enumerate(class_names)}  # -1: a class that the model does not know
    labels = np.array([index.get(opened.class_names[label], -1) for label in opened.labels], np.intp)
    initial = cross_entropy(head.predict_proba(opened[fit]), labels[fit])
    class_weight = head.get_params(deep=False).get("class_weight")
    weights = None if class_weight is None else weights_of_classes(class_weight, head.classes_, labels[fit])
    settings = asdict(schedule)
    settings["random_state"] = settings.pop("seed")  # its name in files
    parameters = sum(int(np.prod(variable.shape)) for variable in whole.trainable_variables)

    def document(training: TrainingHistory) -> dict[str, Any]:
        about = {
            "from": str(Path(model).resolve()),
            "from_weights_sha256": metadata["fingerprint"].get("weights_sha256"),
            "cache_path": None if opened.source is None else str(opened.source.resolve()),
            "unfrozen": len(layers),
            "layers": layers,
            "trainable_parameters": parameters,
            **settings,
            "images": len(fit),
            "validation_images": len(validation),
            "best_epoch": training.best,
            "history": training.history,
            "seconds": training.seconds,
        }
        return _metadata(metadata, whole, about)

    def commit(training: TrainingHistory) -> None:
        save_image_model(whole, path, None, document(training), _trained_head(head, whole))

    with ImageReader(opened, root) as reader:
        below, above = cut_model(whole)
        frozen = FrozenPart(below, reader, AUGMENTATIONS[augment] * len(fit) + len(validation))
        bar = progress
        training = train_epochs(above, frozen, fit, validation, labels, initial, weights, schedule, bar, commit)
        reference = _reference_of(above, frozen, reader, opened, validation)
    if not training.history["epoch"]:
        raise ModelFileError(f"{start.name} gives NaN for the images that it was trained on. Export it again")
    if not any(layer.trainable_variables for layer in whole.get_layer("mobilenetv2").layers):
        notes.append(
            f"the last {counted(unfreeze, 'layer(s) (has|have)')} no weights to train, so the head alone was trained"
        )
    if training.best == 0:
        notes.append(
            "no epoch had a lower validation loss than the start, so the backbone in the file is not changed. Try more "
            "layers or another learning rate, or keep the frozen backbone"
        )
    whole.get_layer("mobilenetv2").trainable = False  # as in every other image model
    notes += group_notes + training.notes
    with replacing_files(path.parent, "the model", path.name) as temporary:
        save_image_model(whole, temporary / path.name, reference, document(training), _trained_head(head, whole))
        beside = temporary if curves_path.parent == path.parent else curves_path.parent
        figure_notes = try_figure(lambda: history_figure({path.stem: training.history}), beside / curves_path.name)
    drawn = None if figure_notes else curves_path
    return FineTuned(path, drawn, layers, parameters, len(fit), len(validation), training, notes + figure_notes)


def unfreeze_last(backbone: Any, count: int) -> list[str]:
    """Make the last layers of a backbone trainable, but for batch normalization, and return their names."""
    layers = backbone.layers
    check_int("unfreeze", "finetune", count, 1, len(layers))
    backbone.trainable = True
    normalization = import_keras().layers.BatchNormalization
    for place, layer in enumerate(layers):
        layer.trainable = place >= len(layers) - count and not isinstance(layer, normalization)
    return [str(layer.name) for layer in layers[-count:]]


def _check_names(path: Path, curves: Path) -> None:
    if path.suffix.lower() != ".keras":
        raise ModelSuffixError(f"a fine-tuned model must end in .keras, got {display(str(path))}")
    if curves.suffix.lower() not in (".png", ".svg"):
        raise ModelSuffixError(f"the curves of a fine-tuning must end in .png or .svg, got {display(str(curves))}")


def _unfitted_head(model: ModelFile) -> Any:
    """Return the head of a model as it was before it was fitted."""
    metadata, name = model.metadata, model.metadata.get("head")
    needed = ("fingerprint", "class_names", "head")
    if model.path.suffix.lower() != ".keras" or not all(map(metadata.get, needed)):
        raise ModelFileError(
            f"parameter model of finetune must be a .keras file of embedonce export, from image to class, got "
            f"{model.name}. Export it first"
        )
    parameters = metadata.get("parameters")
    if name not in HEADS:
        raise HeadError(
            f"head {name!r} cannot be fine-tuned, got {model.name}. The heads that can be, since they are one dense "
            f"layer, are {', '.join(HEADS)}"
        )
    if parameters is None and name == "softmax":
        parameters = read_parameters(model.path)
    if not isinstance(parameters, dict):
        raise ModelFileError(f"{model.name} does not say with which parameters its head was trained; export it again")
    return make_head(name, **parameters)


def _require_files(cache: FeatureCache, root: Path, rows: Indices) -> None:
    missing = [path for row in rows.tolist() if not has_file(root, os.fsencode(path := cache.paths[row]))]
    if missing:
        raise ImageFolderError(
            f"{display(str(root))} must hold the {len(rows):,} images that the model was trained on, but "
            f"{len(missing):,} are not there, such as {display(missing[0])}; give the folder that was embedded"
        )


def _load(model: ModelFile) -> Any:
    whole = model.keras_model()
    if not {"mobilenetv2", "scaling", "pooling", "head"} <= {layer.name for layer in getattr(whole, "layers", ())}:
        raise ModelFileError(
            f"parameter model of finetune must be a .keras file from image to class, but {model.name} holds no "
            "backbone and head. Write one with embedonce export"
        )
    return whole


def _reference_of(
    above: Any, frozen: FrozenPart, reader: ImageReader, cache: FeatureCache, validation: Indices
) -> ReferencePredictions:
    """Return predictions of the trained model for a few images, which the written file must give for their pixels."""
    rows = validation[evenly_spaced_indices(len(validation), CHECKED_IMAGES)]
    expected = np.concatenate([above.predict_on_batch(inside) for _, inside in frozen.batches(rows, len(rows))])
    return ReferencePredictions([cache.paths[row] for row in rows], [reader.whole(int(row)) for row in rows], expected)


def _metadata(start: dict[str, Any], whole: Any, about: dict[str, Any]) -> dict[str, Any]:
    """Return the metadata of the file: those of the start that still hold, and the new backbone's fingerprint."""
    # the head inside fits a cache that is extracted with --weights of this file, and no other
    inherited = {name: start[name] for name in STILL_TRUE if name in start}
    digest = weights_sha256(weights_of(whole.get_layer("mobilenetv2")))
    return inherited | {"fingerprint": start["fingerprint"] | {"weights_sha256": digest}, "finetuned": about}


def _trained_head(head: Any, whole: Any) -> Any:
    """Return the dense layer of a trained image model as a softmax head, with the parameters of one."""
    parameters = head.get_params(deep=False) if head.head_name == "softmax" else {}
    kernel, bias = whole.get_layer("head").get_weights()
    return dense_softmax(kernel, bias, head.classes_, parameters, {})
