"""Scikit-learn classifiers as ``.skops`` files, which load without running code: only types of a fixed list are read.

skops leaves out decision trees, since scikit-learn follows the indices in them without looking: a forged file could
make it read other memory. `_check_trees` looks at them before a head is used.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import ModelFileError, ModelSuffixError, describe, first_line
from ..registry import HEADS
from .head_arrays import check_fitted

MOST_FEATURES = 10_000_000
_LEAF = -1
_SKLEARN = {
    "calibration": "_CalibratedClassifier _SigmoidCalibration _TemperatureScaling",
    "ensemble._hist_gradient_boosting.predictor": "TreePredictor",
    "feature_selection._mutual_info": "mutual_info_classif",
    "feature_selection._univariate_selection": "chi2 f_classif",
    "gaussian_process._gpc": "_BinaryGaussianProcessClassifierLaplace",
    "gaussian_process.kernels": "CompoundKernel ConstantKernel DotProduct ExpSineSquared Exponentiation Matern "
    "PairwiseKernel Product RBF RationalQuadratic Sum WhiteKernel",
    "metrics._classification": "accuracy_score balanced_accuracy_score f1_score jaccard_score log_loss "
    "matthews_corrcoef precision_score recall_score",
    "metrics._dist_metrics": "BrayCurtisDistance64 CanberraDistance64 ChebyshevDistance64 EuclideanDistance64 "
    "HammingDistance64 ManhattanDistance64 MinkowskiDistance64",
    "metrics._ranking": "roc_auc_score",
    "metrics._scorer": "_CurveScorer _PassthroughScorer _Scorer",
    "model_selection._split": "GroupKFold KFold RepeatedKFold RepeatedStratifiedKFold ShuffleSplit "
    "StratifiedGroupKFold StratifiedKFold StratifiedShuffleSplit",
    "multiclass": "_ConstantPredictor",
    "neighbors._ball_tree": "BallTree",
    "neighbors._kd_tree": "KDTree",
    "neural_network._stochastic_optimizers": "AdamOptimizer SGDOptimizer",
    "tree._tree": "Tree",
    "utils._bunch": "Bunch",
    "utils._metadata_requests": "MetadataRequest MethodMetadataRequest",
}
# skops itself trusts the other types of scikit-learn, and NumPy's. Files of the first format hold heads of embedonce.
TRUSTED = (
    *(f"sklearn.{module}.{name}" for module, names in _SKLEARN.items() for name in names.split()),
    *(f"embedonce.heads.{head.module}.{head.cls}" for head in HEADS.values()),
    "embedonce.heads.calibrated.CalibratedHead",
)


def dump_skops(head: Any) -> bytes:
    """Return a classifier, fitted or not, in skops's format; a ModelSuffixError if loading it would need trust."""
    import skops.io

    try:
        data: bytes = skops.io.dumps(head)
        foreign = foreign_types(data)
        if any(not isinstance(getattr(part, "categorical_features", None), str | None) for part in _parts(head)):
            raise ValueError("parameter categorical_features is set")  # its trees are not read
    except Exception as error:  # skops raises various errors for what it cannot represent
        reason = first_line(error)
    else:
        if not foreign:
            return data
        reason = f"types that embedonce does not know: {', '.join(foreign)}"
    raise ModelSuffixError(f"a {type(head).__name__} does not fit into a .skops file ({reason}). Use .joblib")


def foreign_types(data: bytes) -> list[str]:
    """Return the names of the types in a skops archive that neither skops nor embedonce trusts."""
    import skops.io

    return [name for name in skops.io.get_untrusted_types(data=data) if name not in TRUSTED]


def load_skops(path: Path, trust: bool) -> Any:
    """Load a .skops file, refusing types that are not on the list unless `trust`."""
    import skops.io

    try:
        data = path.read_bytes()
        foreign = foreign_types(data)
    except Exception as error:  # a damaged schema leads to any error
        raise ModelFileError(f"{path}: damaged, or not a .skops file: {first_line(error)}") from error
    if foreign and not trust:
        raise ModelFileError(
            f"{path}: holds types that embedonce does not know: {', '.join(foreign)}. If you trust its author, "
            "load it with trust=True (--trust)"
        )
    try:
        head = skops.io.loads(data, trusted=[*TRUSTED, *foreign])
        for part in _parts(head):
            _check_trees(part)
            _check_indices(part)
            check_fitted(part)
        if hasattr(head, "classes_"):
            _check_prediction(head)
    except Exception as error:
        raise ModelFileError(f"{path}: damaged: {first_line(error)}") from error
    return head


def _parts(head: Any) -> Iterator[Any]:
    """Yield every object that a head holds, at any depth."""
    seen, stack = {}, [head]
    while stack:
        part = stack.pop()
        if id(part) in seen:
            continue
        seen[id(part)] = part  # kept, so that no other object gets its id
        yield part
        if isinstance(part, dict):
            stack += part.values()
        elif isinstance(part, list | tuple | set):
            stack += part
        elif isinstance(part, np.ndarray):
            stack += part.ravel().tolist() if part.dtype.hasobject else []
        elif not isinstance(part, type):
            stack += getattr(part, "__dict__", {}).values()


