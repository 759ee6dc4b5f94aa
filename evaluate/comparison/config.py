"""Configuration file of a comparison: heads with their parameters and options, in TOML."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ...cache import display, kind_of_path, read_regular, write_atomically
from ...errors import HeadError, OutputError, ParameterError
from ..scoring import make_heads
from .grid import read_grid

OPTIONS: dict[str, tuple[type, ...]] = {
    "cache": (str, list),
    "output": (str,),
    "split": (str,),
    "groups": (str,),
    "seed": (int,),
    "test_fraction": (float,),
    "folds": (int,),
    "repeats": (int,),
    "class_weight": (str,),
    "calibrate": (str,),
    "views": (str,),
    "tune": (int, float),
    "learning_curve": (bool,),
    "image_models": (list,),
    "by": (list,),
    "metrics": (list,),
    "head_seeds": (int,),
    "shortcuts": (bool,),
    "external": (list,),
    "external_classes": (str,),
    "maps": (bool,),
    "figures": (str,),
    "mlflow": (str,),
    "jobs": (int,),
    "dask": (str,),
    "fail_under": (list,),
}
"""Keys of the file besides ``heads`` and ``grid``: options of ``embedonce compare``, and the types of their values."""

_NAMES = {str: "a text", int: "a number", float: "a number", list: "a list of texts", bool: "true or false"}

TEMPLATE = """# Configuration of:  embedonce compare --config heads.toml
# Options on the command line override these. Paths are relative to the working directory.

cache = "photos.h5"             # or several caches of the same images: ["small.h5", "large.h5", "small.h5+large.h5"]
output = "runs/photos"

# split = "grouped"             # grouped, random, or a split file; by default grouped and random, and the leakage gap
# groups = "patients.csv"       # path,group: images that belong together; by default near-duplicates are detected
seed = 0
# test_fraction = 0.3           # fraction of the images for testing; by default 0.2
# folds = 5                     # cross-validation instead of one split
# repeats = 3                   # cross-validations, each with other folds
# class_weight = "balanced"     # every class has the same weight in training
# calibrate = "temperature"     # or sigmoid: calibrated probabilities
# views = "train"               # train on augmented views, or average, or both; see extract --views
# tune = 60                     # time budget in seconds of the search for parameters of each head
# image_models = ["tuned.keras"] # image models to test with the heads, as --with
# by = ["@site"]                # columns of metadata: scores of each value
# metrics = ["sklearn.metrics:cohen_kappa_score"] # functions of true and predicted class names, or scorers
# head_seeds = 5                # random heads with so many seeds on the same split
# shortcuts = false             # no audit of what holds no object, such as the sizes of the files
# external = ["elsewhere.h5"]   # caches of images from elsewhere to score, or "@column": each value by the others
# external_classes = "names.csv" # external,class: their other class names
# learning_curve = true         # leading score against the number of training images
# maps = true                   # regions that supported the predicted class, for incorrectly classified images
# figures = "report"            # none, or those of the report alone; by default also PNG and SVG files
# mlflow = "sqlite:///mlflow.db" # also log to this MLflow tracking store
# jobs = 2                      # heads that are trained at the same time
# fail_under = ["accuracy>=0.9"] # exit status 1 if the best head scores worse; "svm.macro_f1>=0.85" is for one head

# One table per head: its name, and its parameters. For another name, "head" says which head it is.

[heads.logreg]
C = 1.0

[heads.svm]

[heads.softmax]
epochs = "auto"                 # the default; the reference has 5

[heads.soft-svm]
head = "svm"
C = 1.0                         # the default is 10

# [heads.forest]
# head = "sklearn.ensemble:RandomForestClassifier"
# n_estimators = 300
# random_state = 0

# Many comparisons: every value of one key with every value of the others, each in a folder of output.

# [grid]
# heads = ["svm", "logreg,svm"]  # heads of each comparison; by default all heads of this file
# svm.C = [0.1, 1, 10]           # values of a parameter, for comparisons that have the head
# seed = [0, 1, 2]               # instead of seed above
"""


def read_config(path: Path | str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the options and the heads of a configuration file, as `compare` takes them.

    A `Grid`, if there is one, is the option ``grid``.
    """
    content, lines = _read(Path(path))
    name = display(str(path))

    def where(start: str) -> str:
        """Return the file, and the line that begins so, if it is written as usual."""
        found = [number for number, line in enumerate(lines, 1) if line.replace(" ", "").startswith(start)]
        return f"line {found[0]} of the file {name}" if found else f"the file {name}"

    tables = content.pop("heads", {})
    grid = content.pop("grid", None)
    for key, value in content.items():
        if key not in OPTIONS:
            raise ParameterError(f"{where(f'{key}=')} must be one of {', '.join(OPTIONS)}, heads and grid, got {key!r}")
        types = OPTIONS[key]
        strings = not isinstance(value, list) or all(isinstance(entry, str) for entry in value)
        if not isinstance(value, types) or isinstance(value, bool) != (types == (bool,)) or not strings:
            raise ParameterError(f"key {key} in {where(f'{key}=')} must be {_kinds(types)}, got {value!r}")
    if not isinstance(tables, Mapping) or not all(isinstance(table, Mapping) for table in tables.values()):
        raise ParameterError(f"key heads of the file {name} must be tables, such as [heads.logreg], got {tables!r}")
    for head, table in tables.items():
        try:
            make_heads({head: table})
        except HeadError as error:  # an unknown head or parameter
            raise type(error)(f"[heads.{display(head)}] in {where(f'[heads.{head}]')}: {error}") from error
    if grid is not None:
        content["grid"] = read_grid(grid, where("[grid]"))
        if content["grid"].seeds and "seed" in content:
            raise ParameterError(f"the file {name} must have seed once, got it also in [grid]. Remove one of them")
    return content, dict(tables)


def _kinds(types: tuple[type, ...]) -> str:
    return " or ".join(dict.fromkeys(_NAMES[kind] for kind in types if kind in _NAMES))


def write_config(path: Path | str) -> None:
    """Write a commented configuration file; an existing file is an OutputError."""
    path = Path(path)
    if path.exists():
        raise OutputError(f"{display(str(path))} exists and is not replaced. Give another path")
    write_atomically(path, TEMPLATE.encode())


def _read(path: Path) -> tuple[dict[str, Any], list[str]]:
    kind = kind_of_path(path)
    if kind not in ("", "a configuration file"):
        raise ParameterError(
            f"parameter config of compare must be a TOML file, got {display(str(path))}, which is {kind}. Write one "
            "with embedonce init"
        )
    try:
        text = read_regular(path).decode("utf-8-sig")  # Windows editors write a byte order mark
        content: dict[str, Any] = tomllib.loads(text)
    except (OSError, UnicodeDecodeError) as error:
        raise ParameterError(f"cannot read the file {display(str(path))}: {error}") from error
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise ParameterError(f"the file {display(str(path))} is not TOML: {error}") from error
    return content, text.splitlines()
