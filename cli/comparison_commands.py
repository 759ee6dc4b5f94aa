"""Commands that compare heads: compare and init."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from ..cache import counted, display
from ..errors import EmbedonceError
from .command import (
    GROUPS,
    PATH,
    POSITIVE,
    SECONDS,
    SEED,
    TEST_FRACTION,
    TIMINGS,
    Command,
    import_scikit_learn,
    option,
    print_error,
)
from .head_options import HEADS_HELP, METRICS, VIEWS, complete_heads, head_parameters, set_parameters
from .output import print_comparison, print_grid, print_json, print_notes, print_timings
from .screen import if_interrupted, say, say_next, timed_progress

if TYPE_CHECKING:
    from ..evaluate.comparison import AlignedCaches
    from ..evaluate.report import Figures, MlflowStore
    from ..extract import Progress


def _take_config(ctx: click.Context, option: click.Parameter, path: Path | None) -> None:
    """Make the values of the file the defaults of the options."""
    if path is None:
        return
    import_scikit_learn()
    from ..evaluate.comparison import read_config

    options, heads = read_config(path)
    ctx.meta["grid"] = options.pop("grid", None)
    if isinstance(options.get("cache"), str):
        options["cache"] = [options["cache"]]
    ctx.default_map = {**(ctx.default_map or {}), **options}
    ctx.meta["heads"] = heads


@click.command(cls=Command)
@click.argument("cache", type=PATH, nargs=-1, required=True)
@option(
    "--heads", metavar="NAME,NAME", shell_complete=complete_heads, help=f"{HEADS_HELP}. [default: logreg,svm,softmax]"
)
@option("-p", "--param", "params", multiple=True, metavar="HEAD.NAME=VALUE", help="Set a parameter of a head.")
@option("--split", metavar="grouped|random|FILE[:COLUMN]|@COLUMN", help="Test images. [default: grouped and random]")
@GROUPS
@option("--seed", type=SEED, default=0, help="Random seed of the splits.")
@TEST_FRACTION
@option("--folds", type=click.IntRange(min=2), metavar="K", help="Cross-validate with this many folds.")
@option("--repeats", type=POSITIVE, default=1, help="Repeat the cross-validation with different folds.")
@option("--class-weight", type=click.Choice(["balanced"]), help="Give every class the same weight.")
@option(
    "--calibrate", type=click.Choice(["temperature", "sigmoid"]), help="Calibrate probabilities on the training images."
)
@option("--tune", type=SECONDS, metavar="SECONDS", help="Tune each head first, within this time budget.")
@option("--maps", is_flag=True, help="Explain incorrect predictions in the report.")
@option(
    "--figures",
    type=click.Choice(["none", "report", "all"]),
    default="all",
    help="Draw no figures, those of the report, or also files.",
)
@option(
    "--with",
    "image_models",
    type=PATH,
    multiple=True,
    metavar="FILE.keras",
    help="Also test this image model; repeatable.",
)
@option("--external", multiple=True, metavar="CACHE|@COLUMN", help="Also score images from elsewhere; repeatable.")
@option("--by", multiple=True, metavar="@COLUMN", help="Also score each value of this column; repeatable.")
@METRICS
@option("--head-seeds", type=click.IntRange(min=2), metavar="K", help="Also train random heads with K seeds.")
@option("--shortcuts/--no-shortcuts", default=True, help="Audit what holds no object, such as file sizes.")
@option("--external-classes", type=PATH, metavar="FILE", help="CSV of external,class: other class names.")
@VIEWS
@option("--learning-curve", is_flag=True, help="Plot the score against training images.")
@option("--jobs", type=POSITIVE, default=1, help="Train this many heads in parallel.")
@option("--dask", metavar="SCHEDULER", help="Train on this Dask cluster.")
@option("--fail-under", multiple=True, metavar="METRIC>=VALUE", help="Exit status 1 if the best head scores worse.")
@option(
    "--config",
    type=PATH,
    is_eager=True,
    expose_value=False,
    callback=_take_config,
    metavar="FILE",
    help="TOML file of heads and options.",
)
@option("--mlflow", metavar="URI", help="Also log to this MLflow tracking store.")
@option("-o", "--output", type=PATH, required=True, help="Write results to this folder.")
@TIMINGS
@option("--json", "as_json", is_flag=True, help="Print results.json.")
@click.pass_context
def compare(
    ctx: click.Context,
    /,
    cache: tuple[Path, ...],
    heads: str | None,
    params: tuple[str, ...],
    fail_under: tuple[str, ...],
    maps: bool,
    figures: Figures,
    timings: bool,
    mlflow: str | None,
    output: Path,
    as_json: bool,
    **options: Any,
) -> None:
    """Train and test heads on the same images of CACHE.

    Several CACHEs are of the same images, such as with 96 and 224 pixels: every head is trained on each, and one table
    has their scores and costs. a.h5+b.h5 joins the features of two.

    By default, near-duplicates stay on the same side of an 80/20 split, and a random split shows by how much it
    overstates the scores. --split chooses one of them or a split file. --groups replaces the near-duplicates by groups
    such as patients. OUTPUT gets a report (report.html), all numbers (results.json) and the figures, which take most of
    the time of small comparisons: --figures draws fewer.

    --tune searches parameters of each head in the training images. Its time budget is in seconds per head; folds share
    it. Parameters set with --param are not searched. --calibrate uses folds of the training images. --views uses the
    views of embedonce extract --views: train on them, average probabilities over them, or both. --maps needs the
    backbone's weights.

    --external scores the trained heads on other caches too, with and without images that have a near-duplicate in
    training. --external @COLUMN tests the images of each value of a column, such as a site, by heads trained on the
    others.

    --metric takes a function of true and predicted class names, such as sklearn.metrics:cohen_kappa_score, or a scorer
    of scikit-learn. More is better, unless the last word of its name is loss, error, cost or deviance.

    --fail-under takes METRIC>=VALUE, or HEAD.METRIC>=VALUE for one head, in quotes; METRIC>=VALUE@lower is for the
    lower end of the 95 % interval. The score of the best head is corrected for the choice. embedonce tune --help lists
    the metrics, and those of --metric count too; log_loss must be <= VALUE.

    --mlflow takes the address of a store, such as http://localhost:5000 or sqlite:///mlflow.db, and needs
    embedonce[mlflow]. MLFLOW_EXPERIMENT_NAME names the experiment, by default embedonce.

    --config reads the file that embedonce init writes; options on the command line override it. Its [grid] combines
    heads, parameters and seeds: each comparison gets a folder in OUTPUT, without figures unless --figures is given, and
    the same command continues after an interruption. --dask takes the
    address of a scheduler (tcp://host:8786) or its scheduler file (.json); every worker needs embedonce[cluster] and,
    under the same path, CACHE.

    For example:

        # compare the default heads and write a report
        embedonce compare photos.h5 -o runs/photos
        # cross-validate and keep the images of each patient together
        embedonce compare photos.h5 --folds 5 --groups patients.csv -o runs/patients
        # compare the features of two sizes, and both together
        embedonce compare small.h5 large.h5 small.h5+large.h5 -o runs/sizes
        # score each scanner, a column of metadata
        embedonce compare photos.h5 --by @scanner -o runs/scanners
        # score the heads on images of another hospital
        embedonce compare photos.h5 --external elsewhere.h5 -o runs/external
        # read heads from a file; exit status 1 if the accuracy may be below 90 %
        embedonce compare --config heads.toml --fail-under 'accuracy>=0.9@lower'
    """
    import_scikit_learn()
    from ..cache import make_folder, refuse_input_as_output
    from ..evaluate.comparison import DEFAULT_HEADS, failed_gates, open_caches, read_gates
    from ..evaluate.comparison import compare as compare_heads
    from ..evaluate.metrics import read_metrics
    from ..evaluate.report import PARTIAL, MlflowStore, next_command

    opened = open_caches(cache if len(cache) > 1 else cache[0])
    chosen: dict[str, Any] = ctx.meta.get("heads") or {}
    if heads is None and chosen:
        chosen = set_parameters(chosen, params)
    else:
        chosen = head_parameters(",".join(DEFAULT_HEADS) if heads is None else heads, params)
    own = read_metrics(options["metrics"], opened.cache.class_names, "compare")
    store = None if mlflow is None else MlflowStore.open(mlflow)  # an error now, not after the work
    if ctx.meta.get("grid") is not None:
        if fail_under:
            raise click.UsageError("--fail-under is for one comparison, not for a [grid].", ctx)
        _compare_grid(ctx, opened, chosen, params, output, figures, maps, store, timings, as_json, options)
        return
    names = [name for by_head in opened.result_names(chosen) for name in by_head.values()]
    gates = read_gates(fail_under, [*names, *(path.name for path in options["image_models"])], own)
    refuse_input_as_output(output, *opened.paths)
    make_folder(output, "results")  # before the work, not after it
    partial = output / PARTIAL
    partial.unlink(missing_ok=True)  # of an earlier run
    shown = timed_progress()
    if_interrupted(f"The scores of finished heads are in {display(str(partial))}.", partial)
    comparison = compare_heads(opened, chosen, progress=shown, partial_results=partial, **options)
    comparison.next_command = next_command(
        comparison, **{name: options[name] for name in ("split", "groups", "seed", "test_fraction", "views")}
    )
    printed = len(comparison.notes)
    if not as_json:
        print_comparison(comparison)
    with shown.display.working("drawing the figures and the report …", "drawn"):
        written = comparison.save(output, maps=maps, figures=figures)
    failed = failed_gates(comparison, gates)
    if as_json:
        click.echo((output / "results.json").read_text(encoding="ascii"), nl=False)
    else:
        print_notes(comparison.notes[printed:])
        for path in written:
            if path.name in ("results.json", "report.html"):
                say(f"Wrote {display(str(path))}")
    if timings:
        print_timings(shown, comparison.timings, as_json=as_json)
    if comparison.next_command and not as_json:
        say_next(*comparison.next_command)
    errors = [*comparison.failed.values(), *_log(store, [output], shown.display)]
    for error in errors:
        print_error(ctx, error)
    for text in failed:
        say(f"Not reached: {text}.", err=True)
    if failed or errors:
        ctx.exit(1)


def _log(store: MlflowStore | None, folders: Sequence[Path], shown: Progress) -> list[EmbedonceError]:
    """Log saved comparisons to a store, if there is one; return the error that ended it."""
    if store is None:
        return []
    try:
        with shown.working("logging to MLflow …", "logged"):
            logged = [store.log(folder) for folder in folders]
    except EmbedonceError as error:
        return [error]
    known = sum(run.found for run in logged)
    about = f"run {logged[0].run_id}" if len(logged) == 1 else counted(len(logged), "comparison(s)")
    text = f"Logged to MLflow: {about} of the experiment {display(store.experiment)}"
    say(f"{text}, {known} of them from earlier." if known and len(logged) > 1 else f"{text}.", err=True)
    return []


def _compare_grid(
    ctx: click.Context,
    caches: AlignedCaches,
    heads: dict[str, Any],
    params: tuple[str, ...],
    output: Path,
    figures: Figures,
    maps: bool,
    store: MlflowStore | None,
    timings: bool,
    as_json: bool,
    options: dict[str, Any],
) -> None:
    """Run the comparisons of a grid and print one table."""
    from ..cache import make_folder, refuse_input_as_output
    from ..evaluate.comparison import run_grid

    grid = ctx.meta["grid"]
    given = {name for name in ("heads", "seed", "figures") if _is_given(ctx, name)}
    twice = [name for name, values in (("heads", grid.heads), ("seed", grid.seeds)) if values and name in given]
    twice += [f"param {text}" for text in params if any(text.startswith(f"{h}.{p}=") for h, p, _ in grid.parameters)]
    if twice:
        raise click.UsageError(f"--{twice[0]} is also in [grid] of the configuration file. Remove one of them.", ctx)
    variants = grid.variants(heads, options.pop("seed"))
    refuse_input_as_output(output, *caches.paths)
    make_folder(output, "results")
    if_interrupted(f"Finished comparisons are in {display(str(output))}. The same command continues.")
    shown = timed_progress()
    shown.phase("")
    seconds: dict[str, float] = {}
    results = []
    chosen: Figures = figures if "figures" in given else "none"
    for result in run_grid(caches, variants, output, figures=chosen, maps=maps, progress=shown.display, **options):
        results.append(result)
        if not result.found:
            for phase, value in result.results.get("phase_seconds", {}).items():
                seconds[phase] = seconds.get(phase, 0.0) + value
    shown.display.close()
    if as_json:
        print_json([result.to_dict() for result in results])
    else:
        print_grid(results, output)
    if timings:
        print_timings(shown, seconds, as_json=as_json)
    failed = [result.error for result in results if result.error is not None]
    failed += _log(store, [result.folder for result in results if result.results], shown.display)
    for error in failed:
        print_error(ctx, error)
    if failed:
        ctx.exit(1)


def _is_given(ctx: click.Context, name: str) -> bool:
    """Return whether an option is on the command line or, other than seed and heads, in the configuration file."""
    source = ctx.get_parameter_source(name)
    return source is ParameterSource.COMMANDLINE or (name == "figures" and source is ParameterSource.DEFAULT_MAP)


@click.command(cls=Command, short_help="Write a configuration file for compare --config.")
@click.argument("path", type=PATH, default=Path("heads.toml"))
def init(path: Path) -> None:
    """Write a commented configuration file for embedonce compare --config, by default heads.toml.

    For example:

        # write a file, edit it, then run embedonce compare --config heads.toml
        embedonce init heads.toml
    """
    from ..evaluate.comparison import write_config

    write_config(path)
    say(f"Wrote {display(str(path))}; then: embedonce compare --config {display(str(path))}")


COMMANDS = (compare, init)
