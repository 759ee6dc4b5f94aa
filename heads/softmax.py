"""Softmax head: dropout and a dense layer, trained with Keras's arithmetic but without Keras."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from itertools import islice
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike
from sklearn.utils.validation import check_X_y, column_or_1d

from .._keras import import_keras
from ..cache import RowSource, row_blocks
from ..errors import HeadError
from .base import FLOATS, FeatureHead
from .calibration import Codes, folds
from .keras_model import dense_model
from .numerics import (
    Array,
    DenseSoftmax,
    Measured,
    glorot_uniform,
    is_source,
    one_thread,
    select_rows,
    shuffled_batches,
    take_rows,
)
from .parameters import ClassWeight, check_class_weight, check_number, check_random_state, weights_of_rows, wrong_value
from .predictors import SoftmaxPredictor

MEASURED_ROWS = 8192
# bound of the search for the number of epochs: 200 epochs of 10,000 rows, in batches of 100
MOST_ROWS, MOST_STEPS = 2_000_000, 20_000
# and in products of features, weights and rows: 24 epochs of 16,000 rows of 2,000 classes, a minute of processor time
MOST_PRODUCTS = 10**12
SECONDS_PER_PRODUCT = 6e-11  # on one AVX-512 processor
LEAST_EPOCHS = 5
# the search ends after 10 epochs, and a quarter of the best number of them, without a lower loss
PATIENCE, PATIENCE_FRACTION = 10, 0.25
# of losses: less is not an improvement
SMALLEST_IMPROVEMENT = 1e-3
# enough rows to measure a loss on
MOST_HELD_OUT = 10_000
# where no rows can be held out
UNMEASURED_STEPS = 200
# fall of the loss over the last fifth of the epochs, with which more epochs still help: on subsets of 100 to 12,000
# lung images, up to the number of epochs that was best on others
STILL_FALLING = 0.02
# with fewer, no weight is far from its initial value
LEAST_STEPS = 100


class SoftmaxHead(FeatureHead, SoftmaxPredictor):
    """Dropout, then a dense softmax layer, trained with Adam on the cross-entropy of the features.

    The training equals ``model.fit`` of a Keras model of these layers, up to rounding, except that every random number
    comes from `random_state`: initial weights, dropout and the order of the rows. Global generators are neither used
    nor changed (but for Keras's by Keras before 3.13, when `model_` is made).

    Parameters
    ----------
    epochs : int or "auto", default="auto"
        Passes over the training rows, at least 1. "auto" first trains on 80 % of the rows, until the loss of the others
        stops falling, 2,000,000 rows were passed, or 10**12 products of features, weights and rows were computed, as
        with hundreds of classes. Then it trains on all rows for the best number of steps. Without
        enough rows to hold some out, it takes 200 steps. The reference trains for 5 epochs.
    batch_size : int, default=100
        Rows per step, at least 1.
    dropout : float, default=0.2
        Fraction of the features that are set to 0 in each training step, from 0 to below 1.
    learning_rate : float, default=0.001
        Step size of Adam, above 0.
    random_state : int, default=0
        Seed, 0 to 2**32 - 1.
    class_weight : mapping or "balanced", default=None
        Weight of each class in the loss; a class that the mapping leaves out has weight 1. "balanced" gives every class
        the same weight in total. The "loss" of `history_` is then the weighted one.

    Attributes
    ----------
    coef_ : ndarray of shape (k, d), float32
        Weights of the dense layer, one row a class.
    intercept_ : ndarray of shape (k,), float32
        Bias of the dense layer.
    model_ : keras.Sequential
        The trained head as a Keras model named "head", made when it is first used: features (m, d) float32 in,
        probabilities (m, k) out.
    history_ : dict of str to list of float
        "loss" and "accuracy" of each epoch, averaged over its steps as in Keras (with dropout); with validation data
        also "val_loss" and "val_accuracy", after the epoch, without dropout.
    n_iter_ : int
        Number of epochs.
    converged_ : bool
        Whether more epochs would not help: "auto" found the lowest loss, or after at least 100 steps the loss of
        training fell by at most 0.02 over the last fifth of the epochs.

    See Also
    --------
    embedonce.make_head : Make any head by name.

    Examples
    --------
    >>> from embedonce import make_head
    >>> head = make_head("softmax", epochs=2).fit([[0.0], [1.0]], ["cat", "dog"])
    >>> len(head.history_["loss"])
    2
    """

    reads_rows = True
    derived = ("model_",)  # Keras's own pickles import TensorFlow when they are read

    def __init__(
        self,
        epochs: int | Literal["auto"] = "auto",
        *,
        batch_size: int = 100,
        dropout: float = 0.2,
        learning_rate: float = 1e-3,
        random_state: int = 0,
        class_weight: ClassWeight = None,
    ) -> None:
        self.epochs, self.batch_size = epochs, batch_size
        self.dropout, self.learning_rate = dropout, learning_rate
        self.random_state, self.class_weight = random_state, class_weight

    def cost_notice(self, n: int, d: int, k: int) -> str:
        """See `FeatureHead`."""
        epochs = self._most_epochs(n, d, k) if self.epochs == "auto" else int(self.epochs)
        searches = 2 if self.epochs == "auto" and epochs > LEAST_EPOCHS else 1
        minutes = searches * epochs * n * d * k * SECONDS_PER_PRODUCT / 60
        if minutes < 1:
            return ""
        fewer = f", of which the search tries up to {epochs:,}. epochs=5 takes less" if searches == 2 else ""
        return f"up to about {minutes:.0f} minutes of processor time for its epochs{fewer}"

    def _most_epochs(self, n: int, d: int, k: int) -> int:
        """Return the bound of the search for the number of epochs."""
        return min(MOST_ROWS // n, MOST_STEPS // -(-n // int(self.batch_size)), MOST_PRODUCTS // (n * d * k))

    def check_parameters(self) -> None:
        """See `FeatureHead`."""
        if isinstance(self.epochs, str):
            if self.epochs != "auto":
                raise wrong_value(self.head_name, "epochs", "'auto' or an integer of at least 1", self.epochs)
        else:
            check_number(self.head_name, "epochs", self.epochs, at_least=1, integer=True)
        check_number(self.head_name, "batch_size", self.batch_size, at_least=1, integer=True)
        check_number(self.head_name, "dropout", self.dropout, at_least=0, below=1)
        check_number(self.head_name, "learning_rate", self.learning_rate, above=0)
        check_random_state(self.head_name, self.random_state)

    def fit(
        self,
        X: ArrayLike | RowSource,
        y: ArrayLike,
        validation_data: tuple[ArrayLike | RowSource, ArrayLike] | None = None,
        sample_weight: ArrayLike | None = None,
        groups: ArrayLike | None = None,
    ) -> SoftmaxHead:
        """Train on features X (n, d), in float32, and labels y (n,), with weights (n,) in the loss; return the head.

        A `RowSource` is read once an epoch and never whole. Features (v, d) and labels (v,) of `validation_data` are
        only measured, after each epoch; `HeadError` if they hold other classes or another number of features. `groups`,
        shape (n,), keeps near-duplicates on the same side when "auto" holds rows out.
        """
        features, codes = self._start_fit(X, y)
        check_class_weight(self.head_name, self.class_weight, self.classes_)
        validation = None if validation_data is None else self._checked_validation(*validation_data)
        checked = self._checked_groups(groups, len(codes))
        given = self._row_weights(sample_weight, len(codes))
        weights = weights_of_rows(self.class_weight, self.classes_, codes, given)
        data = _float32(features), codes, None if weights is None else weights.astype(np.float32)
        with one_thread():  # batches are too small for more
            self._fit_on(data, validation, checked)
        return self

    def _fit_on(
        self,
        data: tuple[Array | RowSource, Codes, Array | None],
        validation: tuple[Array | RowSource, Array] | None,
        groups: Array | None,
    ) -> None:
        """Train on features, class indices and weights."""
        codes = data[1]
        epochs, stopped = self._best_epochs(*data, groups) if self.epochs == "auto" else (int(self.epochs), False)

        names = ["accuracy", "loss"] + (["val_accuracy", "val_loss"] if validation is not None else [])
        self.history_: dict[str, list[float]] = {name: [] for name in names}
        for layer, training in islice(self._train(*data), epochs):
            self.history_["accuracy"].append(training.correct / len(codes))
            self.history_["loss"].append(training.loss / len(codes))
            if validation is not None:
                measured = _measure(layer, *validation)
                self.history_["val_accuracy"].append(measured.correct / len(validation[1]))
                self.history_["val_loss"].append(measured.loss / len(validation[1]))
        self.coef_, self.intercept_ = np.ascontiguousarray(layer.kernel.T), layer.bias.copy()
        self.n_iter_ = epochs
        before, last, _ = loss_trend(self.history_["loss"])
        fall = (before - last) / (1.0 if data[2] is None else float(data[2].mean()))
        self.converged_ = stopped or (fall <= STILL_FALLING and epochs * self._steps(codes) >= LEAST_STEPS)

    @cached_property
    def model_(self) -> Any:
        """The trained head as a compiled Keras model named "head"; the first use imports Keras."""
        model = dense_model(self.coef_.T, self.intercept_, float(self.dropout))
        adam = import_keras().optimizers.Adam(float(self.learning_rate))
        model.compile(optimizer=adam, loss="sparse_categorical_crossentropy", metrics=["accuracy"])
        return model

    def _checked_validation(self, X: ArrayLike | RowSource, y: ArrayLike) -> tuple[Array | RowSource, Array]:
        """Return validation features, as float32 or as a source, and class indices."""
        features, labels = (X, column_or_1d(y)) if is_source(X) else check_X_y(X, y, dtype=FLOATS)
        if features.shape[1] != self.n_features_in_:
            raise HeadError(
                f"validation_data of head {self.head_name!r} must have {self.n_features_in_} features, "
                f"got {features.shape[1]}"
            )
        foreign = np.setdiff1d(labels, self.classes_)
        if len(foreign):
            raise HeadError(
                f"validation_data of head {self.head_name!r} must hold classes of the training data, "
                f"got {foreign.tolist()[0]!r}"
            )
        return _float32(features), np.searchsorted(self.classes_, labels)

    def _train(
        self, X: Array | RowSource, codes: Codes, weights: Array | None
    ) -> Iterator[tuple[DenseSoftmax, Measured]]:
        """Train a layer, and yield it after each epoch with the sums of the epoch."""
        initial, masks, order = (
            np.random.default_rng(seed) for seed in np.random.SeedSequence(int(self.random_state)).spawn(3)
        )
        kernel = glorot_uniform(X.shape[1], len(self.classes_), initial)
        layer = DenseSoftmax(kernel, float(self.dropout), float(self.learning_rate), masks)
        while True:
            loss, correct = 0.0, 0
            for rows, batch in shuffled_batches(X, int(self.batch_size), order):
                step = layer.step(rows, codes[batch], None if weights is None else weights[batch])
                loss, correct = loss + step.loss, correct + step.correct
            yield layer, Measured(loss, correct)

    def _best_epochs(
        self, X: Array | RowSource, codes: Codes, weights: Array | None, groups: Array | None
    ) -> tuple[int, bool]:
        """Return the number of epochs whose steps gave the lowest loss of held-out rows, and if the search saw it."""
        rows = np.arange(len(codes)) if weights is None else np.flatnonzero(weights)
        limit = self._most_epochs(len(codes), X.shape[1], len(self.classes_))
        if limit <= LEAST_EPOCHS:
            return LEAST_EPOCHS, False
        train, held_out = next(folds(codes[rows], None if groups is None else groups[rows]), (rows[:0], rows[:0]))
        if not len(held_out):
            return min(limit, max(LEAST_EPOCHS, -(-UNMEASURED_STEPS // self._steps(codes)))), False
        train, held_out = rows[train], rows[held_out][:: -(-len(held_out) // MOST_HELD_OUT)]
        of_train = None if weights is None else weights[train]
        of_held_out = None if weights is None else weights[held_out]
        inside, outside = select_rows(X, train), take_rows(X, held_out)
        # small weights make the losses small; large ones only make the search longer
        total = len(held_out) * (1.0 if weights is None else min(1.0, float(weights.mean())))
        best, lowest, stopped = 1, np.inf, False
        for epoch, (layer, _) in enumerate(islice(self._train(inside, codes[train], of_train), limit), start=1):
            loss = _measure(layer, outside, codes[held_out], of_held_out).loss / total
            if loss < lowest - SMALLEST_IMPROVEMENT:
                best, lowest = epoch, loss
            if epoch >= best + max(PATIENCE, PATIENCE_FRACTION * best):
                stopped = True
                break
        return max(1, round(best * self._steps(train) / self._steps(codes))), stopped

    def _steps(self, rows: Codes) -> int:
        """Return the number of steps in an epoch of these rows."""
        return -(-len(rows) // int(self.batch_size))


def loss_trend(losses: Sequence[float]) -> tuple[float, float, int]:
    """Return the mean loss of the last fifth of some epochs, or the last one, before it that of as many, and how many.

    The loss before a first epoch is infinite.
    """
    size = max(1, len(losses) // 5)
    return float(np.mean(losses[-2 * size : -size] or [np.inf])), float(np.mean(losses[-size:])), size


def _float32(X: Array | RowSource) -> Array | RowSource:
    return X.astype(np.float32, copy=False) if isinstance(X, np.ndarray) else X


def _measure(layer: DenseSoftmax, X: Array | RowSource, codes: Codes, weights: Array | None = None) -> Measured:
    """Measure a layer on all rows, in blocks."""
    loss, correct, start = 0.0, 0, 0
    for rows in row_blocks(X, MEASURED_ROWS):
        block = slice(start, start + len(rows))
        part = layer.measure(rows, codes[block], None if weights is None else weights[block])
        loss, correct, start = loss + part.loss, correct + part.correct, block.stop
    return Measured(loss, correct)
