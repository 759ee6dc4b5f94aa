"""Comparing heads: the same rows, the same split, one table."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ...cache import FeatureCache
from ...extract import Progress
from ..duplicates import groups_for
from ..metrics import compare_all, score_intervals
from ..scoring import (
    HeadResult,
    Views,
    approximations,
    calibrate_heads,
    check_calibration,
    check_jobs,
    fit_and_score,
    job_label,
    make_heads,
    mean_over_repeats,
    open_views,
    pool,
    rounds,
    run_jobs,
    weigh_classes,
)
from ..splits import Groups, GroupsLike, SplitLike, SplitPlan, notes_on, plan_splits
from ..tuning import Found, check_seconds, search_spaces, tune_heads, tuning_notes, with_found
from .image_models import choose_splits, open_models, score_model
from .learning_curve import budget_curve
from .result import Comparison

DEFAULT_HEADS = ("softmax", "logreg", "svm")


def compare(
    cache: FeatureCache | Path | str,
    heads: Sequence[str] | Mapping[str, Any] = DEFAULT_HEADS,
    split: SplitLike | None = None,
    seed: int = 0,
    on_head: Callable[[str], None] | None = None,
    jobs: int = 1,
    dask: Any = None,
    groups: GroupsLike | None = None,
    progress: Progress | None = None,
    *,
    folds: int | None = None,
    repeats: int = 1,
    class_weight: str | None = None,
    calibrate: str | None = None,
    tune: float | None = None,
    label_budget: bool = False,
    image_models: Sequence[Path | str] | Path | str = (),
    views: str | None = None,
) -> Comparison:
    """Train heads on the same rows of a cache and test them on the same others.

    Parameters
    ----------
    cache : FeatureCache or path-like
    heads : sequence of str, or mapping of str to dict or classifier
        Names as :func:`embedonce.make_head` takes them; or names with a dict of parameters or with an
        unfitted scikit-learn classifier each. Under a name of your own, ``head`` in the dict says which head it is.
    split : str, path-like, Split, pair of arrays, splitter or list, default=None
        ``grouped`` or ``random`` (80/20, stratified); the path of a split file, or ``FILE:COLUMN``; a
        :class:`embedonce.Split` or a pair (train, test) of row numbers; a splitter of scikit-learn, such as
        ``StratifiedGroupKFold``; or a list of folds, each a `Split` or a pair. By default both a grouped and a random
        split if any images are near-duplicates; the difference of their scores is the leakage gap.
    seed : int
        Of the random and the grouped split.
    on_head : callable, optional
        Called with a head's name, and with its split where there are several, before it is trained.
    jobs : int
        Heads that are trained and tested at the same time, each in a process of its own that reads the features
        from the cache's file. The results are those of one process, but for the rounding of sums that another
        number of processor threads adds up in another order.
    dask : str, path-like or distributed.Client, optional
        Train and test on a Dask cluster, each head on a thread of its own: the scheduler's address, the path of its
        scheduler file (``.json``), or a client. Every worker needs embedonce, the same versions of the packages that
        decide scores and, under the same path, the cache.
    groups : path-like, Groups, mapping, array-like or Series, default=None
        Images that belong together, such as those of one patient: the path of a CSV file with the columns
        ``path,group``, a :class:`embedonce.Groups`, a mapping from path to group, or one group per row. By default the
        near-duplicates that :func:`embedonce.find_groups` finds, which are kept in a file next to the cache.
    progress : Progress, optional
        Of finding them.
    folds : int, optional
        Cross-validation: every image is tested once, by a head that was trained on the other folds. A split file
        that has folds says their number itself. By default one split, which is faster.
    repeats : int
        Cross-validations, each with folds of its own.
    class_weight : str, optional
        ``balanced``: every class counts the same in training, however many images it has. Heads that cannot do this
        are trained as they are, which a note says.
    calibrate : str, optional
        ``temperature`` or ``sigmoid``: :class:`embedonce.heads.calibrated.CalibratedHead`, on folds of the training
        images. Heads without probabilities stay as they are, which a note says.
    tune : float, optional
        Seconds in all to look for good parameters of each head with, as :func:`embedonce.evaluate.tuning.run.tune`
        does, in the training part of the honest split; a random one beside it takes the same parameters. With folds
        every fold, of the random ones too, has a search of its own in its training part (nested cross-validation), and
        these share the seconds equally. Parameters that are given stay: of a head of ours that is given as an
        instance, those that differ from their defaults. The parameters that a head has without tuning are always
        scored, however short the time is. Views take no part in the search.
    label_budget : bool
        Also train every head on growing parts of the training images.
    image_models : path-like or sequence of path-like
        ``.keras`` files of :func:`embedonce.finetune` or :func:`embedonce.export` to stand beside the heads, each under
        its file's name: they classify the images of the test rows. One whose training images are in the test part of
        the random split beside the grouped one takes no part in the random one.
    views : {"train", "average", "both"}, optional
        Use the views that :func:`embedonce.extract_features` put beside the cache: as further training rows, to
        average the probabilities of every test image over, or for both. They stay with their image on every side.

    Returns
    -------
    Comparison
        Of the grouped split when there are two; the other is its ``random``.

    Raises
    ------
    HeadError, HeadParameterError
        Before anything is trained when a head is unknown or has no such parameter; later when one fails, or cannot
        be sent to another process.
    SplitError
        When the split is impossible, the groups do not fit the cache, or an image model was trained on test images.
    ModelFileError, ImageError
        When an image model is none, or a test image of it is gone or has changed.
    GroupsError
        When a grouped split is asked for and groups cannot be found.
    CacheError
        When there are no views, or the cache cannot be read, or has changed when another process comes to it.
    ClusterError
        When the cluster cannot be reached, a worker cannot do its part, or a process is killed.
    """
    check_jobs("compare", jobs, dask)
    if tune is not None:
        check_seconds("tune", "compare", tune)
    opened = cache if isinstance(cache, FeatureCache) else FeatureCache.open(cache)
    made = make_heads(heads)
    models = open_models(image_models, opened, made)
    check_calibration(calibrate)  # before the work, not after it
    weighted = weigh_classes(made, class_weight)
    turned = open_views(opened, views)
    known, notes = groups_for(opened, groups, split, progress)
    plans, note = plan_splits(opened, split, seed, known, folds, repeats)
    chosen, more = choose_splits(models, opened, plans, known)
    note += more
    scored = [
        [score_model(model, opened, plan[0], progress) for model in part]
        for plan, part in zip(plans, chosen, strict=True)
    ]
    found: Found = [[{} for _ in splits] for splits in plans]
    if tune is not None:
        found = tune_heads(opened, made, search_spaces(heads, made), plans, known, seed, tune, jobs, dask, on_head)
        note += tuning_notes(made, plans[0], found[0])
    prepared = [[with_found(made, of_split) for of_split in of_plan] for of_plan in found]
    note += calibrate_heads([of_split for of_plan in prepared for of_split in of_plan], calibrate)
    results = _run(opened, prepared, plans, known, turned, jobs, dask, on_head)
    notes += note + weighted + ([turned.note] if turned is not None else [])
    if len(made) * sum(map(len, plans)) > 1 and (jobs > 1 or dask is not None):
        notes.append("heads were trained beside each other, which slows each of them: compare times only with jobs=1")
    for of_heads, of_models in zip(results, scored, strict=True):
        of_heads |= {result.name: [result] for result in of_models}
    comparisons = [_summarise(opened, plan, scores, known, seed) for plan, scores in zip(plans, results, strict=True)]
    for comparison, of_plan in zip(comparisons, found, strict=True):
        for result in comparison.results:
            result.tuning = [of_split[result.name] for of_split in of_plan if result.name in of_split]
    comparisons[0].notes[:0] = notes
    if len(comparisons) > 1:
        comparisons[0].random = comparisons[1]
        if tune is not None and len(plans[1]) > 1:
            comparisons[1].notes[:0] = tuning_notes(made, plans[1], found[1])
    if label_budget:
        first = prepared[0][0]
        comparisons[0].budget = budget_curve(opened, first, plans[0][0], known, seed=seed, jobs=jobs, dask=dask)
    return comparisons[0]


def _run(
    cache: FeatureCache,
    heads: list[list[dict[str, Any]]],
    plans: Sequence[SplitPlan],
    groups: Groups | None,
    views: Views | None,
    jobs: int,
    dask: Any,
    on_head: Callable[[str], None] | None,
) -> list[dict[str, list[HeadResult]]]:
    """Fit and score the heads of every split on it; return the results by plan and head."""
    from sklearn.base import clone

    work = {}
    places: list[tuple[int, int, str, str]] = []
    for number, splits in enumerate(plans):
        for turn, parts in enumerate(splits):
            for name, head in heads[number][turn].items():
                label = job_label(name, plans, number, turn)
                work[f"head {label!r}" if label == name else f"head {name!r}{label[len(name) :]}"] = (
                    name,
                    clone(head) if places else head,
                    cache,
                    parts,
                    groups,
                    views,
                )
                places.append((number, turn, name, label))
    announce = None if on_head is None else lambda number: on_head(places[number][3])
    results: list[dict[str, list[HeadResult]]] = [{name: [] for name in of_plan[0]} for of_plan in heads]
    outcomes = run_jobs(fit_and_score, work, jobs, dask, announce)
    for (number, turn, name, _), result in zip(places, outcomes, strict=True):
        if turn:  # a head may hold many rows of features, and nobody asks for those of further folds
            result.head = None
        results[number][name].append(result)
    return results


def _summarise(
    cache: FeatureCache, plan: SplitPlan, scored: dict[str, list[HeadResult]], groups: Groups | None, seed: int
) -> Comparison:
    """Put the results on one plan together, with their intervals and differences."""
    splits, split = plan.splits, plan.merged
    if not plan.has_folds:
        results = [results[0] for results in scored.values()]
        repeats = {result.name: [result] for result in results}
    else:
        results, repeats = [], {}
        for name, of_folds in scored.items():
            repeats[name] = pool(cache, splits, of_folds)
            first = repeats[name][0]
            first.scores = mean_over_repeats(repeats[name])
            first.rounds = rounds(splits, of_folds)
            results.append(first)
    ids = None if groups is None else groups.ids[split.test]
    true = cache.labels[split.test].astype(np.intp)
    for result in results:
        ends = [
            score_intervals(true, one.predicted, one.probabilities, cache.class_names, ids, seed=seed)
            for one in repeats[result.name]
        ]
        # every repeat tests the same images, so repeating does not make the interval narrower
        result.intervals = {
            name: (float(np.mean([each[name][0] for each in ends])), float(np.mean([each[name][1] for each in ends])))
            for name in ends[0]
            if all(name in each for each in ends)
        }
    differences = []
    if len(results) > 1:
        correct = {result.name: result.predicted == true for result in results}
        folds = sizes = None
        if len(splits) > 1:
            folds = {result.name: [entry["accuracy"] for entry in result.rounds] for result in results}
            sizes = [(len(part.train), len(part.test)) for part in splits]
        differences = compare_all(list(correct), correct, ids, folds, sizes)
    notes = notes_on(cache, split) + approximations({result.name: result.head for result in results})
    return Comparison(cache, split, results, notes, None, groups, differences, list(splits) if plan.has_folds else [])
