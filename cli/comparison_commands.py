"""The commands that train heads, and those around them: groups, train, tune, compare, diff and init."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from ..cache import display
from ..evaluate.metrics import METRICS
from ..heads import HEADS
from .command import AS_JSON, PATH, SEED, Command, head_parameters, parameter, search_values, set_parameters
from .output import (
    print_diff,
    print_differences,
    print_gap,
    print_groups,
    print_json,
    print_notes,
    print_scores,
    print_table,
)

HEADS_HELP = f"{', '.join(HEADS)}, or package.module:Class of any scikit-learn classifier"


def _complete_heads(ctx: click.Context, option: click.Parameter, incomplete: str) -> list[str]:
    """Return the names that the last of some heads, with commas between them, may become in the shell."""
    before, comma, last = incomplete.rpartition(",")
    return [f"{before}{comma}{name}" for name in HEADS if name.startswith(last)]


_GROUPS = click.option(
    "--groups",
    type=PATH,
    metavar="FILE",
    help="CSV with the columns path,group: images that belong together, such as those of one patient. By default the "
    "copies that are found among the images, which are kept in CACHE.groups.csv.",
)

_VIEWS = click.option(
    "--views",
    type=click.Choice(["train", "average", "both"]),
    help="Use the views that embedonce extract --views embedded: to train on, to average probabilities over, or both.",
)


@click.command(cls=Command, short_help="Find the images of CACHE that are copies of one original.")
@click.argument("cache", type=PATH)
@click.option("-o", "--output", type=PATH, required=True, help="CSV file with the columns path,group,sha256.")
@click.option(
    "--within-class/--across-classes",
    default=False,
    show_default=True,
    help="Copies with different labels are two images, or a label error that is listed.",
)
@click.option("--images", type=PATH, metavar="DIR", help="The image folder, if it moved since the extraction.")
@click.option("--report", type=PATH, metavar="DIR", help="Folder for pictures of the groups and all numbers.")
@AS_JSON
def groups(
    cache: Path, output: Path, within_class: bool, images: Path | None, report: Path | None, as_json: bool
) -> None:
    """Find the images of CACHE that are copies of one original: turned, mirrored, cropped, zoomed, recompressed.

    Groups of an earlier OUTPUT keep their names, so that splits by them stay as they were.
    """
    from ..evaluate.duplicates import find_and_write
    from ..extract import make_progress

    found, written = find_and_write(
        cache, output, within_class=within_class, images=images, report=report, progress=make_progress(True)
    )
    if as_json:
        print_json(found.summary())
        return
    print_groups(found)
    for path in written:
        click.echo(f"Wrote {display(str(path))}")


@click.command(cls=Command)
@click.argument("cache", type=PATH)
@click.option("--head", required=True, metavar="NAME", shell_complete=_complete_heads, help=HEADS_HELP)
@click.option("-o", "--output", type=PATH, required=True, help="Model file: .keras for softmax, .skops for the others.")
@click.option("-p", "--param", "params", multiple=True, metavar="NAME=VALUE", help="A parameter of the head.")
@click.option(
    "--split",
    default="random",
    show_default=True,
    metavar="random|grouped|FILE[:COLUMN]|none",
    help="none: train on all images.",
)
@_GROUPS
@click.option("--seed", type=SEED, default=0, show_default=True, help="Of the random split.")
@_VIEWS
@click.option(
    "--weights", type=PATH, metavar="FILE", help="The backbone's weights, if they moved since the extraction."
)
@AS_JSON
def train(
    cache: Path,
    head: str,
    output: Path,
    params: tuple[str, ...],
    split: str,
    groups: Path | None,
    seed: int,
    views: str | None,
    weights: Path | None,
    as_json: bool,
) -> None:
    """Train one head on CACHE and write it to a file.

    A softmax head becomes a whole image-to-class Keras model.
    """
    from ..cache import FeatureCache
    from ..evaluate.models import train as train_head

    opened = FeatureCache.open(cache)
    chosen = dict(parameter(text) for text in params)
    if not as_json:
        announce(head)
    trained = train_head(
        opened, head, output, parameters=chosen, split=split, seed=seed, weights=weights, groups=groups, views=views
    )
    if as_json:
        scores = trained.result.scores if trained.result else None
        paths = {"model": str(trained.path), "curves": str(trained.curves) if trained.curves else None}
        measured = {"fit_seconds": trained.fit_seconds, "scores": scores, "checked_images": trained.checked}
        print_json(paths | measured | {"notes": trained.notes})
        return
    if trained.result:
        print_scores(trained.result)
    click.echo(
        f"Trained on {len(trained.split.train):,} images in {trained.fit_seconds:.1f} s: {display(str(trained.path))}"
    )
    if trained.checked:
        click.echo(f"The model agrees with the cached features on {trained.checked} of {trained.checked} images.")
    if trained.curves:
        click.echo(f"Curves of accuracy and loss: {display(str(trained.curves))}")
    print_notes(trained.notes)


def _take_config(ctx: click.Context, option: click.Parameter, path: Path | None) -> None:
    """Make what the file says the default of every option; the command line goes before it."""
    if path is None:
        return
    from ..evaluate.comparison import read_config

    options, heads = read_config(path)
    ctx.default_map = {**(ctx.default_map or {}), **options}
    ctx.meta["heads"] = heads


@click.command(cls=Command)
@click.argument("cache", type=PATH)
@click.option(
    "--heads",
    metavar="NAME,NAME",
    shell_complete=_complete_heads,
    help=f"{HEADS_HELP}. By default softmax,logreg,svm.",
)
@click.option(
    "-p", "--param", "params", multiple=True, metavar="HEAD.NAME=VALUE", help="A parameter of a head, such as svm.C=1."
)
@click.option(
    "--split",
    metavar="grouped|random|FILE[:COLUMN]",
    help="80/20 with copies of one original on the same side, 80/20 image by image, or a split file. By default the "
    "first two, and the gap between them.",
)
@_GROUPS
@click.option("--seed", type=SEED, default=0, show_default=True, help="Of these splits.")
@click.option(
    "--folds",
    type=click.IntRange(min=2),
    metavar="K",
    help="Cross-validation: every image is tested once, by heads that were trained on the other folds.",
)
@click.option(
    "--repeats",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Cross-validations, each with folds of its own, as another seed would have them; all scores are kept.",
)
@click.option(
    "--class-weight",
    type=click.Choice(["balanced"]),
    help="Every class counts the same in training, however many images it has.",
)
@click.option(
    "--calibrate",
    type=click.Choice(["temperature", "sigmoid"]),
    help="Make probabilities more honest, by folds of the training images.",
)
@click.option(
    "--tune",
    type=click.FloatRange(min=0, min_open=True),
    metavar="SECONDS",
    help="Look for good parameters of each head first, this long in all, in the training images. Parameters that are "
    "given stay, and the others are scored as they are, however short the time is. With folds each has a search of its "
    "own, also each random one beside the grouped ones, and these share the time equally.",
)
@click.option(
    "--maps",
    is_flag=True,
    help="Show in the report which places of wrongly classified images spoke for the class that a head saw: see "
    "embedonce explain. It needs the backbone's weights.",
)
@click.option(
    "--with",
    "image_models",
    type=PATH,
    multiple=True,
    metavar="FILE.keras",
    help="Also test this image model, of embedonce finetune or export, on the test images; more than once for several.",
)
@_VIEWS
@click.option("--label-budget", is_flag=True, help="Show how the accuracy grows with the number of training images.")
@click.option(
    "--jobs", type=click.IntRange(min=1), default=1, show_default=True, help="Heads to train at the same time."
)
@click.option(
    "--dask",
    metavar="SCHEDULER",
    help="Train on a Dask cluster: the scheduler's address (tcp://host:8786), or its scheduler file (.json). Every "
    "worker needs embedonce[cluster] and, under the same path, CACHE.",
)
@click.option(
    "--fail-under",
    multiple=True,
    metavar="METRIC=VALUE",
    help="Exit status 1 when the best head scores worse, for scripts; HEAD.METRIC=VALUE for one head. Metrics: "
    f"{', '.join(METRICS)}.",
)
@click.option(
    "--config",
    type=PATH,
    is_eager=True,
    expose_value=False,
    callback=_take_config,
    metavar="FILE",
    help="TOML file of heads, their parameters and these options, and of CACHE; embedonce init writes one.",
)
@click.option("-o", "--output", type=PATH, required=True, help="Folder for the results.")
@click.option("--json", "as_json", is_flag=True, help="Print results.json.")
@click.pass_context
def compare(
    ctx: click.Context,
    /,
    cache: Path,
    heads: str | None,
    params: tuple[str, ...],
    fail_under: tuple[str, ...],
    maps: bool,
    output: Path,
    as_json: bool,
    **options: Any,
) -> None:
    """Train and test heads on the same images of CACHE.

    By default on a split that keeps copies of one original together, and on a random one to show what they pretend.
    OUTPUT gets a report, report.html, all numbers, results.json, and every figure.
    """
    from ..cache import FeatureCache, make_folder
    from ..evaluate.comparison import DEFAULT_HEADS, failed_gates, read_gates
    from ..evaluate.comparison import compare as compare_heads
    from ..extract import make_progress

    gates = read_gates(fail_under)
    opened = FeatureCache.open(cache)
    chosen: dict[str, Any] = ctx.meta.get("heads") or {}
    if heads is None and chosen:
        chosen = set_parameters(chosen, params)
    else:
        chosen = head_parameters(",".join(DEFAULT_HEADS) if heads is None else heads, params)
    make_folder(output, "results")  # before the work, not after it
    made = compare_heads(opened, chosen, on_head=None if as_json else announce, progress=make_progress(True), **options)
    written = made.save(output, maps=maps)
    failed = failed_gates(made, gates)
    if as_json:
        click.echo((output / "results.json").read_text(encoding="ascii"), nl=False)
    else:
        print_table(made)
        print_differences(made)
        print_gap(made)
        print_notes(made.notes)
        for path in written:
            if path.name in ("results.json", "report.html"):
                click.echo(f"Wrote {display(str(path))}")
    for text in failed:
        click.echo(f"Not reached: {text}.", err=True)
    if failed:
        ctx.exit(1)


@click.command(cls=Command)
@click.argument("cache", type=PATH)
@click.option("--head", required=True, metavar="NAME", shell_complete=_complete_heads, help=HEADS_HELP)
@click.option("-p", "--param", "params", multiple=True, metavar="NAME=VALUE", help="A parameter that stays as it is.")
@click.option(
    "--space",
    multiple=True,
    metavar="NAME=VALUE,VALUE",
    help="Values to try of a parameter, instead of the head's own range; needed for heads of others.",
)
@click.option(
    "--split",
    metavar="grouped|random|FILE[:COLUMN]",
    help="The test part is only used for the final scores. By default grouped when images have copies.",
)
@_GROUPS
@click.option("--seed", type=SEED, default=0, show_default=True, help="Of split, folds and search.")
@click.option(
    "--metric",
    type=click.Choice(list(METRICS)),
    default="accuracy",
    show_default=True,
    help="What is optimised.",
)
@click.option("--folds", type=click.IntRange(min=2), default=5, show_default=True, help="Of the training part.")
@click.option("--trials", type=click.IntRange(min=1), default=16, show_default=True, help="Parameters to try.")
@click.option("--budget", type=click.FloatRange(min=0, min_open=True), metavar="SECONDS", help="End the search then.")
@click.option("--jobs", type=click.IntRange(min=1), default=1, show_default=True, help="Fits at the same time.")
@click.option("--dask", metavar="SCHEDULER", help="Search on a Dask cluster: see embedonce compare --help.")
@click.option("-o", "--output", type=PATH, required=True, help="Folder for the results.")
@AS_JSON
def tune(
    cache: Path, head: str, params: tuple[str, ...], space: tuple[str, ...], output: Path, as_json: bool, **options: Any
) -> None:
    """Look for good parameters of one head on CACHE.

    The search sees the training part alone; its winner, and the default, are then scored once on the test part.
    """
    from ..cache import FeatureCache, make_folder
    from ..evaluate.tuning import tune as tune_head
    from ..evaluate.tuning import tuning_results
    from ..extract import make_progress

    opened = FeatureCache.open(cache)
    make_folder(output, "results")  # before the work, not after it
    tuned = tune_head(
        opened,
        head,
        space=search_values(space, head) or None,
        parameters=dict(parameter(text) for text in params),
        on_rung=None if as_json else lambda text: click.echo(text, err=True),
        progress=make_progress(True),
        **options,
    )
    written = tuned.save(output)
    if as_json:
        print_json(tuning_results(tuned))
        return
    click.echo(str(replace(tuned, notes=[])))
    print_notes(tuned.notes)
    shown = " ".join(f"-p {option}" for option in tuned.options)
    if shown:
        click.echo(f"To use them: embedonce compare {display(str(cache))} --heads {display(head)} {shown} -o DIR")
    for path in written:
        click.echo(f"Wrote {display(str(path))}")


@click.command(cls=Command)
@click.argument("a", type=PATH)
@click.argument("b", type=PATH)
@AS_JSON
def diff(a: Path, b: Path, as_json: bool) -> None:
    """Show what differs between two folders of results, A and B."""
    from ..evaluate.report import diff_runs

    found = diff_runs(a, b)
    if as_json:
        print_json(found)
    else:
        print_diff(found)


@click.command(cls=Command, short_help="Write a commented file for compare --config.")
@click.argument("path", type=PATH, default=Path("heads.toml"))
def init(path: Path) -> None:
    """Write a commented file of heads for embedonce compare --config, by default heads.toml."""
    from ..evaluate.comparison import write_config

    write_config(path)
    click.echo(f"Wrote {display(str(path))}; then: embedonce compare --config {display(str(path))}")


def announce(head: str) -> None:
    """Say, beside the results, which head is trained."""
    click.echo(f"training {display(head)} …", err=True)


COMMANDS = (groups, train, tune, compare, diff, init)
