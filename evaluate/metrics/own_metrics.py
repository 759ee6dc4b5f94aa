"""Metrics of the user: functions of true and predicted class names, and scorers of scikit-learn.

Nothing is known of such a function, so what each image contributes to its value is found by leaving images out (the
jackknife). Interval and tests follow from the variation of these contributions between groups. In simulation
(``benchmarks/statistics.py``) this covers better than the bootstrap over groups.
"""

from __future__ import annotations

import importlib
import inspect
import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from ...cache import display
from ...errors import ParameterError, describe, first_line, is_number
from ..shared import Record, Records, format_p
from .clusters import Clusters, Interval, mean_error, t_quantile, units
from .intervals import LEVEL, skewed_interval
from .metrics import METRICS, Metric
from .paired_tests import PairedTest, compare_folds, holm, interval_of_correlated, p_of_interval

_MOST_CALLS = 200  # of a function to find what images contribute
_TINY = 1e-12
_LESS_IS_BETTER = {"loss", "error", "cost", "deviance"}
_TAKEN = {
    *METRICS, "head", "parameters", "intervals", "per_class", "confusion", "rounds", "tuning", "fit_seconds",
    "predict_seconds", "history", "brier", "ece", "ece_debiased", "ece_low", "ece_high", "calibration_slope",
    "calibration_intercept", "calibrate", "repeat", "fold", "train", "test", "accuracy_low", "accuracy_high",
}  # fmt: skip
"""Names that results have already."""

Names = npt.NDArray[np.str_]
MetricsLike: TypeAlias = (
    "Callable[..., Any] | str | Sequence[Callable[..., Any] | str] | Mapping[str, Callable[..., Any] | str]"
)


class Answers(NamedTuple):
    """True classes and answers of a head: names, shape (t,), and probabilities, shape (t, k), of ``classes``."""

    true: Names
    predicted: Names
    probabilities: npt.NDArray[np.float64] | None
    classes: Sequence[str]

    def take(self, rows: npt.NDArray[np.intp]) -> Answers:
        """Return those of some images."""
        probabilities = None if self.probabilities is None else self.probabilities[rows]
        return Answers(self.true[rows], self.predicted[rows], probabilities, self.classes)

    @property
    def corrected(self) -> Answers:
        """The answers of a head that is always correct, and certain."""
        certain = (self.true[:, None] == np.array(self.classes)).astype(np.float64)
        return Answers(self.true, self.true, None if self.probabilities is None else certain, self.classes)


class MetricError(ParameterError):
    """A function fails, or does not return a number."""


class NotFiniteError(MetricError):
    """A function returns NaN or an infinite number, which it may do for some answers."""


@dataclass(frozen=True)
class _Function:
    """A function of the user that measures `Answers`."""

    name: str
    function: Callable[..., Any]
    is_scorer: bool

    def __call__(self, answers: Answers) -> float:
        """Return the value, or raise MetricError."""
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of hundreds of calls
                if self.is_scorer:
                    value = self.function(_stored(answers), np.arange(len(answers.true))[:, None], answers.true.copy())
                else:
                    value = self.function(answers.true.copy(), answers.predicted.copy())
        except Exception as error:  # the user's code can raise any
            if isinstance(error, AttributeError) and self.is_scorer and answers.probabilities is None:
                raise MetricError("the head has no probabilities") from error
            reason = f"{type(error).__name__}: {first_line(error)}".rstrip(".")
            raise MetricError(f"it fails with {reason}") from error
        if isinstance(value, np.ndarray) and value.ndim == 0:
            value = value[()]
        if isinstance(value, np.ndarray):
            raise MetricError(f"it returns an array of shape {value.shape} instead of a number")
        if not is_number(value):
            raise MetricError(f"it returns {describe(value)} instead of a number")
        if not np.isfinite(float(value)):
            raise NotFiniteError(f"it returns {float(value)}")
        return float(value)


