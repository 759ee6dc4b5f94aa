"""Commands from images to a cache: demo, extract, info, verify, doctor and pack."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from ..cache import counted, display
from ..extract import DECODERS, DTYPES, FRAMES, LAYOUTS, ORIENTATIONS, VALUE_RANGES
from .command import (
    AS_JSON,
    ENGINE,
    PATH,
    POSITIVE,
    VIEWS,
    WEIGHTS,
    Command,
    import_scikit_learn,
    option,
    sigterm_as_exit,
)
from .output import (
    print_check,
    print_comparison,
    print_json,
    print_labels,
    print_notes,
    print_report,
    print_verification,
)
from .screen import if_interrupted, progress, say, say_next

_CACHE = click.argument("cache", type=PATH)
_FOLLOW_LINKS = option("--follow-links", is_flag=True, help="Enter links inside class folders.")
_BACKBONE = option("--weights", default="imagenet", metavar="imagenet|FILE|random:SEED", help="Backbone weights.")
_ALPHA = option("--alpha", default=1.0, help="Width multiplier of MobileNetV2.")
_LABELS = option("--labels", type=PATH, metavar="FILE", help="Table of labels: CSV, TSV or Parquet.")
_PATH_COLUMN = option("--path-column", metavar="NAME", help="Column of the paths in the table.")
_LABEL_COLUMN = option("--label-column", metavar="NAME", help="Column of the labels in the table.")
_LABEL_PATTERN = option("--label-pattern", metavar="REGEX", help="Take labels from file names.")
_IMAGE_SIZE = option("--image-size", default=224, help="Resize images to this many pixels.")


@click.command(cls=Command)
@option("-o", "--output", type=PATH, default=Path("embedonce-demo"), help="Write everything here.")
def demo(output: Path) -> None:
    """Run the whole workflow on real images, with or without network.

    For example:

        # write everything to the folder demo
        embedonce demo -o demo
    """
    import_scikit_learn()
    from ..evaluate.comparison import run_demo

    say("Handwritten digits from scikit-learn: 1,797 images in ten folders.")
    shown = progress()
    result = run_demo(output, shown)
    print_report(result.cache)
    print_comparison(result.comparison)
    printed = len(result.comparison.notes)
    with shown.working("drawing the figures and the report …", "drawn"):
        result.comparison.save(result.results)
    print_notes(result.comparison.notes[printed:])
    say(f"Images            {result.images}")
    say(f"Feature cache     {result.cache.path}")
    say(f"Confusion matrix  {result.results / 'confusion.png'}")
    say(f"Training curves   {result.results / 'curves-softmax.png'}")
    say(f"Report            {result.results / 'report.html'}")
    say(f"All numbers       {result.results / 'results.json'}")
    say("\nNext, with your own images:  embedonce extract IMAGES CACHE.h5")


@click.command(cls=Command, short_help="Embed a folder of images into CACHE.")
@click.argument("images", type=PATH)
@click.argument("cache", type=click.Path(path_type=str))  # a Path would lose the slash that asks for a folder
@_LABELS
@_PATH_COLUMN
@_LABEL_COLUMN
@_LABEL_PATTERN
@option("--layout", type=click.Choice(LAYOUTS), default="auto", help="Whether train and test are classes.")
@_BACKBONE
@_ALPHA
@_IMAGE_SIZE
@ENGINE
@option("--precision", type=click.Choice(list(DTYPES)), default="float32", help="Arithmetic of the backbone.")
@option("--orientation", type=click.Choice(ORIENTATIONS), default="stored", help="How images are turned.")
@option("--range", "value_range", type=click.Choice(VALUE_RANGES), default="stored", help="Values of 16-bit images.")
@option("--resize", type=click.Choice(list(FRAMES)), default="stretch", help="How images become square.")
@option("--antialias", is_flag=True, help="Average all pixels of images that are reduced.")
@option("--decoding", type=click.Choice(list(DECODERS)), default="exact", help="How to decode large JPEG files.")
@option("--workers", type=POSITIVE, help="Threads; with --dask, threads of each task.")
@option("--threads", type=POSITIVE, help="Threads inside each interpreter of the engine.")
@option("--dask", metavar="SCHEDULER", help="Embed on this Dask cluster.")
@option("--views", type=VIEWS, default="none", help="Also embed augmented views of every image.")
@option("--strict", is_flag=True, help="Fail when an image cannot be embedded.")
@_FOLLOW_LINKS
@AS_JSON
def extract(images: Path, cache: str, as_json: bool, **options: Any) -> None:
    """Embed a folder of images into CACHE, with the labels of class folders or a table.

    The first folder below IMAGES is the class. With --labels, a table gives the labels: its rows name images by path,
    file name, or name without suffix, and its other columns are stored as metadata. --label-pattern takes labels from
    file names, such as '(?P<label>[a-z]+)_[0-9]+'. Images that are directly in IMAGES have no labels. Folders named
    train, val and test with the same class folders are a split, which compare and train use.
    IMAGES can also be a .zip, .tar, .tar.gz or .tgz archive.

    JPEG, PNG, BMP, GIF, WebP, TIFF, JPEG 2000, AVIF and PNM files are read, HEIC with embedonce[heic] and DICOM with
    embedonce[dicom]. CACHE is a file, such as lung.h5, or a folder of shards, such as lung.cache/, for millions of
    images. Only new, changed and damaged images are embedded. An interrupted run continues when the command runs again.

    --precision int8 is faster on processors with AVX-512 (litert). float16 and bfloat16 are for GPUs (keras) and slower
    than float32 on processors. --decoding reduced decodes JPEG files of at least twice the image size at a fraction of
    their size, which is faster below 5 megapixels. Each choice gives different features, which need a separate cache.

    --resize stretch changes the proportions of images that are not square, crop takes their central square, pad adds
    black bars. --antialias averages all pixels of large images, which takes longer. Without it, most of them are left
    out. --range stretch makes the smallest and the largest value of each image of 16 bits 0 and 255; stored takes the
    high byte. All of them are part of the model: predict reads images as the training did.

    --views flips embeds three mirrored views of every image, dihedral seven mirrored and rotated ones. Each view costs
    as much time as the images. compare and train use them with --views.

    --workers and --threads change no feature. --workers 1 needs the least memory. --dask takes the address of a
    scheduler (tcp://host:8786) or its scheduler file (.json). Every worker needs embedonce[cluster] and, under the same
    paths, IMAGES and the folder of CACHE.

    For example:

        # embed a folder of images; run it again to embed new and changed ones
        embedonce extract photos photos.h5
        # take labels from a table with the columns id and label
        embedonce extract photos photos.h5 --labels train.csv
        # use weights from a file, on a machine without network
        embedonce extract photos photos.h5 --weights mobilenet_v2.weights.h5
        # embed millions of images into a folder of shards, on a cluster
        embedonce extract photos photos.cache/ --dask tcp://host:8786
    """
    from ..extract import extract_features

    if_interrupted("Run the same command again to continue.")
    with sigterm_as_exit():
        updated = extract_features(images, cache, progress=progress(), **options)
    if as_json:
        print_json(updated.report.to_dict())
    else:
        print_report(updated)
        if len(updated.class_names) > 1:
            say_next("compare", cache, "-o", Path("runs") / Path(cache).stem)


@click.command(cls=Command)
@_CACHE
@_LABELS
@_PATH_COLUMN
@_LABEL_COLUMN
@_LABEL_PATTERN
@AS_JSON
def label(cache: Path, as_json: bool, **options: Any) -> None:
    """Change the labels of CACHE without embedding again.

    Images that the table does not name keep their labels, so an edited suspects.csv can be used as it is. Other columns
    become metadata. After moving images between class folders, run embedonce extract, which takes their features from
    CACHE.

    For example:

        # add labels to a cache without labels, or replace them
        embedonce label photos.h5 --labels labels.csv
        # correct the labels that compare suspects
        embedonce label photos.h5 --labels results/suspects.csv
    """
    from ..extract import label as change_labels

    with sigterm_as_exit():
        updated = change_labels(cache, **options)
    if as_json:
        print_json(updated.report.to_dict() | {"classes": updated.class_counts})
    else:
        print_labels(updated)


@click.command(cls=Command)
@_CACHE
@AS_JSON
def info(cache: Path, as_json: bool) -> None:
    """Show the content and the origin of CACHE.

    For example:

        # print a summary
        embedonce info photos.h5
        # print it for a script
        embedonce info photos.h5 --json
    """
    from ..cache import info as summarize

    summary = summarize(cache)
    if as_json:
        print_json(summary.to_dict())
    else:
        say(str(summary), indent=16 * " ")


@click.command(cls=Command, short_help="Check CACHE against its checksums and images.")
@_CACHE
@option("--images", type=PATH, metavar="DIR", help="Compare with this image folder or archive.")
@option("--sample", type=click.IntRange(min=0), default=16, help="Images to embed again.")
@option("--seed", type=click.IntRange(min=0), default=0, help="Random seed of the sample.")
@WEIGHTS
@ENGINE
@_FOLLOW_LINKS
@AS_JSON
def verify(cache: Path, as_json: bool, **options: Any) -> None:
    """Check every checksum of CACHE.

    With --images, also compare the images by content, and embed a sample of them again. --sample, --seed, --weights and
    --engine are for that sample. Exit status 1 when anything is damaged, differs, or cannot be reproduced on this
    machine.

    For example:

        # check the checksums
        embedonce verify photos.h5
        # check also that the cache matches its image folder, and embed a sample again
        embedonce verify photos.h5 --images photos
    """
    from ..extract import verify as verify_cache

    verification = verify_cache(cache, progress=progress(), **options)
    if as_json:
        print_json(verification.to_dict())
    else:
        print_verification(verification)
    if not verification.ok:
        click.get_current_context().exit(1)


@click.command(cls=Command, short_help="Check this machine: packages, weights, speed.")
@click.argument("folder", type=PATH, default=Path("."))
@_BACKBONE
@_ALPHA
@_IMAGE_SIZE
@AS_JSON
def doctor(folder: Path, as_json: bool, **options: Any) -> None:
    """Check this machine: packages, processor, memory, disk, locks in FOLDER, weights and speed.

    Takes some seconds. Exit status 1 when something will not work.

    For example:

        # check the machine
        embedonce doctor
        # check a folder for caches, with weights from a file
        embedonce doctor /data --weights mobilenet_v2.weights.h5
    """
    from ..extract import FAIL
    from ..extract import doctor as run_checks

    checks = run_checks(folder, progress=None if as_json else print_check, **options)
    if as_json:
        print_json([check.to_dict() for check in checks])
    if any(check.status == FAIL for check in checks):
        click.get_current_context().exit(1)


@click.command(cls=Command)
@click.argument("source", type=PATH)
@click.argument("target", type=click.Path(path_type=str))
@AS_JSON
def pack(source: Path, target: str, as_json: bool) -> None:
    """Write a folder of shards, SOURCE, as one file, TARGET.

    For example:

        # write one file to copy to another machine
        embedonce pack photos.cache photos.h5
    """
    from ..cache import pack as pack_cache

    with progress(not as_json).working("copying the shards …", "copied"):
        packed = pack_cache(source, target)
    if as_json:
        print_json({"cache": str(packed.path), "images": len(packed), "features": packed.shape[1]})
    else:
        say(f"Wrote {packed.display_path}: {len(packed):,} x {packed.shape[1]:,} features.")


@click.command(cls=Command)
@_CACHE
@option("-o", "--output", type=PATH, required=True, help="Write this .csv, .parquet or .npz file.")
@option("--features/--no-features", default=True, help="Write the features.")
@AS_JSON
def convert(cache: Path, output: Path, features: bool, as_json: bool) -> None:
    """Write CACHE as a CSV, Parquet or NumPy file for other programs.

    CSV and Parquet files have the columns path and class_name, those of the metadata, and the features. Parquet needs
    pyarrow.

    For example:

        # write a table for pandas, polars or R
        embedonce convert photos.h5 -o photos.parquet
        # write the labels, to edit and read again with embedonce label
        embedonce convert photos.h5 -o labels.csv --no-features
    """
    from ..cache import FeatureCache
    from ..cache import convert as convert_cache

    with FeatureCache.open(cache) as opened:
        path = convert_cache(opened, output, features=features)
        images = len(opened)
        summary = {"output": str(path), "images": images, "features": opened.shape[1] if features else 0}
    if as_json:
        print_json(summary)
    else:
        say(f"Wrote {display(path)}: {counted(images, 'image(s)')}.")


COMMANDS = (demo, extract, label, info, verify, doctor, pack, convert)
