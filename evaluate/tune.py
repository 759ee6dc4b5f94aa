"""Tuning one head: good parameters, and what they are worth on images that the search has not seen.

The cache is split as :func:`embedonce.compare` splits it. The search sees the training part only, in folds that keep
groups together when the split does; the winner is fitted on the whole training part and scored once on the test part.
The score of the search itself is no estimate: the best of many noisy scores is too good (Cawley and Talbot 2010, On
over-fitting in model selection; Varma and Simon 2006). The difference is reported as ``optimism``, and the default
parameters go through all of it as well, so that what tuning brought can be seen.

The search itself is successive halving: see :mod:`embedonce.evaluate.tune_search`.
"""

from __future__ import annotations

import functools
import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..cache.errors import HeadError, SplitError
from ..cache.names import display
from ..cache.reader import FeatureCache
from ..extract.progress import Progress
from ..heads.registry import make_head
from ..heads.search import candidates, search_space
from ..heads.spaces import Space
from .compare import notes_on, plan_splits
from .comparison import HeadResult
from .fitting import fit_and_score
from .groups import groups_for
from .groups_file import Groups
from .metrics import METRICS
from .paired import compare_pair
from .parallel import check_jobs, run_jobs
from .parts import Split
from .tune_folds import FOLDS, inner_folds
from .tune_search import TRIALS, Search, check_seconds

__all__ = ["Tuning", "tune"]


@dataclass
class Tuning:
    """What a search found, and what that is worth.

    Attributes
    ----------
    cache : FeatureCache
    head : str
    metric : str
        As :func:`tune` takes it.
    space : mapping of str to Range or Choice
        What was searched.
    best_parameters : dict
        Value of every parameter of the space; the defaults when nothing was better.
    default_parameters : dict
    table : list of dict
        One per candidate and rung: ``trial`` (0 is the default), ``rung``, ``images`` (mean number that a fit had),
        ``parameters``, ``score`` and ``sd`` (mean and sample standard deviation over the folds; NaN for what failed or
        was not finished), ``fit_seconds`` (mean), ``note``.
    inner_score, inner_default : float
        Mean score over the folds of the best and of the default parameters, in the same rung.
    result, default : HeadResult
        Of both on the test part, fitted on the whole training part; ``default`` is None when it cannot be fitted.
    difference : dict or None
        Accuracy of both on the test part compared image by image: see
        :func:`embedonce.evaluate.paired.compare_pair`. None when there is nothing to compare.
    split : Split
        Training part, which was searched on, and test part.
    folds : list of Split
        Of the search; rows of the cache, all from the training part.
    seed : int
    notes : list of str
    seconds : float
        Wall-clock time of everything.
    trials : int
        Candidates, with the default, of which something was finished.
    """

    cache: FeatureCache
    head: str
    metric: str
    space: Space
    best_parameters: dict[str, Any]
    default_parameters: dict[str, Any]
    table: list[dict[str, Any]]
    inner_score: float
    inner_default: float
    result: HeadResult
    default: HeadResult | None
    split: Split
    folds: list[Split]
    seed: int
    difference: dict[str, Any] | None = None
    notes: list[str] = field(default_factory=list)
    seconds: float = 0.0
    trials: int = 0

    @property
    def outer_score(self) -> float:
        """The best parameters' score on the test part, the number to report; NaN when there is none of it."""
        return self._score_of(self.result)

    @property
    def outer_default(self) -> float:
        """The default parameters' score on the test part; NaN also when they cannot be fitted."""
        return self._score_of(self.default)

    def _score_of(self, result: HeadResult | None) -> float:
        score = None if result is None else result.scores[self.metric]
        return math.nan if score is None else float(score)

    @property
    def gain(self) -> float:
        """By how much the best parameters are better than the defaults on the test part; below 0 if worse."""
        return METRICS[self.metric].sign * (self.outer_score - self.outer_default)

    @property
    def optimism(self) -> float:
        """By how much the search's score is better than the one on the test part.

        Training images are fewer in the search, which lowers its score: optimism can be below 0.
        """
        return METRICS[self.metric].sign * (self.inner_score - self.outer_score)

    @property
    def options(self) -> list[str]:
        """The best parameters as ``embedonce compare -p`` takes them, such as ``svm.C=0.1``."""
        return [f"{self.head}.{name}={_as_option(value)}" for name, value in self.best_parameters.items()]

    def save(self, folder: Path | str) -> list[Path]:
        """Write ``tune.json``, ``trials.csv``, ``tune.png`` and ``tune.svg`` into a folder; return their paths.

        Raises
        ------
        OutputError
            When the folder or a file cannot be written.
        """
        from .tune_plot import save_tuning

        return save_tuning(self, folder)

    def __str__(self) -> str:
        lines = [f"{'':<10}{'search':>10}{'test':>10}"]
        lines.append(f"{'best':<10}{self.inner_score:>10.4f}{self.outer_score:>10.4f}")
        lines.append(f"{'default':<10}{self.inner_default:>10.4f}{self.outer_default:>10.4f}")
        return "\n".join([" ".join(map(display, self.options)), *lines, *self.notes])


