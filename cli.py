"""The command line. Every command imports what it needs when it runs, so that ``--help`` is quick.

Exit status: 0 when all went well, 1 when a run failed, 2 when the command was wrong, 130 when interrupted.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from . import __version__
from .cache.names import display
from .commands import Group, ending_in_order, head_parameters, parameter
from .console import (
    print_differences,
    print_gap,
    print_groups,
    print_json,
    print_notes,
    print_report,
    print_scores,
    print_table,
    print_verification,
)

HEADS_HELP = "softmax, logreg, svm, linear-svm, knn, dummy, or package.module:Class of any scikit-learn classifier"
_PATH = click.Path(path_type=Path)
_ENGINE = click.option(
    "--engine", type=click.Choice(["auto", "litert", "keras"]), default="auto", show_default=True, help="What computes."
)
_GROUPS = click.option(
    "--groups",
    type=_PATH,
    metavar="FILE",
    help="CSV with the columns path,group: images that belong together, such as those of one patient. By default the "
    "copies that are found among the images, which are kept in CACHE.groups.csv.",
)
_FOLLOW_LINKS = click.option("--follow-links", is_flag=True, help="Enter links to folders.")


@click.group(cls=Group, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
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
    print_report(made.report)
    print_table(made.comparison.table)
    print_differences(made.comparison)
    print_gap(made.comparison)
    print_notes(made.comparison.notes)
    click.echo(f"Images            {made.images}")
    click.echo(f"Feature cache     {made.report.cache.path}")
    click.echo(f"Confusion matrix  {made.results / 'confusion.png'}")
    click.echo(f"Training curves   {made.results / 'curves-softmax.png'}")
    click.echo(f"Report            {made.results / 'report.html'}")
    click.echo(f"All numbers       {made.results / 'results.json'}")
    click.echo("\nNow with your own images:  embedonce extract IMAGES CACHE.h5")


@main.command()
@click.argument("images", type=_PATH)
@click.argument("cache", type=click.Path(path_type=str))  # a Path would lose the slash that asks for a folder
@click.option(
    "--weights",
    default="imagenet",
    show_default=True,
    metavar="imagenet|FILE|random:SEED",
    help="The backbone's weights.",
)
@click.option("--alpha", type=float, default=1.0, show_default=True, help="Width multiplier of MobileNetV2.")
@click.option("--image-size", type=int, default=224, show_default=True, help="Pixels that images are resized to.")
@_ENGINE
@click.option(
    "--precision",
    type=click.Choice(["float32", "int8", "float16", "bfloat16"]),
    default="float32",
    show_default=True,
    help="Of the backbone's arithmetic. int8 is faster on processors (litert); float16 and bfloat16 are for GPUs "
    "(keras), and slower than float32 on processors. Each gives features of its own.",
)
@click.option(
    "--decoding",
    type=click.Choice(["exact", "reduced"]),
    default="exact",
    show_default=True,
    help="reduced: decode JPEG files of at least twice the image size at a fraction, which is faster and gives other "
    "features.",
)
@click.option(
    "--workers",
    type=click.IntRange(min=1),
    help="Threads; by default what suits engine and processor. With --dask: threads of each task, by default 1, since "
    "every thread of a Dask worker takes a slice of its own.",
)
@click.option(
    "--threads",
    type=click.IntRange(min=1),
    help="Threads inside each of litert's interpreters, by default 1, where memory is short for one interpreter per "
    "processor; or of TensorFlow, by default all. They change no feature.",
)
@click.option(
    "--dask",
    metavar="SCHEDULER",
    help="Embed on a Dask cluster: the scheduler's address (tcp://host:8786), or its scheduler file (.json). Every "
    "worker needs embedonce[cluster] and, under the same paths, IMAGES and the folder of CACHE.",
)
@click.option("--strict", is_flag=True, help="Fail when an image cannot be embedded, instead of listing it.")
@_FOLLOW_LINKS
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def extract(images: Path, cache: str, as_json: bool, **options: Any) -> None:
    """Embed a folder of images, one folder per class, into CACHE.

    CACHE is a file, such as lung.h5, or a folder of shards, such as lung.cache/, for very many images. Only what
    is new, changed or damaged is embedded. Run it again whenever the images change; a run that was cut off goes
    on where it was.
    """
    from .extract.progress import make_progress
    from .extract.run import update_cache

    with ending_in_order():
        report = update_cache(images, cache, progress=make_progress(True), **options)
    if as_json:
        print_json(report.as_dict())
    else:
        print_report(report)


@main.command()
@click.argument("cache", type=_PATH)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def info(cache: Path, as_json: bool) -> None:
    """Show what CACHE holds and how it was made."""
    from .cache.reader import FeatureCache
    from .evaluate.results import describe_cache

    with FeatureCache.open(cache) as opened:
        if as_json:
            print_json(describe_cache(opened) | {"reject_reasons": opened.rejects})
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
@click.option("--images", type=_PATH, metavar="DIR", help="Compare with this folder, by content.")
@click.option("--sample", type=click.IntRange(min=0), default=16, show_default=True, help="Images to embed again.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of the choice of the sample.")
@click.option(
    "--weights", type=_PATH, metavar="FILE", help="The backbone's weights, if they moved since the extraction."
)
@_ENGINE
@_FOLLOW_LINKS
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def verify(cache: Path, as_json: bool, **options: Any) -> None:
    """Check every checksum of CACHE and, with --images, that it still matches its images.

    Exit status 1 when anything is damaged, differs, or cannot be made again on this machine.
    """
    from .extract.progress import make_progress
    from .extract.verify import verify_cache

    done = verify_cache(cache, progress=make_progress(True), **options)
    if as_json:
        print_json(done.as_dict())
    else:
        print_verification(done)
    if not done.ok:
        click.get_current_context().exit(1)


@main.command()
@click.argument("source", type=_PATH)
@click.argument("target", type=click.Path(path_type=str))
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def pack(source: Path, target: str, as_json: bool) -> None:
    """Write a folder of shards, SOURCE, as one file, TARGET."""
    from .cache.pack import pack as pack_cache

    packed = pack_cache(source, target)
    if as_json:
        print_json({"cache": str(packed.path), "images": len(packed), "features": packed.shape[1]})
    else:
        click.echo(f"Wrote {display(str(packed.path))}: {len(packed):,} x {packed.shape[1]:,} features.")


@main.command()
@click.argument("cache", type=_PATH)
@click.option("-o", "--output", type=_PATH, required=True, help="CSV file with the columns path,group,sha256.")
@click.option(
    "--within-class/--across-classes",
    default=False,
    show_default=True,
    help="Copies with different labels are two images, or a label error that is listed.",
)
@click.option("--images", type=_PATH, metavar="DIR", help="The image folder, if it moved since the extraction.")
@click.option("--report", type=_PATH, metavar="DIR", help="Folder for pictures of the groups and all numbers.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def groups(
    cache: Path, output: Path, within_class: bool, images: Path | None, report: Path | None, as_json: bool
) -> None:
    """Find the images of CACHE that are copies of one original: turned, mirrored, cropped, zoomed, recompressed.

    Groups of an earlier OUTPUT keep their names, so that splits by them stay as they were.
    """
    from .evaluate.groups import find_and_write
    from .extract.progress import make_progress

    found, written = find_and_write(
        cache, output, within_class=within_class, images=images, report=report, progress=make_progress(True)
    )
    if as_json:
        print_json(found.summary())
        return
    print_groups(found)
    for path in written:
        click.echo(f"Wrote {display(str(path))}")


@main.command()
@click.argument("cache", type=_PATH)
@click.option("--head", required=True, metavar="NAME", help=HEADS_HELP)
@click.option(
    "-o", "--output", type=_PATH, required=True, help="Model file: .keras for softmax, .skops for the others."
)
@click.option("-p", "--param", "params", multiple=True, metavar="NAME=VALUE", help="A parameter of the head.")
@click.option(
    "--split",
    default="random",
    show_default=True,
    metavar="random|grouped|FILE[:COLUMN]|none",
    help="none: train on all images.",
)
@_GROUPS
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
    groups: Path | None,
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
    chosen = dict(parameter(text) for text in params)
    if not as_json:
        _announce(head)
    trained = train_head(
        opened, head, output, parameters=chosen, split=split, seed=seed, weights=weights, groups=groups
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


@main.command()
@click.argument("cache", type=_PATH)
@click.option("--heads", default="softmax,logreg,svm", show_default=True, metavar="NAME,NAME", help=HEADS_HELP)
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
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of these splits.")
@click.option(
    "--folds",
    type=click.IntRange(min=2),
    metavar="K",
    help="Cross-validation: every image is tested once, by heads that were trained on the other folds.",
)
@click.option("--repeats", type=click.IntRange(min=1), default=1, show_default=True, help="Cross-validations.")
@click.option(
    "--class-weight",
    type=click.Choice(["balanced"]),
    help="Every class counts the same in training, however many images it has.",
)
@click.option(
    "--jobs", type=click.IntRange(min=1), default=1, show_default=True, help="Heads to train at the same time."
)
@click.option(
    "--dask",
    metavar="SCHEDULER",
    help="Train on a Dask cluster: the scheduler's address (tcp://host:8786), or its scheduler file (.json). Every "
    "worker needs embedonce[cluster] and, under the same path, CACHE.",
)
@click.option("-o", "--output", type=_PATH, required=True, help="Folder for the results.")
@click.option("--json", "as_json", is_flag=True, help="Print results.json.")
def compare(cache: Path, heads: str, params: tuple[str, ...], output: Path, as_json: bool, **options: Any) -> None:
    """Train and test heads on the same images of CACHE.

    By default on a split that keeps copies of one original together, and on a random one to show what they pretend.
    """
    from .cache.files import make_folder
    from .cache.reader import FeatureCache
    from .evaluate.compare import compare as compare_heads
    from .extract.progress import make_progress

    opened = FeatureCache.open(cache)
    chosen = head_parameters(heads, params)
    make_folder(output, "results")  # before the work, not after it
    announce = None if as_json else _announce
    made = compare_heads(opened, chosen, on_head=announce, progress=make_progress(True), **options)
    written = made.save(output)
    if as_json:
        click.echo((output / "results.json").read_text(encoding="ascii"), nl=False)
        return
    print_table(made.table)
    print_differences(made)
    print_gap(made)
    print_notes(made.notes)
    for path in written:
        if path.name in ("results.json", "report.html"):
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
        print_json(measured | {"notes": done.notes})
        return
    print_scores(done.result)
    left_out = f"; {done.left_out:,} that it was trained on were left out" if done.left_out else ""
    click.echo(f"Scored on {len(done.rows):,} images{left_out}.")
    print_notes(done.notes)


def _announce(head: str) -> None:
    click.echo(f"training {display(head)} …", err=True)
