"""Comparison of heads on the same split."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np

from ...cache import FeatureCache, display, write_atomically
from ...errors import EmbedonceError, ParameterError, check_flag, check_int, first_line
from ...extract import Progress, as_progress, notes_on_stored_oddities, timed
from ...heads.numerics import shared
from ..metrics import MARGIN, HeadDifference, MetricsLike, compare_all, leading_metric, read_metrics
from ..scoring import (
    HeadResult,
    HeadsOnPlan,
    HeadsOnSplit,
    LearningSlope,
    Views,
    calibrate_heads,
    check_calibration,
    check_jobs,
    fit_unshared,
    fold_scores,
    heads_on_plans,
    make_heads,
    name_heads,
    notes_on_fits,
    notices_of_cost,
    open_views,
    pool_results,
    record_scores,
    weigh_classes,
)
from ..shared import Records, as_json
from ..splits import (
    Groups,
    GroupsLike,
    Split,
    SplitLike,
    check_class_sizes,
    check_folds,
    check_test_fraction,
    notes_on,
    plan_splits,
    untrained_classes,
)
from ..tuning import check_seconds, search_spaces, tune_plan, tuning_notes, with_tuned
from .aligned_caches import AlignedCaches, open_caches, score_caches
from .external import open_external, score_external
from .head_seeds import score_head_seeds
from .image_models import choose_splits, open_models, score_model
from .learning_curve import learning_outlook, score_learning_curve
from .own_metrics import score_own_metrics
from .result import Comparison
from .shortcuts import audit_shortcuts
from .subgroups import check_columns, score_subgroups

_LOGGER = logging.getLogger(__name__)
CacheLike: TypeAlias = FeatureCache | AlignedCaches | Path | str
DEFAULT_HEADS = ("logreg", "svm", "softmax")


def compare(
    cache: CacheLike | Sequence[CacheLike | Sequence[CacheLike]],
    heads: str | Sequence[Any] | Mapping[str, Any] = DEFAULT_HEADS,
    *,
    split: SplitLike | None = None,
    groups: GroupsLike | None = None,
    seed: int = 0,
    test_fraction: float | None = None,
    folds: int | None = None,
    repeats: int = 1,
    class_weight: Literal["balanced"] | None = None,
    calibrate: Literal["temperature", "sigmoid"] | None = None,
    tune: float | None = None,
    views: Literal["train", "average", "both"] | None = None,
    learning_curve: bool = False,
    image_models: Sequence[Path | str] | Path | str = (),
    external: Sequence[FeatureCache | Path | str] | FeatureCache | Path | str = (),
    external_classes: Mapping[str, str] | Path | str | None = None,
    by: str | Sequence[str] = (),
    metrics: MetricsLike = (),
    head_seeds: int | None = None,
    shortcuts: bool = True,
    jobs: int = 1,
    dask: Any = None,
    progress: Progress | None = None,
    partial_results: Path | str | None = None,
) -> Comparison:
    """Train heads on the training rows of a cache and test them on the test rows.

    A head that fails is left out, with a note, and is in ``Comparison.failed``.

    Parameters
    ----------
    cache : FeatureCache, path-like, or sequence of them
        Several caches are of the same images, which are matched by content: every head is trained on each of them, with
        the groups and the splits of the first. A text ``a.h5+b.h5``, or a sequence in the sequence, joins the features
        of several caches.
    heads : str, sequence, or mapping of str to dict or classifier, default=("logreg", "svm", "softmax")
        Names as `make_head` takes them, or unfitted scikit-learn classifiers, or both. A mapping gives
        the parameters, or a classifier, of each name; ``head`` among the parameters says which head a name is for.
    split : str, path-like, Split, pair of arrays, splitter or list, default=None
        ``grouped`` or ``random`` (80 % for training, stratified); the path of a split file, or ``FILE:COLUMN``; a
        `Split` or a pair (train, test) of row numbers; a splitter of scikit-learn, such as
        ``StratifiedGroupKFold``; or a list of folds, each a `Split` or a pair. By default a grouped and a random split
        if there are near-duplicates, to show the leakage gap.
    groups : path-like, Groups, mapping, array-like or Series, default=None
        Images that belong together, such as those of one patient: the path of a CSV file with the columns
        ``path,group``, a `Groups`, a mapping from path to group, or one group per row. By default the
        near-duplicates that `find_groups` finds, which are kept in a file next to the cache.
    seed : int, default=0
        Random seed of the splits, the folds and the bootstrap.
    test_fraction : float, default=None
        Fraction of the images, or groups, for testing, of a random or grouped split; by default 0.2. A smaller test
        part is a part of a larger one with the same seed.
    folds : int, default=None
        Number of folds of a cross-validation, which tests every image once; by default one split.
    repeats : int, default=1
        Number of cross-validations, each with other folds.
    class_weight : {"balanced"}, default=None
        Give every class the same weight in training.
    calibrate : {"temperature", "sigmoid"}, default=None
        Calibrate probabilities on folds of the training images.
    tune : float, default=None
        Time budget in seconds of the search for parameters of each head, in the training rows only. With folds every
        fold has its own search (nested cross-validation), and these share the time budget. Given parameters stay.
    views : {"train", "average", "both"}, default=None
        Use the augmented views that `extract_features` wrote: as further training rows, to average
        the probabilities of every test image over, or both.
    learning_curve : bool, default=False
        Also train every head on growing parts of the training images, and say whether more images would help.
    image_models : path-like or sequence of path-like, default=()
        ``.keras`` files of `finetune` or `export`, which classify the images of the
        test rows.
    external : cache, path-like, str, or sequence of them, default=()
        Caches of images from elsewhere, on which the trained heads are scored too, with and without the images that
        have a near-duplicate in training. ``@COLUMN`` is a column of metadata, such as ``@site``: the images of each
        of its values are tested by heads that are trained on those of the others.
    external_classes : mapping, path-like, default=None
        Class of each class name of the external caches that is another one: a mapping, or the path of a CSV file with
        the columns ``external,class``. Other unknown classes are left out and counted.
    by : str or sequence of str, default=()
        Columns of metadata, such as ``@site``: every score is also given for the test images of each value.
    metrics : callable, str, sequence of them, or mapping from name, default=()
        Further metrics: functions of true and predicted class names, arrays of str of shape (t,), such as
        ``sklearn.metrics.cohen_kappa_score``; scorers of scikit-learn, as `sklearn.metrics.make_scorer` makes
        them, which also get probabilities; or ``"package.module:function"``. More is better, unless the last word of
        the name of a function is loss, error, cost or deviance.
    head_seeds : int, default=None
        Also train every head that has randomness with so many values of ``random_state``, from 0, at least 2, on the
        same split, and say how much its score moves by that alone. With folds, on every fold.
    shortcuts : bool, default=True
        Also score small classifiers that know only values which hold no object, such as size and format of the files,
        camera, border and colour. A note says if they come near the best head.
    jobs : int, default=1
        Number of processes that train heads at the same time.
    dask : str, path-like or distributed.Client, default=None
        Train on a Dask cluster: the scheduler's address, its scheduler file (``.json``), or a client. Every worker
        needs embedonce and, under the same path, the cache.
    progress : Progress, default=None
        Display of the progress; by default none.
    partial_results : path-like, default=None
        JSON file that is written again whenever a head is trained, with the scores of all that are finished, so that
        an interrupted comparison leaves them.

    Returns
    -------
    Comparison
        Results on the grouped split if there are two; those on the random split are its ``leaky``. For an image folder
        with a split, results on that split; if groups are on both sides of it, those on a grouped split are its
        ``grouped``.

    Raises
    ------
    HeadError, HeadParameterError
        When a head is unknown, has no such parameter, or cannot be sent to another process, or when all heads fail.
    ParameterError
        When an option has an impossible value.
    SplitError
        When the split is impossible, the groups do not fit the cache, or an image model was trained on test images.
    ModelFileError, ImageError
        When an image model cannot be read, or a test image is missing or has changed.
    GroupsError
        When near-duplicates cannot be detected and a grouped split is asked for.
    CacheError
        When the cache cannot be read or changes during the work, or there are no views.
    ClusterError
        When the cluster cannot be reached, a worker fails, or a process is killed.

    See Also
    --------
    embedonce.diff : Compare two saved comparisons.
    embedonce.tune : Search for the parameters of one head.
    embedonce.train : Train one head and write it to a file.

    Examples
    --------
    >>> import embedonce as eo, numpy as np
    >>> X = np.random.default_rng(0).normal(size=(60, 1280)).astype(np.float32)
    >>> cache = eo.FeatureCache.from_arrays(X, ["cat", "dog"] * 30)
    >>> comparison = eo.compare(cache, {"logreg": {"C": 0.1}, "knn": {}}, split="random")
    >>> sorted(result.name for result in comparison.results)
    ['knn', 'logreg']
    """
    check_jobs("compare", jobs, dask)
    check_folds(split, folds, repeats)
    if tune is not None:
        check_seconds("tune", "compare", tune)
    check_calibration(calibrate)
    check_flag("learning_curve", "compare", learning_curve)
    if head_seeds is not None:
        check_int("head_seeds", "compare", head_seeds, 2)
    check_flag("shortcuts", "compare", shortcuts)
    progress = timed(as_progress(progress, "compare"))
    progress.phase("groups and splits")
    aligned = open_caches(cache)
    opened = aligned.cache
    for option, value in (("views", views), ("external", external)):
        aligned.require_plain(option, value)
    aligned.check_split(split)
    named = name_heads(heads)
    made = make_heads(named)
    weight_notes = weigh_classes(made, class_weight)
    names = aligned.result_names(made)
    unfitted = {name: made[head] for by_head in names for head, name in by_head.items()}
    models = open_models(image_models, opened, unfitted)
    open_view = open_views(opened, views)
    columns = check_columns(by, opened)
    own_metrics = read_metrics(metrics, opened.class_names, "compare")
    outside, class_names = open_external(external, external_classes, opened)
    if outside and open_view is not None and open_view.average:
        raise ParameterError(f"parameter views of compare must be train with external images, got {views}")
    check_test_fraction("compare", test_fraction, opened, split, folds)
    check_class_sizes(opened, split, folds or 2)
    known_groups, notes = aligned.groups_for(groups, split, progress)
    notes[:0] = aligned.notes
    progress.phase("groups and splits")
    split_key = ("splits", id(opened), id(known_groups), split if isinstance(split, str) else id(split))
    split_plans, split_notes = shared(
        (*split_key, seed, folds, repeats, test_fraction),
        lambda: plan_splits(opened, split, seed, known_groups, folds, repeats, test_fraction),
    )
    plans = heads_on_plans(unfitted, split_plans)
    rows = max(len(split.train) for split in split_plans[0])
    for text in notices_of_cost(unfitted, rows, opened.shape[1], len(opened.class_names)):
        progress.say(text)
    chosen, model_notes = choose_splits(models, opened, split_plans, known_groups)
    notes += split_notes + model_notes + notes_on_stored_oddities(opened.files)
    of_models = [
        {model.name: score_model(model, opened, plan[0], progress) for model in plan_models}
        for plan, plan_models in zip(split_plans, chosen, strict=True)
    ]
    if tune is not None:
        spaces = search_spaces(named, made)
        for number, by_head in enumerate(names):
            of_cache = {name: spaces[head] for head, name in by_head.items()}
            _tune(
                aligned.open(number), unfitted, of_cache, plans, known_groups, seed, tune, jobs, dask, progress
            )  # fmt: skip
        notes += _tuning_notes(unfitted, plans[0])
    notes += calibrate_heads(plans, calibrate)
    with contextlib.closing(progress):
        _score_heads(aligned, names, plans, known_groups, open_view, jobs, dask, progress, partial_results)
    failed = dict(item for plan in reversed(plans) for item in plan.failed.items())
    failures = [f"{display(name)} is left out: {first_line(error)}" for name, error in failed.items()]
    notes += weight_notes + ([open_view.note] if open_view is not None else [])
    if len(unfitted) * sum(map(len, split_plans)) > 1 and (jobs > 1 or dask is not None):
        notes.append("heads were trained at the same time, which slows each of them. Compare times only with jobs=1")
    for plan, results in zip(plans, of_models, strict=True):
        plan.splits[0].results |= results
    with progress.working("computing intervals and tests …", "computed"):
        caches = {
            name: cache
            for number, by_head in enumerate(names)
            for cache in [aligned.open(number)]
            for name in by_head.values()
        }
        summaries = [_summarize(opened, plan, known_groups, seed, caches) for plan in plans if plan.splits[0].results]
        for summary, plan in zip(summaries, plans, strict=False):
            score_own_metrics(summary, own_metrics, plan)
    comparison, *others = summaries
    comparison.notes += failures + notes
    comparison.failed = failed
    for each in summaries:
        split = each.split
        if each is comparison or not np.array_equal(split.test, comparison.split.test):  # all folds test every image
            for number, path in enumerate(aligned.paths):
                about = path, opened, split.test, each.results, "compare", split.method, split.seed
                earlier, ledger_notes = record_scores(*about)
                each.earlier = each.earlier if number else earlier
                comparison.notes += [note for note in ledger_notes if note not in comparison.notes]
    comparison.subgroups = score_subgroups(comparison, columns)
    if not aligned.is_plain:
        with contextlib.closing(progress):
            comparison.caches, cost_notes = score_caches(comparison, aligned, names, progress)
        comparison.notes += cost_notes
    if shortcuts:
        with progress.working("auditing shortcuts …", "audited"):
            comparison.shortcuts = audit_shortcuts(comparison, plans[0].plan.splits, seed)
        comparison.notes += [comparison.shortcuts.sentence] if comparison.shortcuts.findings else []
    if outside:
        progress.phase("external sets")
        with contextlib.closing(progress):
            comparison.external = score_external(comparison, outside, class_names, plans[0].splits[0].heads, progress)
    if head_seeds is not None:
        progress.phase("other seeds of the heads")
        with contextlib.closing(progress):
            comparison.head_seeds, seed_notes = score_head_seeds(
                comparison, plans[0], head_seeds, open_view, jobs, dask, progress
            )
        comparison.notes += seed_notes
    for other in others:
        if comparison.split.method == "given":
            comparison.grouped = other
        else:
            comparison.leaky = other
        if tune is not None and other.folds:
            other.notes[:0] = _tuning_notes(unfitted, plans[1])
    if learning_curve:
        first = plans[0].splits[0]
        slopes: dict[str, LearningSlope] = {}
        for number, by_head in enumerate(names):
            of_cache = {name: first.heads[name] for name in by_head.values() if name in first.heads}
            curve, further, curve_notes = score_learning_curve(
                aligned.open(number), of_cache, first.split, known_groups,
                metric=comparison.ranked_by, seed=seed, jobs=jobs, dask=dask, progress=progress,
            )  # fmt: skip
            comparison.learning_curve = Records([*comparison.learning_curve, *curve])
            comparison.notes += curve_notes
            slopes |= further
        comparison.learning_outlook = learning_outlook(comparison, slopes)
    progress.phase("")
    comparison.timings = dict(progress.seconds)
    return comparison


def _tune(
    cache: FeatureCache,
    unfitted: Mapping[str, Any],
    spaces: Mapping[str, Any],
    plans: Sequence[HeadsOnPlan],
    groups: Groups | None,
    seed: int,
    seconds: float,
    jobs: int,
    dask: Any,
    progress: Progress,
) -> None:
    """Search parameters for every fold of every plan; of single splits only for the first, for an equal gap."""
    searched = plans if plans[0].plan.has_folds else plans[:1]
    each = seconds / sum(len(plan.splits) for plan in searched)
    for plan in searched:

        def announce(name: str, index: int, plan: HeadsOnPlan = plan) -> None:
            progress.now(f"tuning {display(name)}{plan.splits[index].label} …")

        tuned, failed = tune_plan(
            cache, unfitted, spaces, plan.plan, groups,
            seed=seed, seconds=each, jobs=jobs, dask=dask, announce=announce,
        )  # fmt: skip
        for other in [plan] if plan.plan.has_folds else plans:
            other.drop(failed)
            for on_split, searches in zip(other.splits, tuned, strict=True):
                on_split.searches |= {name: search for name, search in searches.items() if name not in failed}
                on_split.heads = with_tuned(on_split.heads, on_split.searches)


def _tuning_notes(unfitted: Mapping[str, Any], plan: HeadsOnPlan) -> list[str]:
    unfitted = {name: head for name, head in unfitted.items() if name not in plan.failed}
    return tuning_notes(unfitted, plan.plan, [on_split.searches for on_split in plan.splits])


def _score_heads(
    aligned: AlignedCaches,
    names: Sequence[Mapping[str, str]],
    plans: Sequence[HeadsOnPlan],
    groups: Groups | None,
    views: Views | None,
    jobs: int,
    dask: Any,
    progress: Progress,
    partial_results: Path | str | None,
) -> None:
    """Fit and score the heads of every split; the results go to the split, and heads that fail are dropped."""
    from sklearn.base import clone

    finished: list[dict[str, Any]] = []
    failures: list[dict[str, str]] = []
    for cache_number, by_head in enumerate(names):
        # one cache after the other, so that the features of one at a time are in memory
        cache = aligned.open(cache_number)
        tasks = [
            (plan, on_split, name)
            for plan in plans
            for on_split in plan.splits
            for name in by_head.values()
            if name in on_split.heads
        ]
        work = {
            f"head {name!r}{on_split.label}": (name, clone(on_split.heads[name]), cache, on_split.split, groups, views)
            for _, on_split, name in tasks
        }

        def announce(number: int, tasks: Sequence[tuple[HeadsOnPlan, HeadsOnSplit, str]] = tasks) -> None:
            _, on_split, name = tasks[number]
            progress.now(f"training {display(name)}{on_split.label} …")

        for number, outcome in fit_unshared(work, jobs, dask, announce):
            plan, on_split, name = tasks[number]
            if isinstance(outcome, EmbedonceError):
                plan.failed.setdefault(name, outcome)
                failures.append({"head": name, "error": str(outcome)})
            else:
                # a head may hold many rows of features; those of further folds are not needed
                on_split.results[name] = outcome if on_split is plan.splits[0] else replace(outcome, head=None)
                (scores,) = fold_scores([on_split.split], [outcome])
                sizes = f"{len(on_split.split.train):,} training and {len(on_split.split.test):,} test images"
                _LOGGER.debug("%s%s: %s, fitted in %.2f s", display(name), on_split.label, sizes, outcome.fit_seconds)
                finished.append({"head": name, "split": on_split.split.method} | scores.to_dict())
            if partial_results is not None:
                write_atomically(partial_results, as_json({"finished": finished, "failed": failures}))
    for plan in plans:
        plan.drop(plan.failed)
        for on_split in plan.splits:
            on_split.results = {name: on_split.results[name] for name in on_split.heads}
    if not plans[0].splits[0].results:
        raise next(iter(plans[0].failed.values()))


def _summarize(
    cache: FeatureCache, plan: HeadsOnPlan, groups: Groups | None, seed: int, caches: Mapping[str, FeatureCache]
) -> Comparison:
    """Return the results on one plan; ``caches`` has that of every head, with the rows of ``cache``."""
    results = pool_results(cache, plan, None if groups is None else groups.ids, seed)
    trained = plan.splits[0].split
    results = [replace(one, trained_on=(caches.get(one.name, cache), trained)) for one in results]
    split, folds = plan.plan.merged, plan.plan.splits if plan.plan.has_folds else ()
    comparison = Comparison(
        cache,
        split,
        results,
        groups=groups,
        differences=_differences(cache, split, results, folds, groups),
        folds=list(folds),
    )
    best = comparison.table[0]
    comparison.notes += notes_on(cache, split, folds, groups, (best.name, best.predicted == cache.labels[split.test]))
    comparison.notes += notes_on_fits({result.name: result.head for result in results})
    return comparison


def _differences(
    cache: FeatureCache, split: Split, results: Sequence[HeadResult], folds: Sequence[Split], groups: Groups | None
) -> Records[HeadDifference]:
    if len(results) < 2:
        return Records()
    metric, true = leading_metric(cache.labels), cache.labels[split.test].astype(np.intp)
    classes = true if metric == "balanced_accuracy" else None
    correct = {result.name: result.predicted == true for result in results}
    ids = None if groups is None else groups.ids[split.test]
    # heads that all fail on a class that none of them knows are not tied
    margin = 0.0 if untrained_classes(cache, folds or [split]) else MARGIN
    if not folds:
        return compare_all(list(correct), correct, ids, classes, margin=margin)
    of_folds = {result.name: [entry.scores[metric] or 0.0 for entry in result.folds] for result in results}
    sizes = [(len(fold.train), len(fold.test)) for fold in folds]
    return compare_all(list(correct), correct, ids, classes, of_folds, sizes, margin=margin)
