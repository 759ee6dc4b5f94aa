"""A file that says what to compare: heads with parameters, split and seed, in TOML."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ...cache import display, write_atomically
from ...errors import OutputError, ParameterError
from ..scoring import make_heads

OPTIONS: dict[str, tuple[type, ...]] = {
    "cache": (str,),
    "output": (str,),
    "split": (str,),
    "groups": (str,),
    "seed": (int,),
    "folds": (int,),
    "repeats": (int,),
    "class_weight": (str,),
    "calibrate": (str,),
    "tune": (int, float),
    "label_budget": (bool,),
    "image_models": (list,),
    "maps": (bool,),
    "jobs": (int,),
    "dask": (str,),
    "fail_under": (list,),
}
"""Keys of the file beside ``heads``, each an option of ``embedonce compare``, and what they hold."""

_NAMES = {str: "a text", int: "a number", list: "a list of texts", bool: "true or false"}

TEMPLATE = """# What to compare:  embedonce compare --config heads.toml
# An option on the command line goes before the same one here. Paths are relative to where the command runs.

cache = "photos.h5"
output = "runs/photos"

# split = "grouped"             # grouped, random, or a split file; by default grouped and random, and the gap between
# groups = "patients.csv"       # path,group: what must stay together; by default the copies that are found
seed = 0
# folds = 5                     # cross-validation instead of one split
# repeats = 3                   # of the folds, each time others: the way to several seeds; every score is kept
# class_weight = "balanced"     # every class counts the same in training
# calibrate = "temperature"     # or sigmoid: probabilities that can be believed
# tune = 60                     # seconds in all to look for good parameters of each head; those given here stay
# image_models = ["tuned.keras"] # image models to test beside the heads, as with --with
# label_budget = true           # how the accuracy grows with the number of training images
# maps = true                   # which places of wrongly classified images spoke for the class that a head saw
# jobs = 2                      # heads that are trained at the same time
# fail_under = ["accuracy=0.9"] # exit status 1 when the best head scores worse; or "svm.macro_f1=0.85" for one head

# One table per head: its name, and its parameters. "head" says which head it is when the name is one of your own.

[heads.softmax]
epochs = 5

[heads.logreg]
C = 1.0

[heads.svm]

[heads.sharp-svm]
head = "svm"
C = 10.0

# [heads.forest]
# head = "sklearn.ensemble:RandomForestClassifier"
# n_estimators = 300
# random_state = 0
"""


def read_config(path: Path | str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Read a comparison's file.

    Parameters
    ----------
    path : path-like

    Returns
    -------
    options : dict
        Of :data:`OPTIONS`, those that the file has.
    heads : dict of str to dict
        As :func:`embedonce.compare` takes them, in the file's order; empty when it has none.

    Raises
    ------
    ParameterError
        When the file cannot be read, is not TOML, or has a key or a value that is none of these.
    HeadParameterError
        When a head has no such parameter.
    """
    shown = display(str(path))
    content = _read(Path(path), shown)
    tables = content.pop("heads", {})
    for key, value in content.items():
        if key not in OPTIONS:
            raise ParameterError(f"the file {shown} must hold {', '.join(OPTIONS)} and heads, got {key!r}")
        kinds = OPTIONS[key]
        listed = kinds == (list,) and isinstance(value, list) and all(isinstance(entry, str) for entry in value)
        if (
            isinstance(value, bool) != (kinds == (bool,))
            or not isinstance(value, kinds)
            or (kinds == (list,) and not listed)
        ):
            raise ParameterError(f"key {key} of the file {shown} must be {_NAMES[kinds[0]]}, got {value!r}")
    if not isinstance(tables, Mapping) or not all(isinstance(table, Mapping) for table in tables.values()):
        raise ParameterError(f"key heads of the file {shown} must be tables, such as [heads.logreg], got {tables!r}")
    if tables:
        make_heads(tables)  # knows whether there are such heads and parameters
    return content, dict(tables)


def write_config(path: Path | str) -> None:
    """Write a commented file to begin with.

    Raises
    ------
    OutputError
        When a file stands there already, or it cannot be written.
    """
    path = Path(path)
    if path.exists():
        raise OutputError(f"{display(str(path))} is there already and stays as it is; give another path")
    write_atomically(path, TEMPLATE.encode())


def _read(path: Path, shown: str) -> dict[str, Any]:
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    try:
        content: dict[str, Any] = tomllib.loads(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ParameterError(f"cannot read the file {shown}: {error}") from error
    except tomllib.TOMLDecodeError as error:
        raise ParameterError(f"the file {shown} is no TOML: {error}") from error
    return content
