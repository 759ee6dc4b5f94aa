"""Commands on trained models: evaluate, predict, explain, export and finetune."""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from ..cache import counted, display, make_folder
from .command import AS_JSON, ENGINE, GROUPS, PATH, POSITIVE, SEED, VIEWS, WEIGHTS, Command, import_scikit_learn, option
from .head_options import METRICS
from .output import print_earlier_runs, print_explanation, print_json, print_notes, print_scores
from .screen import progress, say, say_next

_TRUST = option("--trust", is_flag=True, help="Load a model file that may run code.")


@click.command(cls=Command)
@click.argument("model", type=PATH)
@click.argument("cache", type=PATH)
@option("--split", type=PATH, metavar="FILE|@COLUMN", help="Score the test images of this split.")
@GROUPS
@METRICS
@option("--include-training", is_flag=True, help="Also score the training images.")
@option("-o", "--output", type=PATH, metavar="DIR", help="Write the report and all numbers to this folder.")
@_TRUST
@AS_JSON
def evaluate(model: Path, cache: Path, output: Path | None, as_json: bool, **options: Any) -> None:
    """Score MODEL on the images of CACHE that it was not trained on.

    Near-duplicates of training images are searched, also when the model was trained on another cache. If there are any,
    the scores without them are printed as well.

    For example:

        # score a model on the images that are left
        embedonce evaluate svm.npz photos.h5
        # score it on another data set, and write the report
        embedonce evaluate svm.npz others.h5 -o runs/others
    """
    import_scikit_learn()
    from ..evaluate.comparison import evaluate_model

    if output is not None:
        make_folder(output, "the report")  # before the work, not after it
    evaluation = evaluate_model(model, cache, progress=progress(not as_json), **options)
    written = [] if output is None else evaluation.save(output)
    if as_json:
        print_json(evaluation.to_dict() | {"files": [str(path) for path in written]})
        return
    print_scores(evaluation.result)
    left_out = f"; {evaluation.left_out:,} that it was trained on were left out" if evaluation.left_out else ""
    say(f"Scored on {counted(len(evaluation.rows), 'image(s)')}{left_out}.")
    if evaluation.independent is not None:
        count = len(evaluation.independent.predicted)
        say(f"\nWithout the images that have {evaluation.relation} in training, {count:,} are left:")
        print_scores(evaluation.independent)
    print_earlier_runs(evaluation.earlier)
    print_notes(evaluation.notes)
    for path in written:
        if path.name in ("report.html", "results.json"):
            say(f"Wrote {display(str(path))}")
    say_next("predict", model, "IMAGES")


