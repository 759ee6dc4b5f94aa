"""Commands for one head: train and tune."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import click

from ..cache import counted, display
from ..evaluate.metrics import MetricName
from .command import (
    AS_JSON,
    GROUPS,
    PATH,
    POSITIVE,
    SECONDS,
    SEED,
    TEST_FRACTION,
    TIMINGS,
    WEIGHTS,
    Command,
    import_scikit_learn,
    option,
)
from .head_options import HEAD, VIEWS, parameter, search_values
from .output import print_earlier_runs, print_json, print_notes, print_scores, print_timings
from .screen import say, say_next, timed_progress, wrapped_lines


@click.command(cls=Command)
@click.argument("cache", type=PATH)
@HEAD
@option("-o", "--output", "path", type=PATH, required=True, help="Write this .npz, .keras, .skops or .joblib file.")
@option("-p", "--param", "params", multiple=True, metavar="NAME=VALUE", help="Set a parameter of the head.")
@option(
    "--split",
    metavar="grouped|random|FILE[:COLUMN]|@COLUMN|none",
    help="Test images; none trains on all. [default: grouped]",
)
@GROUPS
@option("--seed", type=SEED, default=0, help="Random seed of the split.")
@TEST_FRACTION
@VIEWS
@option("--decide", metavar="accuracy|coverage=VALUE", help="Let predict ask a person, or give sets of labels.")
@WEIGHTS
@TIMINGS
@AS_JSON
def train(
    cache: Path, head: str, path: Path, params: tuple[str, ...], as_json: bool, timings: bool, **options: Any
) -> None:
    """Train one head on CACHE and write it to a file.

    A softmax head that is written as .keras becomes an image model, which plain Keras opens. Other heads of embedonce
    are written as .npz, classifiers of scikit-learn as .skops. A .joblib file holds any head, but runs code when it is
    loaded.

    --groups keeps images of one group, such as those of one patient, on the same side of a grouped split. By default
    the groups are the near-duplicates, which are stored in CACHE.groups.csv. Without near-duplicates the split is
    random.

    --decide accuracy=0.99 chooses a threshold on held-out groups of the training images: below it, embedonce predict
    asks a person. --decide coverage=0.95 lets it give sets of labels. Both can be given with a comma.

    For example:

        # train a softmax head and write an image model
        embedonce train photos.h5 --head softmax -o softmax.keras
        # set a parameter and train on all images
        embedonce train photos.h5 --head svm -p C=10 --split none -o svm.npz
    """
    import_scikit_learn()
    from ..evaluate.models import train as train_head

    chosen = dict(parameter(text) for text in params)
    shown = timed_progress(not as_json)
    trained = train_head(cache, head, path, parameters=chosen, progress=shown, **options)
    if as_json:
        if timings:
            print_timings(shown, as_json=True)
        print_json(trained.to_dict())
        return
    if trained.result:
        print_scores(trained.result)
    say(
        f"Trained on {counted(len(trained.split.train), 'image(s)')} in {trained.fit_seconds:.1f} s: "
        f"{display(str(trained.path))}"
    )
    if trained.checked:
        say(f"The model agrees with the cached features on {trained.checked} of {trained.checked} images.")
    if trained.curves:
        say(f"Curves of accuracy and loss: {display(str(trained.curves))}")
    for one in trained.decisions:
        if one.kind == "accuracy":
            text = f"{100 * one.measured:.1f} % of the images, from probability {one.threshold:.4g} on."
            text = f"accuracy={one.target:g}: predict answers {text if one.threshold else 'all images.'}"
        else:
            text = f"coverage={one.target:g}: predict gives sets of {one.measured:.2f} labels on average."
        say(f"{text} Chosen on {counted(one.images, 'held-out training image(s)')}.")
    print_earlier_runs(trained.earlier)
    print_notes(trained.notes)
    if timings:
        print_timings(shown)
    say_next("predict", trained.path, "IMAGES")


@click.command(cls=Command)
@click.argument("cache", type=PATH)
@HEAD
@option("-p", "--param", "params", multiple=True, metavar="NAME=VALUE", help="Fix a parameter.")
@option("--space", multiple=True, metavar="NAME=VALUE,VALUE", help="Search these values of a parameter.")
@option("--split", metavar="grouped|random|FILE[:COLUMN]|@COLUMN", help="Test images. [default: grouped]")
@GROUPS
@option("--seed", type=SEED, default=0, help="Random seed of split, folds and search.")
@TEST_FRACTION
@option(
    "--metric",
    type=click.Choice(get_args(MetricName)),
    help="Score to optimize. [default: accuracy, or balanced_accuracy]",
)
@option("--folds", type=click.IntRange(min=2), default=5, help="Folds of the training images.")
@option("--trials", type=POSITIVE, default=16, help="Candidates to try.")
@option("--time-budget", type=SECONDS, metavar="SECONDS", help="Time budget.")
@option("--jobs", type=POSITIVE, default=1, help="Run this many fits in parallel.")
@option("--dask", metavar="SCHEDULER", help="Search on this Dask cluster.")
@option("-o", "--output", type=PATH, required=True, help="Write results to this folder.")
@TIMINGS
@AS_JSON
def tune(
    cache: Path,
    head: str,
    params: tuple[str, ...],
    space: tuple[str, ...],
    output: Path,
    timings: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Search parameters of one head on CACHE.

    The search uses the training images only. The best and the default parameters are then scored once on the test
    images. Without near-duplicates the split is random. --space replaces the range of the head and is required for
    classifiers of other packages.

    For example:

        # search for an hour
        embedonce tune photos.h5 --head svm --time-budget 3600 -o runs/svm
        # choose the values
        embedonce tune photos.h5 --head logreg --space C=0.01,0.1,1 -o runs/logreg
    """
    import_scikit_learn()
    from ..cache import FeatureCache, make_folder, refuse_input_as_output
    from ..evaluate.tuning import tune as tune_head

    opened = FeatureCache.open(cache)
    refuse_input_as_output(output, cache)
    make_folder(output, "results")  # before the work, not after it
    shown = timed_progress()
    tuned = tune_head(
        opened,
        head,
        space=search_values(space, head) or None,
        parameters=dict(parameter(text) for text in params),
        progress=shown,
        **options,
    )
    shown.phase("writing the results")
    written = tuned.save(output)
    shown.phase("")
    if as_json:
        print_json(tuned.to_dict())
        if timings:
            print_timings(shown, as_json=True)
        return
    click.echo(wrapped_lines(str(tuned)))
    print_earlier_runs(tuned.earlier)
    for path in written:
        say(f"Wrote {display(str(path))}")
    if timings:
        print_timings(shown)
    if tuned.options:
        best = [word for one in tuned.options for word in ("-p", one)]
        say_next("compare", cache, "--heads", head, *best, "-o", "DIR")


COMMANDS = (train, tune)