def _check_trees(part: Any) -> None:
    """Raise ValueError if a part of a head has trees whose indices lead out of them; make search trees again."""
    from sklearn.ensemble._forest import BaseForest
    from sklearn.ensemble._gb import BaseGradientBoosting
    from sklearn.ensemble._hist_gradient_boosting.predictor import TreePredictor
    from sklearn.neighbors import BallTree, KDTree
    from sklearn.tree._tree import Tree

    if isinstance(part, Tree):
        _check_nodes(part.children_left, part.children_right, part.feature, part.n_features, part.max_depth)
    elif isinstance(part, TreePredictor):
        nodes = part.nodes
        if nodes["is_categorical"].any():
            raise ValueError("a tree of it splits by categories")
        left, right = (np.where(nodes["is_leaf"], _LEAF, nodes[side].astype(np.int64)) for side in ("left", "right"))
        _check_nodes(left, right, nodes["feature_idx"], 2**31, len(nodes))
    if isinstance(getattr(part, "tree_", None), Tree):
        _require_same(part.tree_.n_features, part.n_features_in_)
    if isinstance(part, BaseForest | BaseGradientBoosting):
        for tree in np.ravel(getattr(part, "estimators_", [])):
            _require_same(tree.n_features_in_, part.n_features_in_)
    if isinstance(part, BaseGradientBoosting) and hasattr(part, "estimators_"):
        shape = part._raw_predict_init(np.zeros((1, part.n_features_in_), np.float32)).shape
        _require_same(np.shape(part.estimators_)[1], shape[1])
    for predictor in np.ravel(getattr(part, "_predictors", [])):
        used = predictor.nodes["feature_idx"][predictor.nodes["is_leaf"] == 0]
        if used.max(initial=0) >= part.n_features_in_:
            raise ValueError("a tree of it uses features that it does not have")
    search = getattr(part, "_tree", None)
    if isinstance(search, KDTree | BallTree):
        metric, parameters = part.effective_metric_, part.effective_metric_params_
        part._tree = type(search)(part._fit_X, part.leaf_size, metric=metric, **parameters)


def _check_indices(part: Any) -> None:
    """Raise ValueError if scikit-learn's compiled code would use counts or class indices that are not in the arrays."""
    from sklearn.neighbors import KNeighborsClassifier, RadiusNeighborsClassifier
    from sklearn.svm._base import BaseLibSVM

    if isinstance(part, BaseLibSVM) and hasattr(part, "support_vectors_"):
        counts, vectors = np.asarray(part._n_support), part.support_vectors_
        k, s = len(counts), vectors.shape[0]
        pairs = max(1, k * (k - 1) // 2)
        if k != len(getattr(part, "classes_", counts)) or (counts < 0).any() or int(counts.sum(dtype=np.float64)) != s:
            raise ValueError("its counts of support vectors do not fit its support vectors")
        if (
            part._dual_coef_.shape != (k - 1, s)
            or np.shape(part._intercept_) != (pairs,)
            or np.shape(part.support_) != (s,)
            or not {np.size(part._probA), np.size(part._probB)} <= {0, pairs}
            or vectors.shape[1] not in (part.n_features_in_, s, part.shape_fit_[0])
        ):
            raise ValueError("its coefficients do not fit its support vectors")
    if isinstance(part, KNeighborsClassifier | RadiusNeighborsClassifier) and hasattr(part, "_y"):
        outputs = np.asarray(part._y).reshape(len(part._y), -1).T
        classes = part.classes_ if part.outputs_2d_ else [part.classes_]
        for codes, labels in zip(outputs, classes, strict=True):
            _require_same(len(codes), part._fit_X.shape[0])
            if codes.dtype.kind not in "iu" or (codes < 0).any() or (codes >= len(labels)).any():
                raise ValueError("its neighbours are of classes that it does not have")


def _check_prediction(head: Any) -> None:
    """Raise ValueError if a classifier neither predicts a class for a row of ones nor for one of zeros."""
    width = getattr(getattr(head, "head_", head), "n_features_in_", None)  # a calibrated head has it inside
    if width is None:
        return
    if type(width) is not int or not 0 < width <= MOST_FEATURES:
        raise ValueError(f"its n_features_in_ must be a count, got {describe(width)}")
    rows = np.ones((1, width)), np.zeros((1, width))
    reasons = [_why_not_predicted(head, row) for row in rows]
    if all(reasons):
        raise ValueError(f"it cannot classify: {reasons[0]}")


def _why_not_predicted(head: Any, row: NDArray[np.float64]) -> str:
    """Return the reason why a row gets no class and finite probabilities, or an empty string."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            if np.shape(head.predict(row)) != (1,):
                return "it does not predict one class for each row"
            if hasattr(head, "predict_proba"):
                probabilities = head.predict_proba(row)
                if np.shape(probabilities) != (1, len(head.classes_)) or not np.isfinite(probabilities).all():
                    return "its probabilities are not finite numbers, one for each class"
        except Exception as error:  # of a damaged classifier, any
            # far from all training rows, which is so by chance
            return "" if "No neighbors found" in str(error) else first_line(error)
    return ""


def _check_nodes(
    left: NDArray[Any], right: NDArray[Any], features: NDArray[Any], n_features: int, max_depth: int
) -> None:
    """Raise ValueError unless every inner node has two later nodes as children, and a feature that exists."""
    inner = np.flatnonzero(left != _LEAF)
    children = np.stack([left[inner], right[inner]])
    if not len(left) or (children <= inner).any() or (children >= len(left)).any():
        raise ValueError("a tree of it has nodes that are not in it")
    if (features[inner] < 0).any() or (features[inner] >= n_features).any():
        raise ValueError("a tree of it uses features that it does not have")
    level, depth = np.zeros(1, np.intp), 0
    while len(level := level[left[level] != _LEAF]):
        level, depth = np.concatenate([left[level], right[level]]).astype(np.intp), depth + 1
    if depth > max_depth:
        raise ValueError("a tree of it is deeper than it says")


def _require_same(number: int, other: int) -> None:
    if number != other:
        raise ValueError(f"it has trees for {number} features or classes, and is for {other}")
