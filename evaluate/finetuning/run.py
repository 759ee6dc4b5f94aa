"""Fine-tuning: the last layers of the backbone trained on, from an exported model, on the images that it knows."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..._keras import import_keras
from ...cache import FeatureCache, display, make_folder
from ...errors import HeadError, ImageFolderError, ModelFileError, ModelSuffixError, check_int
from ...extract import Progress
from ...extract.backbone import weights_of, weights_sha256
from ...heads import make_head, weights_of_classes
from ...heads.io import dense_softmax, keras_head, read_parameters
from ..duplicates import groups_for
from ..models import ModelFile, ReferencePredictions, save_image_model
from ..scoring import fit_head
from ..shared import evenly_spaced_indices
from ..splits import GroupsLike, Split
from .cut_model import FrozenPart, cut_model
from .image_reader import AUGMENTATIONS, ImageReader, Indices
from .training_loop import Schedule, TrainingHistory, cross_entropy, train_epochs
from .validation_split import hold_out, training_rows

HEADS = ("softmax", "logreg", "linear-svm")
CHECKED_IMAGES = 16
STILL_TRUE = ("embedonce", "head", "parameters", "class_names", "weights", "split", "trained_on")
"""What a start says of itself that its fine-tuned model may say, too; not its scores, nor the look of its features."""


@dataclass
class FineTuned:
    """A fine-tuned model that was written.

    Attributes
    ----------
    path : Path
    curves : Path
        The figure of loss and accuracy per epoch.
    layers : list of str
        The last layers of the backbone, which were unfrozen; batch normalisation among them stayed frozen.
    parameters : int
        How many numbers were trained, those of the head among them.
    images, validation_images : int
        Trained and validated on.
    course : Course
        The history, and the best epoch, whose weights the file has.
    notes : list of str
    """

    path: Path
    curves: Path
    layers: list[str]
    parameters: int
    images: int
    validation_images: int
    course: TrainingHistory
    notes: list[str]

    def as_dict(self) -> dict[str, Any]:
        """Return it JSON-serialisable."""
        return {
            "path": str(self.path),
            "curves": str(self.curves),
            "layers": self.layers,
            "trainable_parameters": self.parameters,
            "images": self.images,
            "validation_images": self.validation_images,
            "best_epoch": self.course.best,
            "history": self.course.history,
            "seconds": self.course.seconds,
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
    augment: str = "flips",
    learning_rate: float = 1e-5,
    epochs: int = 10,
    patience: int = 2,
    batch_size: int = 32,
    random_state: int = 0,
    curves: Path | str | None = None,
    progress: Progress | None = None,
) -> FineTuned:
    """Train the last layers of an exported model's backbone, and its head, on the images that it was trained on.

    A fifth of these images is for validation, copies of one original and other groups on one side; images that the
    model was not trained on are not read. The head is first fitted again without the validation images, from the
    cached features, since on images that it has seen the validation would say nothing. The weights of the epoch of the
    lowest validation loss are kept, and epoch 0, before training, is one of them.

    Parameters
    ----------
    images : path-like
        The image folder.
    model : path-like
        Whole image model, ``.keras``, of ``embedonce export`` or, for the softmax head, ``embedonce train``, with a
        head softmax, logreg or linear-svm.
    path : path-like
        ``.keras``; plain ``keras.models.load_model`` opens it.
    unfreeze : int
        How many layers of the backbone, counted from its end. Batch normalisation stays frozen: its weights, and
        its mean and variance.
    cache : FeatureCache or path-like, optional
        Of the features that the model was trained on, by default where the model says.
    groups : Groups or path-like, optional
        See :func:`embedonce.compare`.
    augment, learning_rate, epochs, patience, batch_size, random_state
        See :class:`embedonce.evaluate.finetuning.training_loop.Schedule`.
    curves : path-like, optional
        ``.png`` or ``.svg``; by default ``NAME.history.png`` beside the model.
    progress : Progress, optional

    Returns
    -------
    FineTuned

    Raises
    ------
    ParameterError
        If a parameter has a value that it does not take.
    HeadError
        If the head cannot be fine-tuned.
    ModelFileError
        When the model is no such file, or the written one would not say what the trained one says. An older file at
        ``path`` stays as it was.
    CacheError, FingerprintError
        When the cache is gone or another one.
    SplitError
        When a class has too few images to validate on.
    ImageError, ImageFolderError
        When images are gone or have changed.
    OutputError
        When something cannot be written.
    """
    path = Path(path)
    drawn = Path(curves) if curves is not None else path.with_name(f"{path.stem}.history.png")
    schedule = Schedule(augment, learning_rate, epochs, patience, batch_size, random_state)
    _check_names(path, drawn)
    start = ModelFile.open(model)
    metadata = start.metadata
    head = _unfitted_head(start)
    opened = start.open_cache(cache)
    rows, notes = training_rows(opened, start)
    whole = _load(start)
    layers = unfreeze_last(whole.get_layer("mobilenetv2"), unfreeze)
    known, more = groups_for(opened, groups, None, progress)
    fit, held = hold_out(opened, rows, known, random_state)
    root = Path(images)
    _require_files(opened, root, np.concatenate([fit, held]))
    make_folder(path.parent, "the model")  # before the work, not after it
    make_folder(drawn.parent, "the curves")

    class_names = [str(name) for name in metadata["class_names"]]
    fit_head(head, opened, Split(fit, np.zeros(0, np.intp), "none"), known)
    if [str(name) for name in head.classes_] != class_names:
        raise ModelFileError(
            f"{start.name} knows the classes {', '.join(map(display, class_names))}; the images that it was trained "
            f"on hold only {', '.join(display(str(name)) for name in head.classes_)}. Give the cache that it was "
            "trained on with --cache CACHE"
        )
    whole.get_layer("head").set_weights(keras_head(head).get_weights())
    labels = _outputs(opened, class_names)
    initial = cross_entropy(head.predict_proba(opened[fit]), labels[fit])
    weights = _class_weights(head, labels[fit])
    with ImageReader(opened, root) as reader:
        below, above = cut_model(whole)
        frozen = FrozenPart(below, reader, AUGMENTATIONS[augment] * len(fit) + len(held))
        bar = progress if progress is not None else Progress()
        course = train_epochs(above, frozen, fit, held, labels, initial, weights, schedule, bar)
        proof = _proof(above, frozen, reader, opened, held)
    if not course.history["epoch"]:
        raise ModelFileError(f"{start.name} gives no number for the images that it was trained on; export it again")
    parameters = sum(int(np.prod(variable.shape)) for variable in whole.trainable_variables)
    if not any(layer.trainable_variables for layer in whole.get_layer("mobilenetv2").layers):
        notes.append(f"the last {unfreeze} layer(s) have no weights to train, so the head alone was trained")
    if course.best == 0:
        notes.append(
            "no epoch was better on the validation images than the start, so the file has the backbone of the start; "
            "try more layers, another learning rate, or stay with the frozen one"
        )
    about = {
        "from": str(Path(model).resolve()),
        "from_weights_sha256": metadata["fingerprint"]["weights_sha256"],
        "cache_path": None if opened.path is None else str(opened.path.resolve()),
        "unfrozen": len(layers),
        "layers": layers,
        "trainable_parameters": parameters,
        **asdict(schedule),
        "images": len(fit),
        "validation_images": len(held),
        "best_epoch": course.best,
        "history": course.history,
        "seconds": course.seconds,
    }
    whole.get_layer("mobilenetv2").trainable = False  # as in every other image model
    save_image_model(whole, path, proof, _metadata(metadata, whole, about), _trained_head(head, whole))
    _draw(course, path.stem, drawn)
    return FineTuned(path, drawn, layers, parameters, len(fit), len(held), course, notes + more + course.notes)


def unfreeze_last(backbone: Any, count: int) -> list[str]:
    """Make the last layers of a backbone trainable, but for batch normalisation, and return their names."""
    layers = backbone.layers
    check_int("unfreeze", "finetune", count, 1, len(layers))
    backbone.trainable = True
    normalisation = import_keras().layers.BatchNormalization
    for place, layer in enumerate(layers):
        layer.trainable = place >= len(layers) - count and not isinstance(layer, normalisation)
    return [str(layer.name) for layer in layers[-count:]]


def _check_names(path: Path, curves: Path) -> None:
    if path.suffix.lower() != ".keras":
        raise ModelSuffixError(f"a fine-tuned model must end in .keras, got {display(str(path))}")
    if curves.suffix.lower() not in (".png", ".svg"):
        raise ModelSuffixError(f"the curves of a fine-tuning must end in .png or .svg, got {display(str(curves))}")


def _unfitted_head(model: ModelFile) -> Any:
    """Return the head of a model as it was before it was fitted."""
    metadata, name = model.metadata, model.metadata.get("head")
    if model.path.suffix.lower() != ".keras" or not metadata.get("fingerprint") or not name:
        raise ModelFileError(
            f"parameter model of finetune must be a .keras file of embedonce export, from image to class, got "
            f"{model.name}. Export it first"
        )
    parameters = metadata.get("parameters")
    if parameters is None and name == "softmax":
        parameters = read_parameters(model.path)
    if not isinstance(parameters, dict):
        raise ModelFileError(f"{model.name} does not say with which parameters its head was trained; export it again")
    head = make_head(str(name), **parameters)
    kind = getattr(type(head), "head_name", name)
    if kind not in HEADS:
        raise HeadError(
            f"head {kind!r} cannot be fine-tuned, got {model.name}. The heads that can be, since they are one dense "
            f"layer, are {', '.join(HEADS)}"
        )
    return head


def _require_files(cache: FeatureCache, root: Path, rows: Indices) -> None:
    missing = [cache.paths[row] for row in rows.tolist() if not (root / cache.paths[row]).is_file()]
    if missing:
        raise ImageFolderError(
            f"{display(str(root))} must hold the {len(rows):,} images that the model was trained on, but "
            f"{len(missing):,} are not there, such as {display(missing[0])}; give the folder that was embedded"
        )


def _load(model: ModelFile) -> Any:
    whole = model.keras_model()
    if not {"mobilenetv2", "head"} <= {layer.name for layer in whole.layers}:
        raise ModelFileError(
            f"parameter model of finetune must be a .keras file from image to class, but {model.name} holds no "
            "backbone and head. Write one with embedonce export"
        )
    return whole


def _outputs(cache: FeatureCache, class_names: list[str]) -> Indices:
    """Return the output of the model for the class of every row; -1 for a class that it does not know."""
    index = {name: number for number, name in enumerate(class_names)}
    return np.array([index.get(cache.class_names[label], -1) for label in cache.labels], np.intp)


def _class_weights(head: Any, true: Indices) -> npt.NDArray[np.float64] | None:
    value = head.get_params(deep=False).get("class_weight")
    return None if value is None else weights_of_classes(value, head.classes_, true)


def _proof(
    above: Any, frozen: FrozenPart, reader: ImageReader, cache: FeatureCache, held: Indices
) -> ReferencePredictions:
    """Return what the trained model says of a few images; the written file must say it of their own pixels."""
    rows = held[evenly_spaced_indices(len(held), CHECKED_IMAGES)]
    expected = np.concatenate([above.predict_on_batch(inside) for _, inside in frozen.batches(rows, len(rows))])
    return ReferencePredictions([cache.paths[row] for row in rows], [reader.whole(int(row)) for row in rows], expected)


def _metadata(start: dict[str, Any], whole: Any, about: dict[str, Any]) -> dict[str, Any]:
    """Return what the file says of itself: of the start, what still holds.

    Its backbone is another one, so the fingerprint is that of the features which this backbone gives; the head inside
    fits a cache that is extracted with ``--weights`` of this file, and no other.
    """
    kept = {name: start[name] for name in STILL_TRUE if name in start}
    digest = weights_sha256(weights_of(whole.get_layer("mobilenetv2")))
    return kept | {"fingerprint": start["fingerprint"] | {"weights_sha256": digest}, "finetuned": about}


def _trained_head(head: Any, whole: Any) -> Any:
    """Return the dense layer of a trained image model as a softmax head, with the parameters of one."""
    parameters = head.get_params(deep=False) if head.head_name == "softmax" else {}
    kernel, bias = whole.get_layer("head").get_weights()
    return dense_softmax(kernel, bias, head.classes_, parameters, {})


def _draw(course: TrainingHistory, name: str, path: Path) -> None:
    from ..shared import history_figure, save_figure

    save_figure(history_figure({name: course.history}), path)
