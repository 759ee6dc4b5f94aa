"""Softmax head: dropout and a dense layer, trained with Keras's arithmetic but without Keras."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from sklearn.utils.validation import check_X_y, column_or_1d

from .._keras import import_keras
from ..cache import RowSource, row_blocks
from ..errors import HeadError
from .base import FLOATS, FeatureHead
from .keras_model import dense_model
from .numerics import Array, DenseSoftmax, Measured, glorot_uniform, is_source, shuffled_batches
from .parameters import ClassWeight, check_class_weight, check_number, check_random_state, weights_of_rows
from .predictors import SoftmaxPredictor

MEASURED_ROWS = 8192


class SoftmaxHead(FeatureHead, SoftmaxPredictor):
    """Dropout, then a dense softmax layer, trained with Adam on the cross-entropy of the features.

    The training equals ``model.fit`` of a Keras model of these layers, up to rounding, except that every random number
    comes from `random_state`: initial weights, dropout and the order of the rows. Global generators are neither used
    nor changed (but for Keras's by Keras before 3.13, when `model_` is made).

    Parameters
    ----------
    epochs : int, default=5
        Passes over the training rows, at least 1.
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
        epochs: int = 5,
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

    def check_parameters(self) -> None:
        """See `FeatureHead`."""
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
    ) -> SoftmaxHead:
        """Train on features X (n, d), in float32, and labels y (n,), with weights (n,) in the loss; return the head.

        A `RowSource` is read once an epoch and never whole. Features (v, d) and labels (v,) of `validation_data` are
        measured after each epoch; `HeadError` if they hold other classes or another number of features.
        """
        features, codes = self._start_fit(X, y)
        check_class_weight(self.head_name, self.class_weight, self.classes_)
        validation = None if validation_data is None else self._checked_validation(*validation_data)
        given = self._row_weights(sample_weight, len(codes))
        weights = weights_of_rows(self.class_weight, self.classes_, codes, given)
        layer, self.history_ = self._train(_float32(features), codes, weights, validation)
        self.coef_, self.intercept_ = np.ascontiguousarray(layer.kernel.T), layer.bias.copy()
        self.n_iter_ = int(self.epochs)
        return self

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
        self,
        X: Array | RowSource,
        codes: Array,
        weights: Array | None,
        validation: tuple[Array | RowSource, Array] | None,
    ) -> tuple[DenseSoftmax, dict[str, list[float]]]:
        """Train a layer; return it and the history."""
        initial, masks, order = (
            np.random.default_rng(seed) for seed in np.random.SeedSequence(int(self.random_state)).spawn(3)
        )
        kernel = glorot_uniform(X.shape[1], len(self.classes_), initial)
        layer = DenseSoftmax(kernel, float(self.dropout), float(self.learning_rate), masks)
        of_rows = None if weights is None else weights.astype(np.float32)
        names = ["accuracy", "loss"] + (["val_accuracy", "val_loss"] if validation is not None else [])
        history: dict[str, list[float]] = {name: [] for name in names}
        for _ in range(int(self.epochs)):
            loss, correct = 0.0, 0
            for rows, batch in shuffled_batches(X, int(self.batch_size), order):
                step = layer.step(rows, codes[batch], None if of_rows is None else of_rows[batch])
                loss, correct = loss + step.loss, correct + step.correct
            history["accuracy"].append(correct / len(codes))
            history["loss"].append(loss / len(codes))
            if validation is not None:
                measured = _measure(layer, *validation)
                history["val_accuracy"].append(measured.correct / len(validation[1]))
                history["val_loss"].append(measured.loss / len(validation[1]))
        return layer, history


def _float32(X: Array | RowSource) -> Array | RowSource:
    return X.astype(np.float32, copy=False) if isinstance(X, np.ndarray) else X


def _measure(layer: DenseSoftmax, X: Array | RowSource, codes: Array) -> Measured:
    """Measure a layer on all rows, in blocks."""
    loss, correct, start = 0.0, 0, 0
    for rows in row_blocks(X, MEASURED_ROWS):
        part = layer.measure(rows, codes[start : start + len(rows)])
        loss, correct, start = loss + part.loss, correct + part.correct, start + len(rows)
    return Measured(loss, correct)