def _stored(answers: Answers) -> Any:
    """Return a classifier that gives the answers, for scorers; row ``n`` of its features is the number ``n``."""
    from sklearn.base import BaseEstimator, ClassifierMixin
    from sklearn.utils.metaestimators import available_if

    order = np.argsort(answers.classes)

    class StoredAnswers(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
        classes_ = np.array(answers.classes)[order]

        def predict(self, X: Any) -> Any:
            return answers.predicted[X[:, 0]]

        @available_if(lambda self: answers.probabilities is not None)  # type: ignore[untyped-decorator]
        def predict_proba(self, X: Any) -> Any:
            assert answers.probabilities is not None
            return answers.probabilities[X[:, 0]][:, order]

    return StoredAnswers()


def read_metrics(given: Any, classes: Sequence[str], owner: str) -> dict[str, Metric]:
    """Return the metrics of a parameter ``metrics``, by name; one that fails on made-up answers is an error now."""
    several = isinstance(given, Sequence) and not isinstance(given, str | bytes)
    named: dict[str, Metric] = {}
    entries = [("", one) for one in given] if several else [("", given)] if given is not None else []
    for name, one in given.items() if isinstance(given, Mapping) else entries:
        function = _imported(one, owner) if isinstance(one, str) else one
        if not callable(function) or inspect.isclass(function):
            raise ParameterError(
                f"parameter metrics of {owner} must be functions, scorers of scikit-learn, or texts such as "
                f"'package.module:function', got {describe(function)}"
            )
        name = name or (one.partition(":")[2] if isinstance(one, str) else _name_of(function, owner))
        if not isinstance(name, str) or not name.isidentifier() or name in _TAKEN or name in named:
            reason = "which is given twice" if name in named else "which results have already"
            reason = reason if name in named or name in _TAKEN else "which is not a name of letters, digits and _"
            raise ParameterError(
                f"parameter metrics of {owner} must give each metric its own name, got {describe(name)}, {reason}. "
                "Give a mapping from names to functions, or in a module assign the function to another name"
            )
        is_scorer = _takes_estimator(function, name, owner)
        more = is_scorer or name.rpartition("_")[2] not in _LESS_IS_BETTER
        unbounded = (-np.inf, np.inf)
        measure = _Function(name, function, is_scorer)
        named[name] = Metric(
            name, name, measure, of_probabilities=is_scorer, higher_is_better=more, bounds=unbounded, shown=False
        )
    _try(named, classes, owner)
    return named


def _imported(text: str, owner: str) -> Any:
    module, colon, name = text.partition(":")
    if not (module and colon and name.isidentifier()):
        raise ParameterError(
            f"parameter metrics of {owner} must name a function as package.module:function, got {describe(text)}"
        )
    try:
        return getattr(importlib.import_module(module), name)
    except AttributeError as error:
        raise ParameterError(f"metric {text!r}: the module {module!r} has no function {name!r}") from error
    except Exception as error:  # importing a module runs its code
        reason = f"{type(error).__name__}: {first_line(error)}"
        advice = ". Set PYTHONPATH to the folder of the module" if isinstance(error, ModuleNotFoundError) else ""
        raise ParameterError(f"metric {text!r}: the module {module!r} cannot be imported: {reason}{advice}") from error


def _name_of(function: Any, owner: str) -> str:
    inner = getattr(function, "func", function)  # of functools.partial
    name = getattr(inner, "__name__", "")
    if not isinstance(name, str) or not name.isidentifier():
        raise ParameterError(
            f"parameter metrics of {owner} must be a mapping from names to functions where a function has no name, "
            f"got {describe(function)}"
        )
    return name


def _takes_estimator(function: Any, name: str, owner: str) -> bool:
    """Return whether a callable is a scorer, (estimator, X, y), and not a function, (y_true, y_pred)."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):  # of functions in C
        return False
    by_place = [one for one in parameters if one.kind in (one.POSITIONAL_ONLY, one.POSITIONAL_OR_KEYWORD)]
    required = sum(one.default is one.empty for one in by_place)
    at_most = np.inf if any(one.kind is one.VAR_POSITIONAL for one in parameters) else len(by_place)
    if required > 3 or at_most < 2:
        raise ParameterError(
            f"parameter metrics of {owner} must be functions of (y_true, y_pred), or scorers of (estimator, X, y), got "
            f"{name}{inspect.signature(function)}"
        )
    return required == 3


def _try(metrics: Mapping[str, Metric], classes: Sequence[str], owner: str) -> None:
    if not classes:
        return
    true = np.repeat(np.array(classes), 2)
    certain = (true[:, None] == np.array(classes)).astype(np.float64)
    answers = Answers(true, np.roll(true, 1), 0.8 * certain + 0.2 / len(classes), classes)
    for name, metric in metrics.items():
        try:
            metric.measure(answers)
        except NotFiniteError:
            continue
        except MetricError as error:
            raise ParameterError(
                f"parameter metrics of {owner} must be functions that return a number for class names such as "
                f"{display(classes[0])}, but {name} does not: {error}"
            ) from error


class Contributions(NamedTuple):
    """What images contribute to a value: numbers, shape (t,), whose mean is near it; errors; what is resampled."""

    values: npt.NDArray[np.float64]
    wrong: npt.NDArray[np.bool_]
    clusters: Clusters


def find_contributions(
    metric: Metric, answers: Answers, value: float, groups: npt.NDArray[np.integer] | None
) -> Contributions:
    """Return the contributions of all images, by leaving out images or, if they are many, groups."""
    # the jackknife (Efron, 1982, doi:10.1137/1.9781611970319); images of one class that are predicted alike have the
    # same contribution to a function of labels
    count = len(answers.true)
    clusters = units(groups, count)
    names, codes = np.unique(np.concatenate([answers.true, answers.predicted]), return_inverse=True)
    cells = np.unique(codes[:count] * len(names) + codes[count:], return_inverse=True)[1]
    if not metric.of_probabilities and cells.max(initial=0) < _MOST_CALLS:
        first = np.unique(cells, return_index=True)[1]
        left_out = [np.array([row]) for row in first]
        of_row = cells
    else:
        if clusters.groups > _MOST_CALLS:
            block = np.random.default_rng(0).permutation(np.arange(clusters.groups) % _MOST_CALLS)
            clusters = Clusters(block[clusters.of_row], _MOST_CALLS)
        of_row = clusters.of_row
        left_out = [np.flatnonzero(of_row == number) for number in range(clusters.groups)]
    changes = np.zeros(len(left_out))
    for number, rows in enumerate(left_out):
        kept = np.delete(np.arange(count), rows)
        changes[number] = (value - metric.measure(answers.take(kept))) * (count - len(rows)) / len(rows)
    return Contributions(value + changes[of_row], answers.true != answers.predicted, clusters)


def contributions_interval(metric: Metric, answers: Answers, value: float, found: Contributions) -> Interval | None:
    """Return the 95 % interval of a value, which ends at that of correct answers; None if all images are alike."""
    error = mean_error(found.values, found.clusters)
    if error <= _TINY * max(1.0, abs(value)):
        return None
    low, high = skewed_interval(value + found.values - found.values.mean(), found.clusters)
    try:
        best = metric.measure(answers.corrected)
    except MetricError:
        return low, high
    if metric.sign * best < metric.sign * value:
        return low, high
    return (low, min(high, best)) if metric.higher_is_better else (max(low, best), high)


@dataclass(frozen=True)
class MetricDifference(Record):
    """Difference of a metric between heads ``a`` and ``b``, the better one first, with its 95 % interval and test.

    ``p_holm`` is corrected for the number of pairs, ``verdict`` is "better" or "undecided", and ``text`` the result as
    a sentence.
    """

    metric: str
    a: str
    b: str
    difference: float
    low: float
    high: float
    p: float
    p_holm: float
    test: str
    verdict: str
    text: str


def compare_contributions(
    metric: Metric,
    values: Mapping[str, float],
    found: Mapping[str, Contributions],
    folds: Mapping[str, Sequence[float]] | None = None,
    sizes: Sequence[tuple[int, int]] | None = None,
) -> Records[MetricDifference]:
    """Compare every two heads by their values of a metric, and with those of folds by `compare_folds`."""
    tests = []
    for one, two in combinations(found, 2):
        means = values if folds is None else {name: float(np.mean(folds[name])) for name in (one, two)}
        a, b = (one, two) if metric.sign * (means[one] - means[two]) >= 0 else (two, one)
        test = _test(metric.name, values[a] - values[b], found[a], found[b])
        if folds is not None and sizes is not None:
            each = np.subtract(folds[a], folds[b]).tolist()
            name = f"corrected resampled t and {test.test}"
            test = replace(compare_folds(each, sizes, test, bounds=metric.bounds), test=name)
        tests.append((a, b, test))
    rows = []
    for (a, b, test), adjusted in zip(tests, holm([test.p for *_, test in tests]).tolist(), strict=True):
        verdict = "better" if adjusted < 1 - LEVEL else "undecided"
        ends = test.difference, test.low, test.high
        row = MetricDifference(metric.name, a, b, *ends, test.p, adjusted, test.test, verdict, "")
        rows.append(replace(row, text=_text(row)))
    return Records(rows)


def _test(name: str, difference: float, a: Contributions, b: Contributions) -> PairedTest:
    """Compare two heads by Student's t test, and by the intervals of both values and their correlation."""
    # the t test alone finds a difference too often if one head errs on single images and the other on whole groups
    from scipy.special import stdtr

    clusters = min(a.clusters, b.clusters, key=lambda clusters: clusters.groups)  # blocks are unions of groups
    error = mean_error(a.values - b.values, clusters)
    p = 1.0
    if error > _TINY * max(1.0, abs(difference)):  # else no two images differ, which does not show how they vary
        p = float(2 * stdtr(max(clusters.effective - 1, 1.0), -abs(difference) / error))
    means = [float(one.values.mean()) for one in (a, b)]
    ends = [_half_skewed(one.values, clusters) for one in (a, b)]
    sums = [clusters.sums(one.values - mean) for one, mean in zip((a, b), means, strict=True)]
    for number, (one, other) in enumerate([(a, b), (b, a)]):
        if np.ptp(one.values) <= _TINY * max(1.0, abs(means[number])) and other.wrong.any():
            # a head without errors: of so many groups one would be seen if more were wrong (the rule of three), and a
            # wrong image costs what it costs the other head
            reach = -math.log((1 - LEVEL) / 2) / clusters.effective * abs(difference) / float(other.wrong.mean())
            ends[number] = means[number] - reach, means[number] + reach
    informative = min(len(np.unique(clusters.of_row[one.wrong])) for one in (a, b))
    shift = difference - (means[0] - means[1])  # of the jackknife's bias
    low, high = (end + shift for end in interval_of_correlated(means, ends, sums, informative))
    p = max(p, p_of_interval(difference, (low, high), LEVEL))
    if p >= 1 - LEVEL:
        low, high = min(low, 0.0), max(high, 0.0)
    return PairedTest(name, difference, low, high, p, "t test and interval of the jackknife", (0, 0))


def _half_skewed(values: npt.NDArray[np.float64], clusters: Clusters) -> Interval:
    """Return the interval halfway between Student's and `skewed_interval`, for differences."""
    # in simulation the former calls one of two equally good heads better in up to 11 % of the rounds, this in up to
    # 7 %, and the latter in up to 5 %, but finds fewer differences
    mean, reach = float(values.mean()), t_quantile(LEVEL, clusters.effective - 1) * mean_error(values, clusters)
    low, high = skewed_interval(values, clusters)
    return (mean - reach + low) / 2, (mean + reach + high) / 2


def _text(row: MetricDifference) -> str:
    a, b = display(row.a), display(row.b)
    difference, low, high = (
        f"{value:+.4f}" if abs(value) < 100 else f"{value:+,.5g}" for value in (row.difference, row.low, row.high)
    )
    numbers = f"{row.metric} {difference}, 95 % interval {low} to {high}, {format_p(row.p_holm, named=True)}"
    if row.verdict == "better":
        return f"{a} is better than {b} ({numbers})"
    return f"no significant difference between {a} and {b} ({numbers})"
