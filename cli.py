"""The command line. Every command imports what it needs when it runs, so that ``--help`` is quick.

Exit status: 0 when all went well, 1 when a run failed, 2 when the command was wrong, 130 when interrupted.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from . import __version__
from .cache.errors import EmbedonceError, HeadParameterError
from .cache.names import display

if TYPE_CHECKING:
    from rich.console import Console

    from .evaluate.compare import HeadResult

HEADS_HELP = "softmax, logreg, svm, linear-svm, knn, dummy, or package.module:Class of any scikit-learn classifier"
# key in the results: how tables call it
SCORES = {
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced",
    "macro_f1": "macro F1",
    "log_loss": "log loss",
    "roc_auc": "ROC AUC",
}
_PATH = click.Path(path_type=Path)


class _Command(click.Command):
    """A command with --debug, whose failures are one line."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.params.append(
            click.Option(["--debug"], is_flag=True, expose_value=False, help="Show a traceback when something fails.")
        )

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        ctx.meta["debug"] = "--debug" in args
        return super().parse_args(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except EmbedonceError as error:
            if ctx.meta["debug"]:
                raise
            click.echo(f"Error: {_one_line(error)}", err=True)
            ctx.exit(error.exit_status)
        except KeyboardInterrupt:
            if ctx.meta["debug"]:
                raise
            hint = (
                "; what was embedded is kept, the same command goes on from there"
                if ctx.command.name == "extract"
                else ""
            )
            click.echo(f"Interrupted{hint}.", err=True)
            ctx.exit(130)


class _Group(click.Group):
    command_class = _Command

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)  # in the order in which they are used, not of the alphabet


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="embedonce")
def main() -> None:
    """Embed images once with a frozen MobileNetV2, then train and compare classifier heads in seconds.

    For education and research; not for medical diagnosis.
    """


@main.command()
@click.option(
    "-o", "--output", type=_PATH, default=Path("embedonce-demo"), show_default=True, help="Folder for everything."
)
def demo(output: Path) -> None:
    """Show the whole road on real images, offline too."""
    from .evaluate.demo import run_demo
    from .extract.progress import make_progress

    click.echo("Handwritten digits from scikit-learn: 1,797 images in ten folders.")
    made = run_demo(output, make_progress(True), _announce, lambda text: click.secho(f"Notice: {text}", fg="yellow"))
    _print_report(made.report)
    _print_table(made.comparison.table)
    _print_notes(made.comparison.notes)
    click.echo(f"Images            {made.images}")
    click.echo(f"Feature cache     {made.report.cache.path}")
    click.echo(f"Confusion matrix  {made.results / 'confusion.png'}")
    click.echo(f"Training curves   {made.results / 'curves-softmax.png'}")
    click.echo(f"All numbers       {made.results / 'results.json'}")
    click.echo("\nNow with your own images:  embedonce extract IMAGES CACHE.h5")


