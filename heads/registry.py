"""The registry of heads by name: a head's module, and with it scikit-learn, is imported when the head is made."""

from __future__ import annotations

import inspect
from importlib import import_module
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, overload

from ..errors import HeadError, HeadParameterError, describe, first_line
from .spaces import Choice, Range, Space

if TYPE_CHECKING:
    from .dummy import DummyHead
    from .linear import LinearSVMHead, LogisticRegressionHead
    from .neighbors import KNNHead
    from .softmax import SoftmaxHead
    from .svm import SVMHead


class HeadSpec(NamedTuple):
    """Module and class of a head in this folder, and the parameters that `tune` searches."""

    module: str
    cls: str
    space: Space


# The ranges are for MobileNetV2's 1,280 features: with so many, linear heads need small C, and gamma="scale" is
# 1 / 1280, about 0.0008.
HEADS = {
    "logreg": HeadSpec("linear", "LogisticRegressionHead", {"C": Range(1e-5, 10.0)}),
    "svm": HeadSpec(
        "svm",
        "SVMHead",
        {"C": Range(0.1, 1000.0), "gamma": Range(5e-5, 3e-3), "scaling": Choice(("overall", "standard"))},
    ),
    "softmax": HeadSpec(
        "softmax",
        "SoftmaxHead",
        {
            "learning_rate": Range(1e-4, 2e-2),
            "dropout": Range(0.0, 0.6, log=False),
            "batch_size": Choice((32, 64, 128, 256)),
        },
    ),
    "linear-svm": HeadSpec("linear", "LinearSVMHead", {"C": Range(1e-6, 0.1)}),
    "knn": HeadSpec(
        "neighbors",
        "KNNHead",
        {
            "n_neighbors": Range(1, 50, integer=True),
            "metric": Choice(("euclidean", "cosine")),
            "weights": Choice(("uniform", "distance")),
        },
    ),
    "dummy": HeadSpec("dummy", "DummyHead", {}),
}


@overload
def make_head(name: Literal["logreg"], /, **params: Any) -> LogisticRegressionHead: ...
@overload
def make_head(name: Literal["svm"], /, **params: Any) -> SVMHead: ...
@overload
def make_head(name: Literal["softmax"], /, **params: Any) -> SoftmaxHead: ...
@overload
def make_head(name: Literal["linear-svm"], /, **params: Any) -> LinearSVMHead: ...
@overload
def make_head(name: Literal["knn"], /, **params: Any) -> KNNHead: ...
@overload
def make_head(name: Literal["dummy"], /, **params: Any) -> DummyHead: ...
@overload
def make_head(name: str, /, **params: Any) -> Any: ...
def make_head(name: str, /, **params: Any) -> Any:
    """Make an unfitted head.

    Parameters
    ----------
    name : str
        "logreg", "svm", "softmax", "linear-svm", "knn", "dummy", or "package.module:Class" for any scikit-learn
        classifier class.
    **params
        Parameters of the head's constructor. Other classes than those of embedonce check them in ``fit``.

    Returns
    -------
    scikit-learn classifier
        Instance of the head's class.

    Raises
    ------
    HeadError
        If there is no such head, or the class is not a scikit-learn classifier.
    HeadParameterError
        If a parameter is unknown, missing, or has a value that is not allowed.

    See Also
    --------
    save_head : Write a fitted head to a file.

    Examples
    --------
    >>> import embedonce as eo
    >>> head = eo.make_head("logreg", C=0.1).fit([[0.0], [1.0]], ["cat", "dog"])
    >>> head.predict([[0.9]])
    array(['dog'], dtype='<U3')
    """
    if not isinstance(name, str):
        raise HeadError(
            f"a head must be given by its name, such as 'svm' or 'package.module:Class', got {describe(name)}"
        )
    kind = head_class(name)
    names = _parameter_names(kind)
    for param in params:
        if names is not None and param not in names:
            has = f"its parameters are {', '.join(names)}" if names else "it takes none"
            raise HeadParameterError(
                f"head {name!r} has no parameter {param!r} (got {param}={params[param]!r}); "
                f"{has}{_suggestion(param, names)}"
            )
    try:
        head = kind(**params)
    except TypeError as error:
        raise HeadParameterError(f"head {name!r} cannot be made with these parameters: {error}") from error
    _require_classifier(name, head)
    if name in HEADS:
        head.check_parameters()
    return head


def unfitted_copy(name: str, head: Any) -> Any:
    """Return an unfitted copy of a scikit-learn classifier; a HeadError names anything else by `name`."""
    from sklearn.base import clone

    _require_classifier(name, head)
    try:
        return clone(head)
    except (TypeError, RuntimeError) as error:
        raise HeadError(f"head {name!r} cannot be copied by sklearn.base.clone: {first_line(error)}") from error


def head_class(name: str) -> Any:
    """Import the class of a head, by its name or "package.module:Class"."""
    if name in HEADS:
        return getattr(import_module(f".{HEADS[name].module}", __package__), HEADS[name].cls)
    if ":" not in name:
        raise HeadError(
            f"there is no head {name!r}{_suggestion(name, list(HEADS))}; "
            f"the heads are {', '.join(HEADS)}, or any scikit-learn classifier as package.module:Class"
        )
    module, _, cls = name.partition(":")
    try:
        imported = import_module(module)
    except Exception as error:  # importing a module runs its code
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        raise HeadError(f"head {name!r}: the module {module!r} cannot be imported: {reason}") from error
    try:
        kind = getattr(imported, cls)
    except AttributeError as error:
        raise HeadError(f"head {name!r}: the module {module!r} has no class {cls!r}") from error
    if not inspect.isclass(kind) or not all(callable(getattr(kind, m, None)) for m in ("fit", "predict")):
        raise HeadError(f"head {name!r} must be a class with the methods fit and predict, got {kind!r}")
    return kind


def _parameter_names(kind: Any) -> list[str] | None:
    """Return the constructor's parameter names; None if it takes ``**kwargs``."""
    parameters = inspect.signature(kind).parameters.values()
    if any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters):
        return None
    return [parameter.name for parameter in parameters]


def _suggestion(word: str, names: list[str]) -> str:
    """Return " (did you mean ...?)" with the closest of the words, or nothing."""
    import difflib

    close = difflib.get_close_matches(word, names, n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""


def _require_classifier(name: str, head: Any) -> None:
    """Raise `HeadError` unless scikit-learn takes the instance for a classifier."""
    from sklearn.base import is_classifier

    try:
        answer = not inspect.isclass(head) and is_classifier(head)
    except (AttributeError, TypeError):  # an object without scikit-learn's tags: not an estimator
        answer = False
    if not answer:
        got = f"the class {head.__name__}. Give an instance of it" if inspect.isclass(head) else type(head).__name__
        raise HeadError(
            f"head {name!r} must be a scikit-learn classifier (inherit ClassifierMixin and BaseEstimator), got {got}"
        )
