"""The epochs of a fine-tuning: images read and turned as they are needed, early stopping from epoch 0 on."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..cache.errors import HeadError, ImageError
from ..cache.names import display
from ..cache.quiet import import_keras
from ..cache.reader import FeatureCache
from ..extract.decode import decode, resize_into
from ..extract.processors import available_processors
from ..extract.progress import Progress
from ..extract.recipe import least_size
from .images import read_unchanged

Indices = npt.NDArray[np.intp]
Pixels = npt.NDArray[np.float32]

AUGMENTATIONS = {"none": 1, "flips": 4, "dihedral": 8}
"""Names, and how many views of an image each has: see :func:`turned`."""

_AHEAD = 2  # batches that are read while one is trained on


@dataclass(frozen=True)
class Schedule:
    """How to train.

    Attributes
    ----------
    augment : {"none", "flips", "dihedral"}
        What happens to a training image, anew in every epoch: nothing; mirrored left to right and upside down, each
        with a chance of one half; or any of the eight symmetries of the square, quarter turns too.
    learning_rate : float
        Adam's.
    epochs, patience, batch_size : int
        At most so many epochs; so many in a row without a lower validation loss end the training.
    random_state : int
        Of order and augmentation, and of the validation part. From 0 to 2**32 - 1.
    """

    augment: str = "flips"
    learning_rate: float = 1e-5
    epochs: int = 10
    patience: int = 2
    batch_size: int = 32
    random_state: int = 0

    def check(self) -> None:
        """Check every value.

        Raises
        ------
        HeadError
            Naming the parameter.
        """
        if self.augment not in AUGMENTATIONS:
            _refuse("augment", f"one of {', '.join(AUGMENTATIONS)}", self.augment)
        rate = self.learning_rate
        if isinstance(rate, bool) or not isinstance(rate, (int, float)) or not 0 < rate < 1:
            _refuse("learning_rate", "a number above 0 and below 1", rate)
        for name, least in (("epochs", 1), ("patience", 1), ("batch_size", 1), ("random_state", 0)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or not least <= value < 2**32:
                _refuse(name, f"a whole number from {least} to {2**32 - 1}", value)


@dataclass
class Course:
    """How a training went.

    Attributes
    ----------
    history : dict of str to list of float
        ``epoch``, from 0, the state before training; ``loss`` and ``accuracy`` on the training images, later than
        epoch 0 averaged over the epoch's steps, with augmentation and dropout; ``val_loss`` and ``val_accuracy`` on the
        validation images after the epoch, without.
    best : int
        The epoch of the lowest validation loss, the earliest of equal ones, whose weights the model has.
    seconds : float
    notes : list of str
    """

    history: dict[str, list[float]]
    best: int
    seconds: float
    notes: list[str] = field(default_factory=list)


def turned(pixels: Pixels, view: int) -> Pixels:
    """Return one of the eight symmetries of a square image.

    Parameters
    ----------
    pixels : ndarray of float32, shape (s, s, 3)
    view : int
        The sum of 1, mirrored left to right; 2, upside down; 4, rows and columns exchanged (before the others).
    """
    if view & 4:
        pixels = pixels.swapaxes(0, 1)
    if view & 2:
        pixels = pixels[::-1]
    if view & 1:
        pixels = pixels[:, ::-1]
    return pixels


class ImageReader:
    """Reads images of a cache at the backbone's size, as they were read to be embedded; a context manager.

    Parameters
    ----------
    cache : FeatureCache
    root : Path
        The image folder.
    """

    def __init__(self, cache: FeatureCache, root: Path) -> None:
        self._cache = cache
        self._root = root
        self._least = least_size(cache.fingerprint)
        self._side = int(cache.fingerprint["image_size"])
        self._threads = ThreadPoolExecutor(available_processors())

    def __enter__(self) -> ImageReader:
        return self

    def __exit__(self, *exc: object) -> None:
        self._threads.shutdown(cancel_futures=True)

    def whole(self, row: int) -> npt.NDArray[np.uint8]:
        """Return an image in its own size: uint8, shape (height, width, 3).

        Raises
        ------
        ImageError
            When it is gone or is not the one that was embedded.
        """
        try:
            return decode(read_unchanged(self._cache, self._root, row), self._least)
        except ImageError as error:
            raise ImageError(
                f"the image {display(self._cache.paths[row])} in {display(str(self._root))}: {error}; bring it back, "
                "or run embedonce extract again and train on what is there"
            ) from error

    def batches(self, rows: Indices, size: int, views: Indices | None = None) -> Iterator[tuple[Indices, Pixels]]:
        """Yield the images of rows in order, up to ``size`` at once, turned as ``views`` says.

        Yields
        ------
        places : ndarray of intp, shape (b,)
            Positions in ``rows``.
        pixels : ndarray of float32, shape (b, s, s, 3)
            0 to 255.
        """
        starts = range(0, len(rows), size)
        waiting: deque[tuple[Indices, Pixels, list[Future[None]]]] = deque()

        def ask(start: int) -> None:
            places = np.arange(start, min(start + size, len(rows)))
            out = np.empty((len(places), self._side, self._side, 3), np.float32)
            view = np.zeros(len(places), np.intp) if views is None else views[places]
            jobs = [
                self._threads.submit(self._read_into, out[number], int(rows[place]), int(view[number]))
                for number, place in enumerate(places)
            ]
            waiting.append((places, out, jobs))

        for number in range(len(starts) + _AHEAD):
            if number < len(starts):
                ask(starts[number])
            if number >= _AHEAD and waiting:
                places, out, jobs = waiting.popleft()
                for job in jobs:
                    job.result()
                yield places, out

    def _read_into(self, out: Pixels, row: int, view: int) -> None:
        resize_into(out, self.whole(row))
        if view:
            out[:] = turned(out.copy(), view)


def train_epochs(
    model: Any,
    reader: ImageReader,
    fit: Indices,
    held: Indices,
    labels: Indices,
    start: tuple[float, float],
    weights: npt.NDArray[np.float64] | None,
    schedule: Schedule,
    progress: Progress,
) -> Course:
    """Train what is trainable of an image model, and leave it with the weights of its best epoch.

    Parameters
    ----------
    model : keras.Model
        From images of the backbone's size to probabilities; not compiled, which it is not afterwards either.
    reader : ImageReader
    fit, held : ndarray of intp
        Rows to train on and to validate on.
    labels : ndarray of intp, shape (n,)
        The output of the class of every row of the cache.
    start : tuple of float
        Loss and accuracy of epoch 0 on the training images.
    weights : ndarray of float64, shape (k,), optional
        Of the classes in the training loss.
    schedule : Schedule
    progress : Progress

    Raises
    ------
    ImageError
        When an image is gone or has changed.
    """
    keras = import_keras()
    # a model of its own around the same layers, so that no optimizer is in the file
    trainer = keras.Model(model.inputs, model.outputs)
    trainer.compile(
        keras.optimizers.Adam(schedule.learning_rate),
        "sparse_categorical_crossentropy",
        metrics=["accuracy"],
        jit_compile=False,  # on processors XLA takes minutes to compile this
    )
    begin = time.perf_counter()
    history: dict[str, list[float]] = {name: [] for name in ("epoch", "loss", "accuracy", "val_loss", "val_accuracy")}
    notes: list[str] = []
    best, kept = 0, _weights_of(trainer)
    progress.start(len(held) + schedule.epochs * (len(fit) + len(held)), "fine-tuning")
    try:
        for epoch in range(schedule.epochs + 1):
            loss, accuracy = (
                start if epoch == 0 else _one_epoch(trainer, reader, fit, labels, weights, schedule, epoch, progress)
            )
            val_loss, val_accuracy = _measure(trainer, reader, held, labels, schedule.batch_size, progress)
            if not np.isfinite([loss, val_loss]).all():
                notes.append(f"the loss of epoch {epoch} was no number any more; take a smaller learning rate")
                break
            for name, value in zip(history, (epoch, loss, accuracy, val_loss, val_accuracy), strict=True):
                history[name].append(value)
            progress.say(
                f"epoch {epoch} of {schedule.epochs}: loss {loss:.4f}, accuracy {accuracy:.4f}; validation loss "
                f"{val_loss:.4f}, accuracy {val_accuracy:.4f}"
            )
            if val_loss < history["val_loss"][best]:
                best, kept = epoch, _weights_of(trainer)
            if epoch - best >= schedule.patience:
                break
    finally:
        progress.close()
    for variable, values in zip(trainer.trainable_variables, kept, strict=True):
        variable.assign(values)
    return Course(history, best, time.perf_counter() - begin, notes)


def cross_entropy(probabilities: npt.NDArray[Any], true: Indices) -> tuple[float, float]:
    """Return mean loss and accuracy of probabilities, shape (n, k), for the true classes, shape (n,)."""
    shares = probabilities[np.arange(len(true)), true].astype(np.float64)
    # a NaN stays one
    loss = -np.log(np.clip(shares, 1e-7, 1.0)).mean()
    return float(loss), float((probabilities.argmax(axis=1) == true).mean())


def _one_epoch(
    trainer: Any,
    reader: ImageReader,
    fit: Indices,
    labels: Indices,
    weights: npt.NDArray[np.float64] | None,
    schedule: Schedule,
    epoch: int,
    progress: Progress,
) -> tuple[float, float]:
    """Train on every image once; return the mean loss and accuracy of the steps."""
    generator = np.random.default_rng([schedule.random_state, epoch])
    order = fit[generator.permutation(len(fit))]
    views = generator.integers(AUGMENTATIONS[schedule.augment], size=len(fit))
    loss = correct = 0.0
    for places, pixels in reader.batches(order, schedule.batch_size, views):
        true = labels[order[places]]
        sample_weight = None if weights is None else weights[true].astype(np.float32)
        trainer.reset_metrics()  # some versions of Keras add the steps up, others do not
        step = trainer.train_on_batch(pixels, true, sample_weight=sample_weight, return_dict=True)
        loss, correct = loss + len(places) * float(step["loss"]), correct + len(places) * float(step["accuracy"])
        progress.advance(len(places))
    return loss / len(fit), correct / len(fit)


def _measure(
    trainer: Any, reader: ImageReader, rows: Indices, labels: Indices, size: int, progress: Progress
) -> tuple[float, float]:
    answers = []
    for places, pixels in reader.batches(rows, size):
        answers.append(trainer.predict_on_batch(pixels))
        progress.advance(len(places))
    return cross_entropy(np.concatenate(answers), labels[rows])


def _weights_of(trainer: Any) -> list[npt.NDArray[Any]]:
    ops = import_keras().ops
    return [ops.convert_to_numpy(variable).copy() for variable in trainer.trainable_variables]


def _refuse(name: str, allowed: str, value: object) -> None:
    raise HeadError(f"parameter {name} of finetune must be {allowed}, got {value!r}")