@main.command()
@click.argument("images", type=_PATH)
@click.argument("cache", type=_PATH)
@click.option(
    "--weights",
    default="imagenet",
    show_default=True,
    metavar="imagenet|FILE|random:SEED",
    help="The backbone's weights.",
)
@click.option("--alpha", type=float, default=1.0, show_default=True, help="Width multiplier of MobileNetV2.")
@click.option("--image-size", type=int, default=224, show_default=True, help="Pixels that images are resized to.")
@click.option(
    "--engine", type=click.Choice(["auto", "litert", "keras"]), default="auto", show_default=True, help="What computes."
)
@click.option("--workers", type=click.IntRange(min=1), help="Threads; by default what suits engine and processor.")
@click.option("--strict", is_flag=True, help="Fail when an image cannot be embedded, instead of listing it.")
@click.option("--follow-links", is_flag=True, help="Enter links to folders.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def extract(images: Path, cache: Path, as_json: bool, **options: Any) -> None:
    """Embed a folder of images, one folder per class, into CACHE.

    Only what is new or changed is embedded. Run it again whenever the images change; a run that was cut off
    goes on where it was.
    """
    from .extract.progress import make_progress
    from .extract.run import update_cache

    report = update_cache(images, cache, progress=make_progress(True), **options)
    if as_json:
        _print_json(report.as_dict())
    else:
        _print_report(report)


@main.command()
@click.argument("cache", type=_PATH)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def info(cache: Path, as_json: bool) -> None:
    """Show what CACHE holds and how it was made."""
    from .cache.reader import FeatureCache
    from .evaluate.results import describe_cache

    with FeatureCache.open(cache) as opened:
        if as_json:
            _print_json(describe_cache(opened) | {"reject_reasons": opened.rejects})
            return
        images, width = opened.shape
        lines = {"images": f"{images:,}", "features": f"{width:,} per image, float32"}
        lines |= {f"  {display(name)}": f"{count:,}" for name, count in opened.class_counts.items()}
        warning = " - RANDOM: the features mean little" if opened.random_weights else ""
        lines["weights"] = f"{opened.provenance.get('weights')}{warning}"
        lines |= {name.replace("_", " "): str(value) for name, value in opened.fingerprint.items()}
        lines["engines"] = ", ".join(opened.provenance.get("engines", {}))
        lines["image folder"] = display(opened.provenance.get("image_root", ""))
        lines["versions"] = ", ".join(f"{name} {value}" for name, value in opened.provenance["versions"].items())
        lines["rejected"] = f"{len(opened.rejects):,}"
        longest = max(map(len, lines))
        for name, value in lines.items():
            click.echo(f"{name:<{longest}}  {value}")
        for path, reason in opened.rejects:
            click.echo(f"  {display(path)}: {reason}")


@main.command()
@click.argument("cache", type=_PATH)
@click.option("--head", required=True, metavar="NAME", help=HEADS_HELP)
@click.option(
    "-o", "--output", type=_PATH, required=True, help="Model file: .keras for softmax, .skops for the others."
)
@click.option("-p", "--param", "params", multiple=True, metavar="NAME=VALUE", help="A parameter of the head.")
@click.option(
    "--split", default="random", show_default=True, metavar="random|FILE|none", help="none: train on all images."
)
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of the random split.")
@click.option(
    "--weights", type=_PATH, metavar="FILE", help="The backbone's weights, if they moved since the extraction."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def train(
    cache: Path,
    head: str,
    output: Path,
    params: tuple[str, ...],
    split: str,
    seed: int,
    weights: Path | None,
    as_json: bool,
) -> None:
    """Train one head on CACHE and write it to a file.

    A softmax head becomes a whole image-to-class Keras model.
    """
    from .cache.reader import FeatureCache
    from .evaluate.training import train as train_head

    opened = FeatureCache.open(cache)
    chosen = dict(_parameter(text) for text in params)
    if not as_json:
        _announce(head)
    trained = train_head(opened, head, output, parameters=chosen, split=split, seed=seed, weights=weights)
    if as_json:
        scores = trained.result.scores if trained.result else None
        paths = {"model": str(trained.path), "curves": str(trained.curves) if trained.curves else None}
        measured = {"fit_seconds": trained.fit_seconds, "scores": scores, "checked_images": trained.checked}
        _print_json(paths | measured | {"notes": trained.notes})
        return
    if trained.result:
        _print_scores(trained.result)
    click.echo(
        f"Trained on {len(trained.split.train):,} images in {trained.fit_seconds:.1f} s: {display(str(trained.path))}"
    )
    if trained.checked:
        click.echo(f"The model agrees with the cached features on {trained.checked} of {trained.checked} images.")
    if trained.curves:
        click.echo(f"Curves of accuracy and loss: {display(str(trained.curves))}")
    _print_notes(trained.notes)


@main.command()
@click.argument("cache", type=_PATH)
@click.option("--heads", default="softmax,logreg,svm", show_default=True, metavar="NAME,NAME", help=HEADS_HELP)
@click.option(
    "-p", "--param", "params", multiple=True, metavar="HEAD.NAME=VALUE", help="A parameter of a head, such as svm.C=1."
)
@click.option("--split", default="random", show_default=True, metavar="random|FILE", help="80/20, or a split file.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of the random split.")
@click.option("-o", "--output", type=_PATH, required=True, help="Folder for the results.")
@click.option("--json", "as_json", is_flag=True, help="Print results.json.")
def compare(
    cache: Path, heads: str, params: tuple[str, ...], split: str, seed: int, output: Path, as_json: bool
) -> None:
    """Train and test heads on one split of CACHE."""
    from .cache.files import make_folder
    from .cache.reader import FeatureCache
    from .evaluate.compare import compare as compare_heads

    opened = FeatureCache.open(cache)
    chosen = _head_parameters(heads, params)
    make_folder(output, "results")  # before the work, not after it
    made = compare_heads(opened, chosen, split, seed, on_head=None if as_json else _announce)
    written = made.save(output)
    if as_json:
        click.echo((output / "results.json").read_text(encoding="ascii"), nl=False)
        return
    _print_table(made.table)
    _print_notes(made.notes)
    for path in written:
        if path.suffix == ".json" or path.name == "confusion.png" or path.name.startswith("curves"):
            click.echo(f"Wrote {display(str(path))}")


@main.command()
@click.argument("model", type=_PATH)
@click.argument("cache", type=_PATH)
@click.option("--split", type=_PATH, metavar="FILE", help="Score the test part of this split.")
@click.option("--include-training", is_flag=True, help="Score also the images that the model was trained on.")
@click.option(
    "--trust", is_flag=True, help="Allow a model file that runs code when loaded. Only if you trust its author."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def evaluate(model: Path, cache: Path, split: Path | None, include_training: bool, trust: bool, as_json: bool) -> None:
    """Score MODEL on what it was not trained on."""
    from .cache.reader import FeatureCache
    from .evaluate.scoring import evaluate_model

    opened = FeatureCache.open(cache)
    done = evaluate_model(model, opened, split=split, include_training=include_training, trust=trust)
    if as_json:
        measured = {"images": len(done.rows), "left_out": done.left_out, "scores": done.result.scores}
        _print_json(measured | {"notes": done.notes})
        return
    _print_scores(done.result)
    left_out = f"; {done.left_out:,} that it was trained on were left out" if done.left_out else ""
    click.echo(f"Scored on {len(done.rows):,} images{left_out}.")
    _print_notes(done.notes)


def _parameter(text: str) -> tuple[str, Any]:
    """Read NAME=VALUE; the value is JSON where it can be (numbers, true, null), text otherwise."""
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise HeadParameterError(f"option --param must be NAME=VALUE, got {text!r}")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value


def _head_parameters(heads: str, params: tuple[str, ...]) -> dict[str, dict[str, Any]]:
    names = [name.strip() for name in heads.split(",") if name.strip()]
    chosen: dict[str, dict[str, Any]] = {name: {} for name in names}
    if len(chosen) < len(names) or not names:
        raise HeadParameterError(f"option --heads must name every head once, got {heads!r}")
    for text in params:
        name, value = _parameter(text)
        head, _, parameter = name.rpartition(".")
        if head not in chosen:
            raise HeadParameterError(
                f"option --param must be HEAD.NAME=VALUE with a head of --heads ({', '.join(names)}), got {text!r}"
            )
        chosen[head][parameter] = value
    return chosen


def _one_line(error: Exception) -> str:
    # str() of an OSError has its number in front, which says nothing to people
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return " ".join(text.split())


def _announce(head: str) -> None:
    click.echo(f"training {display(head)} …", err=True)


def _print_json(value: Any) -> None:
    from .evaluate.results import as_json

    click.echo(as_json(value).decode("ascii"), nl=False)


def _print_report(report: Any) -> None:
    total = len(report.cache) + report.rejected
    if not report.published:
        click.echo(f"Nothing to embed: {display(str(report.cache.path))} is up to date with {total:,} images.")
    else:
        kinds = ("added", "changed", "moved", "removed", "unchanged", "resumed")
        parts = [f"{getattr(report, kind):,} {kind}" for kind in kinds if getattr(report, kind)]
        rate = f" in {report.seconds:.1f} s ({report.images_per_second:.0f} images/s)" if report.embedded else ""
        click.echo(f"Embedded {report.embedded:,} images{rate}: {', '.join(parts)}.")
        if report.copied:
            click.echo(f"{report.copied:,} took the features of a file of the same content.")
        click.echo(
            f"Wrote {display(str(report.cache.path))}: {len(report.cache):,} x {report.cache.shape[1]:,} features."
        )
    if report.rejected:
        click.secho(f"{report.rejected:,} image(s) could not be embedded:", fg="yellow")
        for path, reason in report.cache.rejects[:5]:
            click.echo(f"  {display(path)}: {reason}")
        if report.rejected > 5:
            click.echo(f"  … all of them: embedonce info {display(str(report.cache.path))}")
    _print_notes(report.notes)


def _console() -> Console:
    from rich.console import Console

    # a pipe or a log has no width; nothing is cut or wrapped there
    return Console() if sys.stdout.isatty() else Console(width=160)


def _number(value: float | None, digits: int = 4) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def _print_table(rows: list[dict[str, Any]]) -> None:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("head")
    for column in (*SCORES.values(), "fit s", "predict s"):
        table.add_column(column, justify="right")
    for position, row in enumerate(rows):
        scores = [row[key] for key in SCORES]
        seconds = [_number(row["fit_seconds"], 2), _number(row["predict_seconds"], 2)]
        style = "bold" if position == 0 else None
        table.add_row(display(row["head"]), *map(_number, scores), *seconds, style=style)
    _console().print(table)


def _print_scores(result: HeadResult) -> None:
    from rich import box
    from rich.table import Table

    scores = result.scores
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("class")
    for column in ("precision", "recall", "F1", "images"):
        table.add_column(column, justify="right")
    for row in scores["per_class"]:
        values = [_number(row[key]) for key in ("precision", "recall", "f1")]
        table.add_row(display(row["class"]), *values, f"{row['support']:,}")
    _console().print(table)
    values = [f"{title} {_number(scores[key])}" for key, title in SCORES.items()]
    click.echo(f"{display(result.name)}: {', '.join(values)}")


def _print_notes(notes: list[str]) -> None:
    for note in notes:
        click.secho(f"Note: {note}.", fg="yellow")