def tune(
    cache: FeatureCache | Path | str,
    head: str,
    *,
    space: Mapping[str, Sequence[Any]] | None = None,
    parameters: Mapping[str, Any] | None = None,
    split: str | Path | Split | None = None,
    groups: Groups | Path | str | None = None,
    seed: int = 0,
    folds: int = FOLDS,
    trials: int = TRIALS,
    metric: str = "accuracy",
    budget: float | None = None,
    jobs: int = 1,
    dask: Any = None,
    on_rung: Callable[[str], None] | None = None,
    progress: Progress | None = None,
) -> Tuning:
    """Search good parameters of a head in the training part, and score them on the test part.

    Parameters
    ----------
    cache : FeatureCache or path-like
    head : str
        A name as :func:`embedonce.make_head` takes it.
    space : mapping of str to sequence, optional
        Values of every parameter to search; needed for a head that is not one of ours.
    parameters : mapping, optional
        Parameters that stay as they are given, in the default as well.
    split, groups, jobs, dask
        See :func:`embedonce.compare`. Jobs are fits of the search.
    seed : int
        Of the split, the folds, the candidates and the images of each rung. The same seed gives the same result, unless
        the budget ends the search.
    folds : int
        Of the search, at least 2.
    trials : int
        Candidates besides the default.
    metric : str
        A score of ``results.json``, such as ``accuracy``, ``log_loss`` or ``mcc``, whose mean over the folds is made
        best. Of equals the default is taken, or the one that was better on fewer images.
    budget : float, optional
        Seconds after which no fit of the search begins; what has begun is finished and counts. The defaults are
        scored, and two heads are fitted in the end, however short it is. On a cluster the workers' clocks count.
    on_rung : callable, optional
        Called with a line of text before each rung.
    progress : Progress, optional
        Of finding groups.

    Returns
    -------
    Tuning

    Raises
    ------
    HeadError, HeadParameterError
        Before anything is fitted when the head, a parameter or the space cannot be; later when every candidate fails.
    SplitError, GroupsError
        When the split or its folds are impossible.
    CacheError, ClusterError
        See :func:`embedonce.compare`.
    """
    begin = time.monotonic()
    check_jobs("tune", jobs, dask)
    _check(head, trials, metric, budget)
    searched = search_space(head, space, parameters)
    unfitted = make_head(head, **(parameters or {}))
    if METRICS[metric].of_probabilities and not hasattr(unfitted, "predict_proba"):
        raise HeadError(f"parameter metric of tune cannot be {metric} for head {head!r}, which has no probabilities")
    standing = unfitted.get_params(deep=False)
    default = {name: standing[name] for name in searched}
    opened = cache if isinstance(cache, FeatureCache) else FeatureCache.open(cache)
    known, notes = groups_for(opened, groups, split, progress)
    plans, note = plan_splits(opened, split, seed, known)
    outer = plans[0][0]
    if len(plans[0]) > 1 or not len(outer.test):
        raise SplitError(
            "parameter split of tune must have one training and one test part, got "
            f"{'folds' if len(plans[0]) > 1 else 'no test images'}; give a split file with both, random or grouped"
        )
    inner = inner_folds(opened, outer, known, folds, seed)

    ends = None if budget is None else time.time() + budget
    make = functools.partial(make_head, head, **(parameters or {}))
    search = Search(opened, head, make, inner, known, metric, seed, jobs, dask, ends, on_rung)
    best = search.run(candidates(searched, default, trials, seed))
    chosen = best["parameters"]
    start = search.default_of(best)
    work = {f"head {head!r} (tuned)": make(**chosen)}
    if best["trial"] and not math.isnan(start["score"]):
        work[f"head {head!r} (default)"] = make(**default)
    fits = {name: (head, made, opened, outer, known) for name, made in work.items()}
    results = list(run_jobs(fit_and_score, fits, jobs, dask))
    tuned = Tuning(
        opened, head, metric, searched, chosen, default, search.table, best["score"], start["score"], results[0],
        None if math.isnan(start["score"]) else results[-1], outer, inner, seed,
    )  # fmt: skip
    if tuned.default is not None and tuned.default is not tuned.result:
        true = opened.labels[outer.test]
        ids = None if known is None else known.ids[outer.test]
        tuned.difference = compare_pair(tuned.result.predicted == true, tuned.default.predicted == true, ids)
    tuned.notes = notes + note + notes_on(opened, outer) + search.notes + _notes(tuned)
    tuned.trials = len({row["trial"] for row in search.table})
    tuned.seconds = time.monotonic() - begin
    return tuned


