"""Softmax head: dropout and one dense layer, trained by Keras. The reference that others are held against.

Training is Keras; predicting is one matrix product with the trained weights, which needs no Keras and no
tracing. Keras is imported when the head is fitted.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from sklearn.utils.validation import check_X_y

from ..cache.errors import HeadError
from ..cache.quiet import import_keras
from .base import FLOATS, Array, MarginHead, class_log_scores, probabilities, winners
from .keras_files import model_archive, model_of_archive
from .parameters import check_class_weight, check_number, check_random_state, weights_of_classes

# validation rows per step; no influence on the result
EVALUATION_BATCH = 1024
_ARCHIVE = "_model_archive"  # of an unpickled head whose model nobody has asked for yet


class SoftmaxHead(MarginHead):
    """Dropout, then a dense softmax layer, on the features as they are; Adam on the cross-entropy.

    The same training as ``model.fit`` on a Keras model of these layers, except that every random
    number comes from `random_state`: initial weights, dropout and the order of the rows. Keras's,
    NumPy's and Python's global generators are not used, nor changed (but for Keras's by Keras before 3.13).

    Parameters
    ----------
    epochs : int
        Passes over the training rows, at least 1.
    batch_size : int
        Rows per step, at least 1.
    dropout : float
        Share of the features that are set to 0 in each training step, from 0 to below 1.
    learning_rate : float
        Adam's step size, above 0.
    random_state : int
        Seed, 0 to 2**32 - 1.
    class_weight : mapping or "balanced", optional
        Weight of each class in the loss; a class that the mapping leaves out has weight 1. "balanced" lets every
        class count the same. The "loss" of `history_` is then the weighted one.

    Attributes
    ----------
    model_ : keras.Sequential
        The trained model, named "head": features (m, d) float32 in, probabilities (m, k) out.
    history_ : dict of str to list of float
        "loss" and "accuracy" of each epoch, averaged over its steps as Keras does (with dropout); with
        validation data also "val_loss" and "val_accuracy", after the epoch, without dropout.
    n_iter_ : int
        Epochs that were run.
    """

    head_name = "softmax"

    def __init__(
        self,
        epochs: int = 5,
        *,
        batch_size: int = 100,
        dropout: float = 0.2,
        learning_rate: float = 1e-3,
        random_state: int = 0,
        class_weight: Any = None,
    ) -> None:
        self.epochs = epochs
        self.batch_size = batch_size
        self.dropout = dropout
        self.learning_rate = learning_rate
        self.random_state = random_state
        self.class_weight = class_weight

    def fit(
        self, X: ArrayLike, y: ArrayLike, validation_data: tuple[ArrayLike, ArrayLike] | None = None
    ) -> SoftmaxHead:
        """Train on features X of shape (n, d) and labels y of shape (n,).

        Parameters
        ----------
        X : array-like of shape (n, d)
            Finite feature rows; trained on in float32.
        y : array-like of shape (n,)
            Class labels.
        validation_data : tuple of array-like, optional
            Features (v, d) and labels (v,) to measure after each epoch. They do not influence training.

        Returns
        -------
        SoftmaxHead
            The head itself.

        Raises
        ------
        HeadParameterError
            If a parameter has a value that it does not take.
        HeadError
            If there are fewer than two classes, or the validation data hold other classes or features.
        ValueError
            If X or y do not hold finite features and as many labels.
        """
        check_number(self.head_name, "epochs", self.epochs, at_least=1, integer=True)
        check_number(self.head_name, "batch_size", self.batch_size, at_least=1, integer=True)
        check_number(self.head_name, "dropout", self.dropout, at_least=0, below=1)
        check_number(self.head_name, "learning_rate", self.learning_rate, above=0)
        check_random_state(self.head_name, self.random_state)
        features, codes = self._start_fit(X, y)
        check_class_weight(self.head_name, self.class_weight, self.classes_)
        held = None if validation_data is None else self._checked_validation(*validation_data)
        self.model_, self.history_ = self._train(features.astype(np.float32, copy=False), codes, held)
        self.n_iter_ = int(self.epochs)
        return self

    def __getstate__(self) -> dict[str, Any]:
        # Keras's own pickles import TensorFlow when they are read, with all that it prints; heads that come back
        # from worker processes are mostly asked for their scores and parameters only
        state = dict(super().__getstate__())
        if "model_" in state:
            state[_ARCHIVE] = model_archive(state.pop("model_"))
        return state

    def __getattr__(self, name: str) -> Any:
        if name == "model_" and _ARCHIVE in vars(self):
            self.model_ = model_of_archive(vars(self)[_ARCHIVE])
            del self.__dict__[_ARCHIVE]
            return self.model_
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def warm_up(self) -> None:
        """Import Keras, so that a fit that is timed does not pay for it."""
        import_keras()

    def _checked_validation(self, X: ArrayLike, y: ArrayLike) -> tuple[Array, Array]:
        """Return validation features as float32 and class indices."""
        features, labels = check_X_y(X, y, dtype=FLOATS)
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
        return features.astype(np.float32, copy=False), np.searchsorted(self.classes_, labels)

    def _train(self, X: Array, codes: Array, held: tuple[Array, Array] | None) -> tuple[Any, dict[str, list[float]]]:
        """Build and train the Keras model; return it and the history."""
        seeds = np.random.SeedSequence(int(self.random_state)).generate_state(3)
        model = self._build(X.shape[1], int(seeds[0]), int(seeds[1]))
        order = np.random.default_rng(seeds[2])
        weights = None
        if self.class_weight is not None:
            weights = weights_of_classes(self.class_weight, self.classes_, codes)[codes].astype(np.float32)
        names = ["accuracy", "loss"] + (["val_accuracy", "val_loss"] if held is not None else [])
        history: dict[str, list[float]] = {name: [] for name in names}
        for _ in range(int(self.epochs)):
            # one call per step instead of model.fit: that shuffles by the backend's global generator,
            # and is no faster
            sums = {"accuracy": 0.0, "loss": 0.0}
            rows = order.permutation(len(X))
            for start in range(0, len(X), int(self.batch_size)):
                batch = rows[start : start + int(self.batch_size)]
                # Keras versions differ in whether the returned values are running means
                model.reset_metrics()
                weight = None if weights is None else weights[batch]
                step = model.train_on_batch(X[batch], codes[batch], sample_weight=weight, return_dict=True)
                for name in sums:
                    sums[name] += float(step[name]) * len(batch)
            for name, total in sums.items():
                history[name].append(total / len(X))
            if held is not None:
                measured = model.evaluate(held[0], held[1], batch_size=EVALUATION_BATCH, verbose=0, return_dict=True)
                for name in sums:
                    history[f"val_{name}"].append(float(measured[name]))
        return model, history

    def _build(self, width: int, weights_seed: int, dropout_seed: int) -> Any:
        """Return the compiled, untrained Keras model for `width` features."""
        keras = import_keras()
        model = keras.Sequential(
            [
                keras.Input((width,)),
                keras.layers.Dropout(self.dropout, seed=dropout_seed, name="dropout"),
                keras.layers.Dense(
                    len(self.classes_),
                    activation="softmax",
                    kernel_initializer=keras.initializers.GlorotUniform(seed=weights_seed),
                    name="probabilities",
                ),
            ],
            name="head",
        )
        model.compile(
            optimizer=keras.optimizers.Adam(self.learning_rate),
            loss="sparse_categorical_crossentropy",
            metrics=["accuracy"],
        )
        return model

    def _scores(self, X: Array) -> Array:
        kernel, bias = (np.asarray(part, dtype=X.dtype) for part in self.model_.layers[-1].get_weights())
        logits: Array = X @ kernel + bias
        # two classes: the margin of the second, as scikit-learn's classifiers have it
        return logits[:, 1] - logits[:, 0] if logits.shape[1] == 2 else logits

    def predict_proba(self, X: ArrayLike) -> Array:
        """Return class probabilities of shape (m, k), float64; the highest is the predicted class.

        They are those of ``model_.predict(X)`` up to rounding.
        """
        scores = self.decision_function(X)
        return probabilities(class_log_scores(scores), winners(scores))