@click.command(cls=Command, short_help="Predict the classes of IMAGES with MODEL.")
@click.argument("model", type=PATH)
@click.argument("images", type=PATH, nargs=-1, required=True)
@option("--top", type=POSITIVE, default=1, help="Classes to print for each image.")
@option("--cache", type=PATH, metavar="CACHE", help="Read features from this cache if possible.")
@WEIGHTS
@ENGINE
@_TRUST
@option("--views", type=VIEWS, default="none", help="Average probabilities over augmented views.")
@option("-o", "--output", type=PATH, metavar="FILE.csv", help="Write names and classes to this file.")
@option("--copy-to", type=PATH, metavar="DIR", help="Copy images into a folder of DIR per class.")
@option("--link-to", type=PATH, metavar="DIR", help="Link images into a folder of DIR per class.")
@option("--columns", metavar="ID,LABEL", default="id,label", help="Names of the columns of FILE.csv.")
@option("--csv", "as_csv", is_flag=True, help="Print CSV: path, class, probability, novelty, error.")
@AS_JSON
def predict(
    model: Path,
    images: tuple[Path, ...],
    output: Path | None,
    copy_to: Path | None,
    link_to: Path | None,
    columns: str,
    as_csv: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Predict the classes of IMAGES, which are files, folders or archives, with MODEL.

    A model of embedonce train --decide answers, or says "ask a person" below its threshold, or gives a set of labels.

    An image that is farther from the training images than 999 in 1,000 of them (novelty above 1) is marked as unlike
    them. Do not trust its probabilities. Training images are marked too. Exit status 1 if an image could not be read.
    Use --trust only if you trust the author of the file.

    FILE.csv has a line for every image: its path in the folder or archive that was given, or its name, and its class.
    If an image could not be read, its class is empty and a third column, error, says why. --copy-to and --link-to sort
    the images into class folders and overwrite nothing.

    For example:

        # predict the class of an image
        embedonce predict softmax.keras new/a.jpg
        # print the two most probable classes of every image of a folder
        embedonce predict svm.npz new --top 2 --csv
        # write a table of file names and classes
        embedonce predict svm.npz new -o submission.csv
        # sort the images into a folder per class
        embedonce predict svm.npz new --copy-to sorted
    """
    from ..cache import as_csv as table
    from ..cache import refuse_input_as_output, write_atomically
    from ..evaluate.models import names_of_images, sort_images
    from ..evaluate.models import predict as predict_classes

    titles = columns.split(",")
    if len(titles) != 2 or "" in titles or titles[0] == titles[1]:
        raise click.UsageError(f"--columns must be two names with a comma, such as id,label, got {columns!r}.")
    if copy_to is not None and link_to is not None:
        raise click.UsageError("--copy-to and --link-to exclude each other.")
    target = copy_to or link_to
    if target is not None:
        refuse_input_as_output(target, *images)
        make_folder(target, "the images")
    if output is not None:
        refuse_input_as_output(output, model, options["cache"], *images)
        make_folder(output.parent, "the predictions")  # before the work, not after it
    predictions = predict_classes(model, images, progress=progress(not as_json and not as_csv), **options)
    names = names_of_images(predictions, images) if output is not None or target is not None else []
    kept = [] if target is None else sort_images(predictions, names, target, link=link_to is not None)
    if output is not None:
        failed = any(prediction.reason for prediction in predictions)
        rows = [
            [name, prediction.classes[0][0] if prediction.classes else "", *([prediction.reason] if failed else [])]
            for name, prediction in zip(names, predictions, strict=True)
        ]
        write_atomically(output, table([*titles, "error"] if failed else titles, rows))
    if as_json:
        print_json(predictions.to_dict())
    elif as_csv:
        extra = [name for name in ("decision", "labels") if any(getattr(one, name) is not None for one in predictions)]
        shown = display if sys.stdout.isatty() else str  # names control no terminal, and a file has them as they are
        lines = [
            [
                shown(prediction.path),
                shown(name),
                *("" if value is None else f"{value:.6g}" for value in (p, prediction.novelty)),
                shown(prediction.reason),
                *(_as_cell(getattr(prediction, name), shown) for name in extra),
            ]
            for prediction in predictions
            for name, p in prediction.classes or [("", None)]
        ]
        click.echo(table(["path", "class", "probability", "novelty", "error", *extra], lines), nl=False)
    else:
        here = os.getcwd().rstrip(os.sep) + os.sep
        for prediction in predictions:
            classes = [display(name) + _chance(p) for name, p in prediction.classes]
            if prediction.labels is not None and len(prediction.labels) > 1:
                classes.append(f"one of {{{', '.join(map(display, prediction.labels))}}}")
            if prediction.decision == "ask a person":
                classes.append("ask a person")
            unlike = " (unlike the training images)" if prediction.unlike_training else ""
            unlike = " (a training image)" if prediction.in_training else unlike
            path = display(prediction.path.removeprefix(here))
            if output is None or prediction.reason:
                say(f"{path}: {', '.join(classes) or f'not read, {prediction.reason}'}{unlike}")
        if len(predictions) > 1:
            counts = Counter(prediction.classes[0][0] for prediction in predictions if prediction.classes)
            of_classes = [f"{display(name)} {count:,}" for name, count in counts.most_common()]
            unread = len(predictions) - counts.total()
            say(f"{len(predictions):,} images: {', '.join(of_classes + [f'not read {unread:,}'] * bool(unread))}.")
        if output is not None:
            say(f"Wrote {display(str(output))}")
    print_notes([*predictions.notes, *kept], err=True)
    if kept or any(prediction.reason for prediction in predictions):
        click.get_current_context().exit(1)


def _as_cell(value: str | tuple[str, ...] | None, shown: Callable[[str], str]) -> str:
    return shown(" | ".join(value) if isinstance(value, tuple) else value or "")


@click.command(cls=Command)
@click.argument("model", type=PATH)
@click.argument("image", type=PATH)
@option("-o", "--output", type=PATH, required=True, help="Write this .png, .svg or .pdf file.")
@option("--class", "class_name", metavar="NAME", help="Class to explain. [default: the predicted one]")
@WEIGHTS
@ENGINE
@_TRUST
@AS_JSON
def explain(model: Path, image: Path, output: Path, as_json: bool, **options: Any) -> None:
    """Draw which regions of IMAGE speak for a class.

    For softmax, logreg and linear-svm heads, the values of the regions and the bias of the head add up to the score of
    the class. For svm heads, the map is Grad-CAM.

    For example:

        # explain the predicted class
        embedonce explain softmax.keras new/a.jpg -o a.png
        # explain another class
        embedonce explain softmax.keras new/a.jpg --class birch -o birch.png
    """
    from ..cache import make_folder, refuse_input_as_output
    from ..evaluate.models import explain as explain_image
    from ..evaluate.models import require_picture

    require_picture(output)  # before the work, not after it
    refuse_input_as_output(output, model, image, options["weights"])
    make_folder(output.parent, "the picture")
    with progress(not as_json).working("preparing the model and explaining …", "done"):
        explanation = explain_image(model, image, **options)
        explanation.save(output)
    if as_json:
        print_json({"output": str(output)} | explanation.to_dict())
    else:
        print_explanation(explanation)
        say(f"Wrote {display(str(output))}")


@click.command(cls=Command, short_help="Write MODEL as one file, from image to class.")
@click.argument("model", type=PATH)
@option("-o", "--output", "path", type=PATH, required=True, help="Write this .keras or .tflite file.")
@option("--cache", type=PATH, metavar="CACHE", help="Check on the images of this cache.")
@option("--images", type=PATH, multiple=True, metavar="PATH", help="Check on this file, folder or archive; repeatable.")
@option("--check", type=POSITIVE, default=100, help="Check on this many images.")
@WEIGHTS
@_TRUST
@AS_JSON
def export(model: Path, path: Path, images: tuple[Path, ...], as_json: bool, **options: Any) -> None:
    """Write MODEL and its backbone as one file that takes an image and gives class probabilities.

    The file needs no embedonce. It is written only if it agrees with MODEL on real images: the same class, and
    probabilities within 0.001. By default these are images of the cache that MODEL was trained on. Heads: softmax,
    logreg, linear-svm and svm.

    For example:

        # write a model for Keras
        embedonce export svm.npz -o svm.keras
        # write a model for phones and small computers
        embedonce export softmax.keras -o softmax.tflite
    """
    from ..evaluate.models import export as export_model

    with progress(not as_json).working("exporting and checking the model …", "exported"):
        exported = export_model(model, path, images=images or None, **options)
    if as_json:
        print_json(exported.to_dict())
        return
    say(f"Wrote {display(str(exported.path))}")
    agreed = f"It agrees with the head on {exported.checked} of {exported.checked} images"
    say(f"{agreed}; probabilities differ by at most {exported.largest_difference:.1g}.")
    print_notes(exported.notes)
    say_next("predict", exported.path, "IMAGES")


@click.command(cls=Command, short_help="Train the last layers of MODEL's backbone.")
@click.argument("images", type=PATH)
@option("--from", "model", type=PATH, required=True, metavar="MODEL", help="Image model (.keras) to start from.")
@option("--unfreeze", type=int, required=True, metavar="N", help="Train the last N layers of the backbone.")
@option("-o", "--output", "path", type=PATH, required=True, help="Write this .keras file.")
@option("--cache", type=PATH, metavar="CACHE", help="Cache of MODEL, if it has moved.")
@GROUPS
@option("--augment", type=VIEWS, default="flips", help="Random augmentation of training images.")
@option("--learning-rate", type=float, default=1e-5, help="Learning rate of Adam.")
@option("--epochs", type=POSITIVE, default=10, help="Largest number of epochs.")
@option("--patience", type=POSITIVE, default=2, help="Stop after this many epochs without improvement.")
@option("--batch-size", type=POSITIVE, default=32, help="Images per step.")
@option("--seed", type=SEED, default=0, help="Random seed of the training.")
@option("--curves", type=PATH, metavar="FILE", help="Write the curves here. [default: OUTPUT.history.png]")
@AS_JSON
def finetune(images: Path, model: Path, path: Path, as_json: bool, **options: Any) -> None:
    """Train the last layers of MODEL's backbone, and its head, on those of IMAGES that MODEL was trained on.

    MODEL is a file of embedonce export or train, with a softmax, logreg or linear-svm head. Batch normalization stays
    frozen. A fifth of the images is for validation; near-duplicates, or the groups of --groups, stay on one side. The
    epoch with the lowest validation loss is kept; the start counts as an epoch. To compare the result with frozen
    heads: embedonce compare CACHE --with FILE.keras.

    For example:

        # train the last twenty layers of an exported model
        embedonce finetune photos --from softmax.keras --unfreeze 20 -o tuned.keras
    """
    from ..evaluate.finetuning import finetune as finetune_model

    done = finetune_model(images, model, path, progress=progress(not as_json), **options)
    if as_json:
        print_json(done.to_dict())
        return
    training = done.training
    trained = f"{len(done.layers)} layers of the backbone, {display(done.layers[0])} to {display(done.layers[-1])}"
    say(f"Trained {trained}, and the head: {done.parameters:,} parameters; batch normalization stayed frozen.")
    last = int(training.history["epoch"][-1])
    say(
        f"{counted(last, 'epoch(s)')} of {counted(done.images, 'image(s)')} in {training.seconds:.1f} s, validated on "
        f"{done.validation_images:,}; kept epoch {training.best}:"
    )
    for key, title in (("val_loss", "validation loss"), ("val_accuracy", "validation accuracy")):
        values = training.history[key]
        say(f"  {title} {values[training.best]:.4f}, {values[0]:.4f} at the start")
    say(f"Wrote {display(str(done.path))}")
    if done.curves:
        say(f"Curves of accuracy and loss: {display(str(done.curves))}")
    print_notes(done.notes)
    say_next("compare", "CACHE", "--with", done.path, "-o", "DIR")


def _chance(probability: float | None) -> str:
    """Return a probability in percent; rounding never makes it certain."""
    if probability is None:
        return ""
    return f" {100 * (probability if probability == 1 else min(probability, 0.999)):.1f} %"


COMMANDS = (evaluate, predict, explain, export, finetune)
