"""Commands from a cache to results: groups, train, tune, compare, diff and init."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import click
from click.core import ParameterSource

from ..cache import counted, display
from ..evaluate.metrics import MetricName
from ..heads import HEADS
from .command import (
    AS_JSON,
    GROUPS,
    PATH,
    POSITIVE,
    SECONDS,
    SEED,
    WEIGHTS,
    Command,
    head_parameters,
    import_scikit_learn,
    option,
    parameter,
    print_error,
    search_values,
    set_parameters,
)
from .output import (
    print_comparison,
    print_grid,
    print_groups,
    print_json,
    print_notes,
    print_scores,
    print_suggestions,
    print_timings,
)
from .screen import fitting, if_interrupted, progress, say, say_next, timed_progress, wrapped_lines

if TYPE_CHECKING:
    from ..cache import FeatureCache
    from ..evaluate.report import Figures

_HEADS_HELP = f"{', '.join(HEADS)}, or package.module:Class"


def _complete_heads(ctx: click.Context, option: click.Parameter, incomplete: str) -> list[str]:
    """Return completions of the last name of a list of heads with commas."""
    before, comma, last = incomplete.rpartition(",")
    return [f"{before}{comma}{name}" for name in HEADS if name.startswith(last)]


_HEAD = option("--head", required=True, metavar="NAME", shell_complete=_complete_heads, help=_HEADS_HELP)
_TIMINGS = option("--timings", is_flag=True, help="Print the wall time of each phase.")
_VIEWS = option(
    "--views",
    type=click.Choice(["train", "average", "both"]),
    help="Train on augmented views, average over them, or both.",
)


class _ProposalNumber(click.IntRange):
    """The number of a proposal; 0, which users cannot give, lists all."""

    name = "number"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the number, or fail with a message for a path, which is then the cache."""
        try:
            return super().convert(value, param, ctx)
        except click.BadParameter:
            self.fail(f"{value!r} is not the number of a proposal. Write CACHE before --suggest.", param, ctx)


@click.command(cls=Command, short_help="Find the near-duplicates among the images of CACHE.")
@click.argument("cache", type=PATH)
@option("-o", "--output", type=PATH, help="Write the groups to this CSV file.")
@option("--within-class/--across-classes", default=False, help="Search within each class only.")
@option("--images", type=PATH, metavar="DIR", help="Image folder or archive, if it has moved.")
@option("--report", type=PATH, metavar="DIR", help="Write pictures and numbers to this folder.")
@option(
    "--suggest",
    type=_ProposalNumber(min=0),
    is_flag=False,
    flag_value="0",
    metavar="[N]",
    help="Propose other groups; with -o, write proposal N.",
)
@AS_JSON
@click.pass_context
def groups(
    ctx: click.Context,
    /,
    cache: Path,
    output: Path | None,
    within_class: bool,
    images: Path | None,
    report: Path | None,
    suggest: int | None,
    as_json: bool,
) -> None:
    """Find the near-duplicates among the images of CACHE: rotated, mirrored, cropped, zoomed or recompressed images.

    Near-duplicates with different labels are listed as suspected label errors; with --within-class they are not
    searched. Groups of an earlier OUTPUT keep their names, so that splits by them do not change.

    --suggest proposes other groups, such as patients or cameras, from file names, folders, metadata and EXIF data, and
    says how much more similar their images are than chance. Only you know whether their images belong together.
    --suggest N -o OUTPUT writes the groups of proposal N.

    For example:

        # write the groups of near-duplicates
        embedonce groups photos.h5 -o groups.csv
        # draw the largest groups and the pairs near the threshold
        embedonce groups photos.h5 -o groups.csv --report groups
        # list other groups that images may belong to
        embedonce groups photos.h5 --suggest
        # write those of the first proposal
        embedonce groups photos.h5 --suggest 1 -o patients.csv
    """
    from ..evaluate import find_groups

    if suggest is not None:
        if within_class or report is not None:
            raise click.UsageError("--within-class and --report are for near-duplicates, not for --suggest.", ctx)
        _suggest(ctx, cache, images, suggest, output, as_json)
        return
    if output is None:
        raise click.MissingParameter(ctx=ctx, param=next(one for one in ctx.command.params if one.name == "output"))
    near_duplicates = find_groups(
        cache, output, within_class=within_class, images=images, report=report, progress=progress()
    )
    if as_json:
        print_json(near_duplicates.to_dict())
        return
    print_groups(near_duplicates)
    for path in near_duplicates.written:
        say(f"Wrote {display(str(path))}")
    print_notes(list(near_duplicates.notes))
    say_next("compare", cache, "--groups", output, "-o", "DIR")


