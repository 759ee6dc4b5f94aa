"""Training loop of fine-tuning, with early stopping from epoch 0 on."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from ..._keras import import_keras
from ...errors import ParameterError, check_int, is_number
from ...extract import Progress
from .cut_model import FrozenPart
from .image_reader import AUGMENTATIONS, Indices


@dataclass(frozen=True)
class Schedule:
    """Parameters of a fine-tuning; see `finetune`."""

    augment: str = "flips"
    learning_rate: float = 1e-5
    epochs: int = 10
    patience: int = 2
    batch_size: int = 32
    seed: int = 0

    def __post_init__(self) -> None:
        if self.augment not in AUGMENTATIONS:
            raise ParameterError(
                f"parameter augment of finetune must be one of {', '.join(AUGMENTATIONS)}, got {self.augment!r}"
            )
        rate = self.learning_rate
        if not is_number(rate) or not 0 < rate < 1:
            raise ParameterError(f"parameter learning_rate of finetune must be a number between 0 and 1, got {rate!r}")
        object.__setattr__(self, "learning_rate", float(rate))
        for name, minimum in (("epochs", 1), ("patience", 1), ("batch_size", 1), ("seed", 0)):
            number = check_int(name, "finetune", getattr(self, name), minimum, 2**32 - 1)
            object.__setattr__(self, name, number)  # an int, since the model file has it as JSON


@dataclass(frozen=True)
class TrainingHistory:
    """Loss and accuracy per epoch."""

    history: dict[str, list[float]]  # epoch, from 0, the start; loss and accuracy; val_ for validation
    best: int  # first epoch with the lowest validation loss, whose weights the model has
    seconds: float
    notes: list[str] = field(default_factory=list)


def train_epochs(
    trainer: Any,
    frozen: FrozenPart,
    fit: Indices,
    validation: Indices,
    labels: Indices,
    start: tuple[float, float],
    weights: npt.NDArray[np.float64] | None,
    schedule: Schedule,
    progress: Progress,
    commit: Callable[[TrainingHistory], None] = lambda training: None,
) -> TrainingHistory:
    """Train the upper part of an image model, and leave it with the weights of its best epoch.

    `commit` is called, with the history so far, while the model has the weights of a new best epoch.
    """
    # fit, validation: rows of the cache; labels: the model's output for every row; start: loss and accuracy of epoch 0
    keras = import_keras()
    trainer.compile(
        keras.optimizers.Adam(schedule.learning_rate),
        "sparse_categorical_crossentropy",
        metrics=["accuracy"],
        jit_compile=False,  # on processors XLA takes minutes to compile this
    )
    begin = time.perf_counter()
    history: dict[str, list[float]] = {name: [] for name in ("epoch", "loss", "accuracy", "val_loss", "val_accuracy")}
    notes: list[str] = []
    best, best_weights = 0, _weights_of(trainer)
    progress.start(len(validation) + schedule.epochs * (len(fit) + len(validation)), "fine-tuning")
    try:
        for epoch in range(schedule.epochs + 1):
            loss, accuracy = (
                start if epoch == 0 else _one_epoch(trainer, frozen, fit, labels, weights, schedule, epoch, progress)
            )
            val_loss, val_accuracy = _measure(trainer, frozen, validation, labels, schedule.batch_size, progress)
            if not np.isfinite([loss, val_loss]).all():
                notes.append(f"the loss of epoch {epoch} was NaN or infinite. Use a smaller learning rate")
                break
            for name, value in zip(history, (epoch, loss, accuracy, val_loss, val_accuracy), strict=True):
                history[name].append(value)
            progress.say(
                f"epoch {epoch} of {schedule.epochs}: loss {loss:.4f}, accuracy {accuracy:.4f}; validation loss "
                f"{val_loss:.4f}, accuracy {val_accuracy:.4f}"
            )
            if val_loss < history["val_loss"][best]:
                best, best_weights = epoch, _weights_of(trainer)
                committing = time.perf_counter()
                commit(TrainingHistory(history, best, committing - begin, notes))
                begin += time.perf_counter() - committing
            if epoch - best >= schedule.patience:
                break
    finally:
        progress.close()
    for variable, values in zip(trainer.trainable_variables, best_weights, strict=True):
        variable.assign(values)
    return TrainingHistory(history, best, time.perf_counter() - begin, notes)


def cross_entropy(probabilities: npt.NDArray[Any], true: Indices) -> tuple[float, float]:
    """Return mean loss and accuracy of probabilities, shape (n, k), for the true classes, shape (n,)."""
    likelihoods = probabilities[np.arange(len(true)), true].astype(np.float64)
    # NaN stays NaN
    loss = -np.log(np.clip(likelihoods, 1e-7, 1.0)).mean()
    return float(loss), float((probabilities.argmax(axis=1) == true).mean())


def _one_epoch(
    trainer: Any,
    frozen: FrozenPart,
    fit: Indices,
    labels: Indices,
    weights: npt.NDArray[np.float64] | None,
    schedule: Schedule,
    epoch: int,
    progress: Progress,
) -> tuple[float, float]:
    """Train on every image once; return the mean loss and accuracy of the steps."""
    generator = np.random.default_rng([schedule.seed, epoch])
    order = fit[generator.permutation(len(fit))]
    views = generator.integers(AUGMENTATIONS[schedule.augment], size=len(fit))
    loss = correct = 0.0
    for places, activations in frozen.batches(order, schedule.batch_size, views):
        true = labels[order[places]]
        sample_weight = None if weights is None else weights[true].astype(np.float32)
        trainer.reset_metrics()  # some versions of Keras add the steps up, others do not
        step = trainer.train_on_batch(activations, true, sample_weight=sample_weight, return_dict=True)
        loss, correct = loss + len(places) * float(step["loss"]), correct + len(places) * float(step["accuracy"])
        progress.advance(len(places))
    return loss / len(fit), correct / len(fit)


def _measure(
    trainer: Any, frozen: FrozenPart, rows: Indices, labels: Indices, size: int, progress: Progress
) -> tuple[float, float]:
    outputs = []
    for places, activations in frozen.batches(rows, size):
        outputs.append(trainer.predict_on_batch(activations))
        progress.advance(len(places))
    return cross_entropy(np.concatenate(outputs), labels[rows])


def _weights_of(trainer: Any) -> list[npt.NDArray[Any]]:
    ops = import_keras().ops
    return [ops.convert_to_numpy(variable).copy() for variable in trainer.trainable_variables]
