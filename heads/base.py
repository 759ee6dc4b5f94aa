"""Base classes of the estimators: checked inputs, class labels, and the state that pickles and model files hold."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.preprocessing import StandardScaler
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_consistent_length, check_is_fitted, column_or_1d, validate_data

from ..errors import HeadError, describe
from .numerics import Array, is_source
from .predictors import Predictor

# float32 first would turn integers into float32; this order keeps float32 as it is, without a copy,
# and makes everything else float64, as scikit-learn does
FLOATS = [np.float64, np.float32]


class FeatureHead(Predictor, ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """Base of the heads: a scikit-learn classifier on feature rows.

    A subclass also inherits its predictor and implements `fit`, which begins with `_start_fit`. Its fitted attributes
    are arrays and JSON values, and end in an underscore.
    """

    reads_rows: ClassVar[bool] = False
    """True if `fit` takes a `RowSource`, whose features are read from disk."""
    derived: ClassVar[tuple[str, ...]] = ()
    """Cached objects that are made from the fitted attributes, and left out of pickles and model files."""

    @property
    def is_random(self) -> bool:
        """Whether the fitted head depends on ``random_state``, if it has that parameter."""
        return True

    def cost_notice(self, n: int, d: int, k: int) -> str:
        """Return why training on n rows of d features and k classes takes minutes; empty if it does not."""
        return ""

    def check_parameters(self) -> None:
        """Raise `HeadParameterError` if a value is not allowed, as far as that is known without training data."""

    def _start_fit(self, X: Any, y: ArrayLike) -> tuple[Any, NDArray[np.intp]]:
        """Check parameters and data, set `classes_` and `n_features_in_`, and return features and class indices (n,).

        Features (n, d) are float32 or float64; a source is returned without reading its rows.
        """
        self.check_parameters()
        if is_source(X):
            if not self.reads_rows:
                raise HeadError(f"head {self.head_name!r} needs its features in memory, got a {type(X).__name__}")
            features, labels = X, column_or_1d(y)
            check_consistent_length(np.empty(X.shape[0]), labels)
            self.n_features_in_ = int(X.shape[1])
        else:
            features, labels = validate_data(self, X, y, dtype=FLOATS)
        check_classification_targets(labels)
        classes, codes = np.unique(labels, return_inverse=True)
        if len(classes) < 2:
            raise HeadError(
                f"head {self.head_name!r} needs rows of at least two classes, got one class: {classes[0]!r}"
            )
        for name in self.derived:
            self.__dict__.pop(name, None)
        self.classes_ = classes
        return features, codes

    def _row_weights(self, sample_weight: ArrayLike | None, n: int) -> NDArray[np.float64] | None:
        """Return the weight of each of n rows; None if every row has the weight 1."""
        if sample_weight is None:
            return None
        try:
            given = np.asarray(sample_weight, np.float64)
            weights = np.broadcast_to(given, (n,)) if given.ndim == 0 else given.reshape(n)
        except (TypeError, ValueError) as error:
            raise HeadError(
                f"sample_weight of head {self.head_name!r} must be one number per row, of shape ({n},), got "
                f"{describe(sample_weight)}"
            ) from error
        if not np.isfinite(weights).all() or (weights < 0).any() or not weights.any():
            raise HeadError(
                f"sample_weight of head {self.head_name!r} must be finite numbers of at least 0, got "
                f"{describe(sample_weight)}. Not all weights may be zero"
            )
        return None if (weights == 1).all() else weights

    def _checked_groups(self, groups: ArrayLike | None, n: int) -> Array | None:
        """Return the group of each of n rows as an array; None if there are no groups."""
        checked = None if groups is None else np.asarray(groups)
        if checked is not None and checked.shape != (n,):
            raise HeadError(
                f"groups of head {self.head_name!r} must be one per row, of shape ({n},), got shape {checked.shape}"
            )
        return checked

    def _start_predict(self, X: ArrayLike) -> Array:
        check_is_fitted(self)
        checked: Array = validate_data(self, X, reset=False, dtype=FLOATS)
        return checked

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in super().__getstate__().items() if name not in self.derived}

    def __setstate__(self, state: dict[str, Any]) -> None:
        # files of the first format hold scikit-learn's estimators, whose arrays the setters take, and an older name
        state = {"inverse_temperature_" if name == "sharpness_" else name: value for name, value in state.items()}
        super().__setstate__({name: value for name, value in state.items() if name not in _ESTIMATORS})
        for name in _ESTIMATORS & state.keys():
            setattr(self, name, state[name])


_ESTIMATORS = {"model_", "scaler_", "neighbors_"}


class StandardizedHead(FeatureHead):
    """Base of the heads on standardised features, with the attributes of `sklearn.preprocessing.StandardScaler`."""

    mean_: Array
    var_: Array
    scale_: Array
    n_samples_seen_: int

    @property
    def scaler_(self) -> StandardScaler:
        """The fitted `sklearn.preprocessing.StandardScaler`."""
        scaler = StandardScaler()
        scaler.mean_, scaler.var_, scaler.scale_ = self.mean_, self.var_, self.scale_
        scaler.n_samples_seen_, scaler.n_features_in_ = self.n_samples_seen_, self.n_features_in_
        return scaler

    @scaler_.setter
    def scaler_(self, scaler: StandardScaler) -> None:
        self.mean_, self.var_, self.scale_ = scaler.mean_, scaler.var_, scaler.scale_
        self.n_samples_seen_ = int(scaler.n_samples_seen_)