def _suggest(
    ctx: click.Context, cache: Path, images: Path | None, number: int, output: Path | None, as_json: bool
) -> None:
    """Print the proposals of groups, or write the groups of one."""
    from ..cache import FeatureCache, refuse_input_as_output
    from ..evaluate import suggest_groups

    if output is not None:
        if not number:
            raise click.UsageError("-o needs the number of a proposal: --suggest N -o FILE.", ctx)
        refuse_input_as_output(output, cache, images)
    suggestions = suggest_groups(FeatureCache.open(cache), images=images)
    if number > len(suggestions):
        text = f"--suggest must be the number of one of the {len(suggestions)} proposals, got {number}."
        raise click.UsageError(text, ctx)
    chosen = suggestions[number - 1 : number] if number else suggestions
    if output is not None:
        chosen[0].groups.save(output)
    if as_json:
        print_json([one.to_dict() for one in chosen])
        return
    print_suggestions(cache, chosen, number or 1)
    print_notes(suggestions.notes)
    if output is not None:
        say(f"Wrote {display(str(output))}")
        say_next("compare", cache, "--groups", output, "-o", "DIR")


@click.command(cls=Command)
@click.argument("cache", type=PATH)
@_HEAD
@option("-o", "--output", "path", type=PATH, required=True, help="Write this .npz, .keras, .skops or .joblib file.")
@option("-p", "--param", "params", multiple=True, metavar="NAME=VALUE", help="Set a parameter of the head.")
@option(
    "--split",
    metavar="grouped|random|FILE[:COLUMN]|@COLUMN|none",
    help="Test images; none trains on all. [default: grouped]",
)
@GROUPS
@option("--seed", type=SEED, default=0, help="Random seed of the split.")
@_VIEWS
@option("--decide", metavar="accuracy|coverage=VALUE", help="Let predict ask a person, or give sets of labels.")
@WEIGHTS
@_TIMINGS
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
    print_notes(trained.notes)
    if timings:
        print_timings(shown)
    say_next("predict", trained.path, "IMAGES")


def _take_config(ctx: click.Context, option: click.Parameter, path: Path | None) -> None:
    """Make the values of the file the defaults of the options."""
    if path is None:
        return
    import_scikit_learn()
    from ..evaluate.comparison import read_config

    options, heads = read_config(path)
    ctx.meta["grid"] = options.pop("grid", None)
    ctx.default_map = {**(ctx.default_map or {}), **options}
    ctx.meta["heads"] = heads


