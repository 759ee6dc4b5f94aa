"""Images in a folder per predicted class."""

from __future__ import annotations

import filecmp
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from ...cache import counted, display, make_folder
from ...errors import OutputError, ParameterError
from .prediction import Prediction

_LISTED = 3


def names_of_images(predictions: Sequence[Prediction], given: Sequence[Path | str]) -> list[str]:
    """Return the path of each image in the folder or archive that was given, or its name, each of them once."""
    roots = sorted((os.path.abspath(path) for path in given), key=len, reverse=True)
    names: dict[str, str] = {}
    for prediction in predictions:
        path = os.path.abspath(prediction.path)
        root = next((root for root in roots if path.startswith(root + os.sep)), os.path.dirname(path))
        name = os.path.relpath(path, root)
        if name in names:
            raise ParameterError(
                f"images are named by their path in the folder that is given, and {display(names[name])} and "
                f"{display(path)} are both {display(name)}. Give one folder that has both"
            )
        names[name] = path
    return list(names)


def sort_images(predictions: Sequence[Prediction], names: Sequence[str], folder: Path, *, link: bool) -> list[str]:
    """Copy or link every image to ``folder/CLASS/NAME``; return notes on those where another file has the name.

    Nothing is overwritten; what is already there stays.
    """
    sorted_by_class = [
        (prediction.path, prediction.classes[0][0], name)
        for prediction, name in zip(predictions, names, strict=True)
        if prediction.classes
    ]
    for path, label, _ in sorted_by_class:
        if label in ("", ".", "..") or os.sep in label or "\0" in label:
            raise ParameterError(f"class {display(label)!r} cannot be the name of a folder. Use predict -o FILE.csv")
        if not os.path.isfile(path):
            raise ParameterError(
                f"{display(path)} is in an archive, and only files can be copied or linked. Unpack the archive first"
            )
    taken = []
    for path, label, name in sorted_by_class:
        target = folder / label / name
        make_folder(target.parent, "the images")
        try:
            if os.path.lexists(target):
                if not _same(path, target):
                    taken.append(display(str(target)))
            elif link:
                os.symlink(os.path.abspath(path), target)
            else:
                _copy(path, target)
        except OSError as error:
            raise OutputError(error.errno, f"cannot write {display(str(target))}: {error.strerror}") from error
    if not taken:
        return []
    shown = ", ".join(taken[:_LISTED]) + (f" and {len(taken) - _LISTED:,} more" if len(taken) > _LISTED else "")
    return [
        f"{counted(len(taken), 'image(s) (was|were)')} not sorted, because of other files with the same name: {shown}"
    ]


def _same(path: str, target: Path) -> bool:
    try:
        return os.path.samefile(path, target) or filecmp.cmp(path, target, shallow=False)
    except OSError:  # a link that leads nowhere
        return False


def _copy(path: str, target: Path) -> None:
    """Copy a file to a name that no file has; an interrupted copy leaves none."""
    try:
        with open(path, "rb") as source, open(target, "xb") as copied:
            shutil.copyfileobj(source, copied)
    except FileExistsError:  # of another process
        raise
    except BaseException:
        target.unlink(missing_ok=True)
        raise
