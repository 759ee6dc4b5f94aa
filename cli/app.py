"""The command line. Every command imports what it needs when it runs, so that ``--help`` is quick.

Exit status: 0 when all went well, 1 when a run failed, 2 when the command was wrong, 130 when interrupted.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import click

from ..cache import display
from ..extract import AUTO, DECODERS, DTYPES, ENGINES
from .command import AS_JSON, PATH, Group, sigterm_as_exit
from .comparison_commands import COMMANDS, announce
from .model_commands import COMMANDS as MODEL_COMMANDS
from .output import (
    print_check,
    print_differences,
    print_gap,
    print_json,
    print_notes,
    print_report,
    print_table,
    print_verification,
)

_ENGINE = click.option(
    "--engine",
    type=click.Choice([AUTO, *ENGINES]),
    default=AUTO,
    show_default=True,
    help="What computes; auto is the fastest that this machine has.",
)
_FOLLOW_LINKS = click.option("--follow-links", is_flag=True, help="Enter links to folders.")


@click.group(cls=Group, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="embedonce", prog_name="embedonce")
@click.pass_context
def main(ctx: click.Context) -> None:
    """Embed images once with a frozen MobileNetV2, then train and compare classifier heads in seconds.

    For education and research; not for medical diagnosis.

    Exit status: 0 all went well, 1 a run failed, 2 the command was wrong, 130 interrupted. The environment variable
    NO_COLOR, whatever it is, switches colours off.
    """
    if os.environ.get("NO_COLOR"):  # https://no-color.org; rich looks at it by itself
        ctx.color = False


@main.command()
@click.option(
    "-o", "--output", type=PATH, default=Path("embedonce-demo"), show_default=True, help="Folder for everything."
)
def demo(output: Path) -> None:
    """Show the whole road on real images, offline too."""
    from ..evaluate.comparison import run_demo
    from ..extract import make_progress

    click.echo("Handwritten digits from scikit-learn: 1,797 images in ten folders.")
    made = run_demo(output, make_progress(True), announce, lambda text: click.secho(f"Notice: {text}", fg="yellow"))
    print_report(made.report)
    print_table(made.comparison)
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
@click.argument("images", type=PATH)
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
    type=click.Choice(list(DTYPES)),
    default="float32",
    show_default=True,
    help="Of the backbone's arithmetic. int8 is faster on processors with AVX-512 (litert); float16 and bfloat16 are "
    "for GPUs (keras), and slower than float32 on processors. Each gives features of its own.",
)
@click.option(
    "--decoding",
    type=click.Choice(list(DECODERS)),
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
@click.option(
    "--views",
    type=click.Choice(["none", "flips", "dihedral"]),
    default="none",
    show_default=True,
    help="Embed every image mirrored too (three views), or mirrored and turned (seven): each view costs as much as the "
    "images themselves. For compare and train with --views.",
)
@click.option("--strict", is_flag=True, help="Fail when an image cannot be embedded, instead of listing it.")
@_FOLLOW_LINKS
@AS_JSON
def extract(images: Path, cache: str, as_json: bool, **options: Any) -> None:
    """Embed a folder of images, one folder per class, into CACHE.

    The first folder below IMAGES is the class. JPEG, PNG, BMP and GIF files are read.

    CACHE is a file, such as lung.h5, or a folder of shards, such as lung.cache/, for very many images. Only what
    is new, changed or damaged is embedded. Run it again whenever the images change; a run that was cut off goes
    on where it was.
    """
    from ..extract import make_progress, update_cache

    with sigterm_as_exit():
        report = update_cache(images, cache, progress=make_progress(True), **options)
    if as_json:
        print_json(report.as_dict())
    else:
        print_report(report)


@main.command()
@click.argument("cache", type=PATH)
@AS_JSON
def info(cache: Path, as_json: bool) -> None:
    """Show what CACHE holds and how it was made."""
    from ..cache import FeatureCache
    from ..evaluate.shared import describe_cache

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


@main.command(short_help="Check that CACHE is intact and matches its images.")
@click.argument("cache", type=PATH)
@click.option("--images", type=PATH, metavar="DIR", help="Compare with this folder, by content.")
@click.option("--sample", type=click.IntRange(min=0), default=16, show_default=True, help="Images to embed again.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of the choice of the sample.")
@click.option(
    "--weights", type=PATH, metavar="FILE", help="The backbone's weights, if they moved since the extraction."
)
@_ENGINE
@_FOLLOW_LINKS
@AS_JSON
def verify(cache: Path, as_json: bool, **options: Any) -> None:
    """Check every checksum of CACHE and, with --images, that it still matches its images.

    Exit status 1 when anything is damaged, differs, or cannot be made again on this machine.
    """
    from ..extract import make_progress, verify_cache

    done = verify_cache(cache, progress=make_progress(True), **options)
    if as_json:
        print_json(done.as_dict())
    else:
        print_verification(done)
    if not done.ok:
        click.get_current_context().exit(1)


@main.command(short_help="Look at this machine: packages, weights, speed.")
@click.argument("folder", type=PATH, default=Path("."))
@click.option(
    "--weights", default="imagenet", show_default=True, metavar="imagenet|FILE|random:SEED", help="To look for."
)
@click.option("--alpha", type=float, default=1.0, show_default=True, help="Width multiplier of MobileNetV2.")
@click.option("--image-size", type=int, default=224, show_default=True, help="Pixels that images are resized to.")
@AS_JSON
def doctor(folder: Path, as_json: bool, **options: Any) -> None:
    """Look at this machine: packages, processor, memory, disk, locks in FOLDER, weights, and how fast it is.

    Takes some seconds. Exit status 1 when something will not work.
    """
    from ..extract import FAIL
    from ..extract import doctor as examine

    checks = []
    for check in examine(folder, **options):
        checks.append(check)
        if not as_json:
            print_check(check)
    if as_json:
        print_json([check.as_dict() for check in checks])
    if any(check.status == FAIL for check in checks):
        click.get_current_context().exit(1)


@main.command()
@click.argument("source", type=PATH)
@click.argument("target", type=click.Path(path_type=str))
@AS_JSON
def pack(source: Path, target: str, as_json: bool) -> None:
    """Write a folder of shards, SOURCE, as one file, TARGET."""
    from ..cache import pack as pack_cache

    packed = pack_cache(source, target)
    if as_json:
        print_json({"cache": str(packed.path), "images": len(packed), "features": packed.shape[1]})
    else:
        click.echo(f"Wrote {display(str(packed.path))}: {len(packed):,} x {packed.shape[1]:,} features.")


for command in (*COMMANDS, *MODEL_COMMANDS):
    main.add_command(command)