def _notes(tuned: Tuning) -> list[str]:
    notes = []
    if tuned.best_parameters == tuned.default_parameters:
        notes.append("no candidate was better than the default parameters in the search")
    elif tuned.default is None:
        notes.append("the default parameters cannot be fitted on this cache, so there is nothing to compare with")
    elif tuned.gain <= 0:
        notes.append("on the test part the tuned parameters are no better than the defaults")
    if tuned.difference is not None:
        low, high, share = (100 * tuned.difference[name] for name in ("low", "high", "difference"))
        p = tuned.difference["p"]
        notes.append(
            f"tuning changed the accuracy on the test part by {share:+.1f} points (95 % interval {low:+.1f} to "
            f"{high:+.1f}, p = {p:.2g})" + (", which may be chance" if low <= 0 <= high or p > 0.05 else "")
        )
    for name, values in tuned.space.items():
        if tuned.best_parameters != tuned.default_parameters and values.at_its_end(tuned.best_parameters[name]):
            notes.append(
                f"the best {name} is at the end of what was searched ({tuned.best_parameters[name]!r}); there may be a "
                f"better one beyond: search there, such as with --space {tuned.head}.{name}=VALUE,VALUE"
            )
    return notes


def _check(head: str, trials: Any, metric: str, budget: Any) -> None:
    if not isinstance(head, str):
        raise HeadError(f"parameter head of tune must be the name of a head, got {head!r}")
    if isinstance(trials, bool) or not isinstance(trials, int) or trials < 1:
        raise HeadError(f"parameter trials of tune must be a whole number above 0, got {trials!r}")
    if metric not in METRICS:
        raise HeadError(f"parameter metric of tune must be one of {', '.join(METRICS)}, got {metric!r}")
    if budget is not None:
        check_seconds("budget of tune", budget)


def _as_option(value: Any) -> str:
    """Return a value as the command line reads it: JSON, or text that is no JSON."""
    if isinstance(value, str):
        try:
            json.loads(value)
        except ValueError:
            return value
    return json.dumps(value, default=str)
