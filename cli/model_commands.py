"""The commands on trained models: evaluate, predict, explain, export and finetune."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import click

from ..cache import display
from .command import AS_JSON, PATH, SEED, Command
from .output import print_explanation, print_json, print_notes, print_scores

_TRUST = click.option(
    "--trust", is_flag=True, help="Allow a model file that runs code when loaded. Only if you trust its author."
)
_WEIGHTS = click.option(
    "--weights", type=PATH, metavar="FILE", help="The backbone's weights, if they moved since the training."
)


@click.command(cls=Command)
@click.argument("model", type=PATH)
@click.argument("cache", type=PATH)
@click.option("--split", type=PATH, metavar="FILE", help="Score the test part of this split.")
@click.option("--include-training", is_flag=True, help="Score also the images that the model was trained on.")
@_TRUST
@AS_JSON
def evaluate(model: Path, cache: Path, split: Path | None, include_training: bool, trust: bool, as_json: bool) -> None:
    """Score MODEL on what it was not trained on.

    For example:

        # on the images that it was not trained on
        embedonce evaluate svm.skops photos.h5
        # on another data set
        embedonce evaluate svm.skops others.h5
    """
    from ..evaluate.models import evaluate_model

    evaluation = evaluate_model(model, cache, split=split, include_training=include_training, trust=trust)
    if as_json:
        print_json(evaluation.to_dict())
        return
    print_scores(evaluation.result)
    left_out = f"; {evaluation.left_out:,} that it was trained on were left out" if evaluation.left_out else ""
    click.echo(f"Scored on {len(evaluation.rows):,} images{left_out}.")
    print_notes(evaluation.notes)


@click.command(cls=Command, short_help="Say which class MODEL sees in IMAGES.")
@click.argument("model", type=PATH)
@click.argument("images", type=PATH, nargs=-1, required=True)
@click.option("--top", type=click.IntRange(min=1), default=1, show_default=True, help="Classes to show of each image.")
@click.option("--cache", type=PATH, metavar="CACHE", help="Take the features of images that it holds from there.")
@_WEIGHTS
@_TRUST
@click.option(
    "--views",
    type=click.Choice(["none", "flips", "dihedral"]),
    default="none",
    show_default=True,
    help="Average probabilities over each image and its mirrored (and turned) views.",
)
@click.option("--csv", "as_csv", is_flag=True, help="Print CSV: path, class, probability, novelty.")
@AS_JSON
def predict(model: Path, images: tuple[Path, ...], as_csv: bool, as_json: bool, **options: Any) -> None:
    """Say which class MODEL sees in IMAGES: files, or folders with everything in them.

    An image that is farther from the training images than 999 in 1,000 of these (novelty above 1) is marked as unlike
    them: whatever the probability is, MODEL has not seen its kind. Exit status 1 when an image could not be read.

    For example:

        # an image, or a folder
        embedonce predict softmax.keras new/a.jpg
        # the two likeliest classes of every image, as a table
        embedonce predict svm.skops new --top 2 --csv
    """
    from ..evaluate.models import predict as predict_classes
    from ..evaluate.shared import as_csv as table

    predictions = predict_classes(model, images, **options)
    if as_json:
        print_json([prediction.to_dict() for prediction in predictions])
    elif as_csv:
        lines = [
            [prediction.path, name, *("" if value is None else f"{value:.6g}" for value in (p, prediction.novelty))]
            for prediction in predictions
            for name, p in prediction.classes
        ]
        click.echo(table(["path", "class", "probability", "novelty"], lines), nl=False)
    else:
        here = os.getcwd().rstrip(os.sep) + os.sep
        for prediction in predictions:
            classes = ", ".join(
                display(name) + ("" if p is None else f" {100 * p:.1f} %") for name, p in prediction.classes
            )
            unlike = " (unlike the training images)" if prediction.unlike_training else ""
            path = display(prediction.path.removeprefix(here))
            click.echo(f"{path}: {classes or f'not read, {prediction.reason}'}{unlike}")
    if any(prediction.reason for prediction in predictions):
        click.get_current_context().exit(1)


@click.command(cls=Command)
@click.argument("model", type=PATH)
@click.argument("image", type=PATH)
@click.option("-o", "--output", "path", type=PATH, required=True, help="The picture: FILE.png, FILE.svg or FILE.pdf.")
@click.option("--class", "class_name", metavar="NAME", help="Class to explain, by default the predicted one.")
@_WEIGHTS
@_TRUST
@AS_JSON
def explain(model: Path, image: Path, path: Path, as_json: bool, **options: Any) -> None:
    """Draw which places of IMAGE speak for the class that MODEL sees.

    For softmax, logreg and linear-svm heads the places, with what the head gives the class without looking, add up to
    its score; for svm heads it is Grad-CAM.

    For example:

        # where the model looked
        embedonce explain softmax.keras new/a.jpg -o a.png
        # what speaks for another class
        embedonce explain softmax.keras new/a.jpg --class birch -o birch.png
    """
    from ..cache import make_folder
    from ..evaluate.models import explain as explain_image
    from ..evaluate.models import require_picture

    require_picture(path)  # before the work, not after it
    make_folder(path.parent, "the picture")
    explanation = explain_image(model, image, **options)
    explanation.save(path)
    if as_json:
        print_json({"output": str(path)} | explanation.to_dict())
    else:
        print_explanation(explanation)
        click.echo(f"Wrote {display(str(path))}")


@click.command(cls=Command, short_help="Write MODEL as one file, from image to class.")
@click.argument("model", type=PATH)
@click.option("-o", "--output", "path", type=PATH, required=True, help="FILE.keras for Keras, FILE.tflite for LiteRT.")
@click.option("--cache", type=PATH, metavar="CACHE", help="Check on its images, if not on those of MODEL's own cache.")
@click.option(
    "--images", type=PATH, multiple=True, metavar="PATH", help="Check on these images instead: a file or a folder."
)
@click.option(
    "--check", type=click.IntRange(min=1), default=100, show_default=True, help="How many images, spread evenly."
)
@_WEIGHTS
@_TRUST
@AS_JSON
def export(model: Path, path: Path, images: tuple[Path, ...], as_json: bool, **options: Any) -> None:
    """Write MODEL with everything before it as one file: image in, class probabilities out.

    The file needs no embedonce. It is written only when it says of real images what MODEL says of their features: the
    same class, and probabilities within 0.001. For the heads softmax, logreg, linear-svm and svm.

    For example:

        # for Keras, without embedonce
        embedonce export svm.skops -o svm.keras
        # for phones and small computers
        embedonce export softmax.keras -o softmax.tflite
    """
    from ..evaluate.models import export as export_model

    exported = export_model(model, path, images=images or None, **options)
    if as_json:
        print_json(exported.to_dict())
        return
    click.echo(f"Wrote {display(str(exported.path))}")
    click.echo(
        f"It agrees with the head on {exported.checked} of {exported.checked} images; probabilities differ by at most "
        f"{exported.largest_difference:.1g}."
    )
    print_notes(exported.notes)


@click.command(cls=Command, short_help="Train the last layers of MODEL's backbone.")
@click.argument("images", type=PATH)
@click.option(
    "--from",
    "model",
    type=PATH,
    required=True,
    metavar="MODEL",
    help="Image model (.keras) of embedonce export, with a head softmax, logreg or linear-svm.",
)
@click.option(
    "--unfreeze",
    type=int,
    required=True,
    metavar="N",
    help="Train the last N layers of the backbone, and the head. Batch normalisation stays frozen.",
)
@click.option("-o", "--output", "path", type=PATH, required=True, help="FILE.keras")
@click.option("--cache", type=PATH, metavar="CACHE", help="That MODEL was trained on, if it is not where it was.")
@click.option(
    "--groups",
    type=PATH,
    metavar="FILE",
    help="CSV with the columns path,group: what stays together in the validation part. By default the copies that are "
    "found among the images.",
)
@click.option(
    "--augment",
    type=click.Choice(["none", "flips", "dihedral"]),
    default="flips",
    show_default=True,
    help="Turn training images at random: mirrored both ways, or quarter turns too.",
)
@click.option("--learning-rate", type=float, default=1e-5, show_default=True, help="Of Adam.")
@click.option("--epochs", type=click.IntRange(min=1), default=10, show_default=True, help="At most.")
@click.option(
    "--patience",
    type=click.IntRange(min=1),
    default=2,
    show_default=True,
    help="Epochs without a lower validation loss that end the training.",
)
@click.option("--batch-size", type=click.IntRange(min=1), default=32, show_default=True, help="Images in a step.")
@click.option(
    "--random-state", type=SEED, default=0, show_default=True, help="Of validation part, order and augmentation."
)
@click.option(
    "--curves", type=PATH, metavar="FILE", help="Picture of loss and accuracy, by default OUTPUT with .history.png."
)
@AS_JSON
def finetune(images: Path, model: Path, path: Path, as_json: bool, **options: Any) -> None:
    """Train the last layers of MODEL's backbone on those of IMAGES that MODEL was trained on.

    A fifth of them is for validation, copies of one original on one side. The epoch of the lowest validation loss is
    kept, the start counts as one. To hold the result against frozen heads: embedonce compare CACHE --with FILE.keras.

    For example:

        # the last twenty layers, from an exported model
        embedonce finetune photos --from softmax.keras --unfreeze 20 -o tuned.keras
    """
    from ..evaluate.finetuning import finetune as finetune_model
    from ..extract import make_progress

    done = finetune_model(images, model, path, progress=make_progress(not as_json), **options)
    if as_json:
        print_json(done.as_dict())
        return
    course = done.course
    trained = f"{len(done.layers)} layers of the backbone, {display(done.layers[0])} to {display(done.layers[-1])}"
    click.echo(f"Trained {trained}, and the head: {done.parameters:,} parameters; batch normalisation stayed frozen.")
    last = int(course.history["epoch"][-1])
    click.echo(
        f"{last} epochs of {done.images:,} images in {course.seconds:.1f} s, validated on {done.validation_images:,}; "
        f"kept epoch {course.best}:"
    )
    for key, title in (("val_loss", "validation loss"), ("val_accuracy", "validation accuracy")):
        values = course.history[key]
        click.echo(f"  {title} {values[course.best]:.4f}, {values[0]:.4f} at the start")
    click.echo(f"Wrote {display(str(done.path))}")
    click.echo(f"Curves of accuracy and loss: {display(str(done.curves))}")
    print_notes(done.notes)


COMMANDS = (evaluate, predict, explain, export, finetune)