@click.command(cls=Command)
@click.argument("cache", type=PATH)
@option(
    "--heads", metavar="NAME,NAME", shell_complete=_complete_heads, help=f"{_HEADS_HELP}. [default: logreg,svm,softmax]"
)
@option("-p", "--param", "params", multiple=True, metavar="HEAD.NAME=VALUE", help="Set a parameter of a head.")
@option("--split", metavar="grouped|random|FILE[:COLUMN]|@COLUMN", help="Test images. [default: grouped and random]")
@GROUPS
@option("--seed", type=SEED, default=0, help="Random seed of the splits.")
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
@option("--external-classes", type=PATH, metavar="FILE", help="CSV of external,class: other class names.")
@_VIEWS
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
@option("-o", "--output", type=PATH, required=True, help="Write results to this folder.")
@_TIMINGS
@option("--json", "as_json", is_flag=True, help="Print results.json.")
@click.pass_context
def compare(
    ctx: click.Context,
    /,
    cache: Path,
    heads: str | None,
    params: tuple[str, ...],
    fail_under: tuple[str, ...],
    maps: bool,
    figures: Figures,
    timings: bool,
    output: Path,
    as_json: bool,
    **options: Any,
) -> None:
    """Train and test heads on the same images of CACHE.

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

    --fail-under takes METRIC>=VALUE, or HEAD.METRIC>=VALUE for one head, in quotes; METRIC>=VALUE@lower is for the
    lower end of the 95 % interval. The score of the best head is corrected for the choice. embedonce tune --help lists
    the metrics; log_loss must be <= VALUE.

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
        # score each scanner, a column of metadata
        embedonce compare photos.h5 --by @scanner -o runs/scanners
        # score the heads on images of another hospital
        embedonce compare photos.h5 --external elsewhere.h5 -o runs/external
        # read heads from a file; exit status 1 if the accuracy may be below 90 %
        embedonce compare --config heads.toml --fail-under 'accuracy>=0.9@lower'
    """
    import_scikit_learn()
    from ..cache import FeatureCache, make_folder, refuse_input_as_output
    from ..evaluate.comparison import DEFAULT_HEADS, failed_gates, read_gates
    from ..evaluate.comparison import compare as compare_heads
    from ..evaluate.report import PARTIAL, next_command

    opened = FeatureCache.open(cache)
    chosen: dict[str, Any] = ctx.meta.get("heads") or {}
    if heads is None and chosen:
        chosen = set_parameters(chosen, params)
    else:
        chosen = head_parameters(",".join(DEFAULT_HEADS) if heads is None else heads, params)
    if ctx.meta.get("grid") is not None:
        if fail_under:
            raise click.UsageError("--fail-under is for one comparison, not for a [grid].", ctx)
        _compare_grid(ctx, opened, chosen, params, output, figures, maps, timings, as_json, options)
        return
    gates = read_gates(fail_under, [*chosen, *(path.name for path in options["image_models"])])
    refuse_input_as_output(output, cache)
    make_folder(output, "results")  # before the work, not after it
    partial = output / PARTIAL
    partial.unlink(missing_ok=True)  # of an earlier run
    shown = timed_progress()
    if_interrupted(f"The scores of finished heads are in {display(str(partial))}.", partial)
    comparison = compare_heads(opened, chosen, progress=shown, partial_results=partial, **options)
    comparison.next_command = next_command(
        comparison, **{name: options[name] for name in ("split", "groups", "seed", "views")}
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
    for error in comparison.failed.values():
        print_error(ctx, error)
    for text in failed:
        say(f"Not reached: {text}.", err=True)
    if failed or comparison.failed:
        ctx.exit(1)


def _compare_grid(
    ctx: click.Context,
    cache: FeatureCache,
    heads: dict[str, Any],
    params: tuple[str, ...],
    output: Path,
    figures: Figures,
    maps: bool,
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
    refuse_input_as_output(output, cache.path)
    make_folder(output, "results")
    if_interrupted(f"Finished comparisons are in {display(str(output))}. The same command continues.")
    shown = timed_progress()
    shown.phase("")
    seconds: dict[str, float] = {}
    results = []
    chosen: Figures = figures if "figures" in given else "none"
    for result in run_grid(cache, variants, output, figures=chosen, maps=maps, progress=shown.display, **options):
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
    for error in failed:
        print_error(ctx, error)
    if failed:
        ctx.exit(1)


def _is_given(ctx: click.Context, name: str) -> bool:
    """Return whether an option is on the command line or, other than seed and heads, in the configuration file."""
    source = ctx.get_parameter_source(name)
    return source is ParameterSource.COMMANDLINE or (name == "figures" and source is ParameterSource.DEFAULT_MAP)


@click.command(cls=Command)
@click.argument("cache", type=PATH)
@_HEAD
@option("-p", "--param", "params", multiple=True, metavar="NAME=VALUE", help="Fix a parameter.")
@option("--space", multiple=True, metavar="NAME=VALUE,VALUE", help="Search these values of a parameter.")
@option("--split", metavar="grouped|random|FILE[:COLUMN]|@COLUMN", help="Test images. [default: grouped]")
@GROUPS
@option("--seed", type=SEED, default=0, help="Random seed of split, folds and search.")
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
@_TIMINGS
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
    for path in written:
        say(f"Wrote {display(str(path))}")
    if timings:
        print_timings(shown)
    if tuned.options:
        best = [word for one in tuned.options for word in ("-p", one)]
        say_next("compare", cache, "--heads", head, *best, "-o", "DIR")


@click.command(cls=Command)
@click.argument("a", type=PATH)
@click.argument("b", type=PATH)
@AS_JSON
def diff(a: Path, b: Path, as_json: bool) -> None:
    """Show the differences between two folders of results, A and B.

    For example:

        # compare the results before and after a change
        embedonce diff runs/before runs/after
    """
    from ..evaluate.report import diff as diff_runs

    differences = diff_runs(a, b)
    if as_json:
        print_json(differences.to_dict())
    else:
        click.echo(wrapped_lines(str(differences)))


@click.command(cls=Command)
@click.argument("runs", type=PATH, nargs=-1, required=True)
@option("--where", multiple=True, metavar="NAME=VALUE", help="Keep rows of this value; repeatable.")
@option("--metric", type=click.Choice(get_args(MetricName)), help="Score that orders the rows.")
@option("-o", "--output", type=PATH, metavar="FILE", help="Write .csv, .json or .html.")
@AS_JSON
def leaderboard(
    runs: tuple[Path, ...], where: tuple[str, ...], metric: MetricName | None, output: Path | None, as_json: bool
) -> None:
    """Show the scores of many folders of results, RUNS, in one table.

    A folder of such folders counts as all of them. Scores of different test images get different letters. --where takes
    run, head, tested, or a setting or parameter such as seed, alpha or C.

    For example:

        # all comparisons in a folder
        embedonce leaderboard runs
        # those of one head, as a page with links to the reports
        embedonce leaderboard runs --where head=svm -o runs/svm.html
    """
    from ..evaluate.report import leaderboard as make_leaderboard

    board = make_leaderboard(runs, where=where, metric=metric)
    if output is not None:
        board.save(output)
    if as_json:
        print_json(board.to_dict())
        return
    whole = board.table()
    table, left_out = fitting(whole, len(whole.titles) - 1)
    click.echo(f"{table}\n")
    if left_out:
        say(f"(Not shown on this narrow terminal: {', '.join(left_out)}.)")
    for note in board.notes:
        say(note)
    if output is not None:
        say(f"Wrote {display(str(output))}")


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


COMMANDS = (groups, train, tune, compare, diff, leaderboard, init)
