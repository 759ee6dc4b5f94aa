"""The command that usually follows a comparison."""

from __future__ import annotations

import inspect
import json
from typing import Any

from ...heads import HEADS, CalibratedHead
from ..models import ModelFile
from ..scoring import ComparisonData


def next_command(comparison: ComparisonData, **options: Any) -> list[str]:
    """Return the words after ``embedonce`` that train the best head; empty if it needs Python.

    ``options`` are split, groups, seed, test_fraction and views of the comparison.
    """
    result = comparison.table[0]
    cache, result_name = comparison.cache_of(result.name).source, comparison.head_name(result.name)
    head = result.head.head if isinstance(result.head, CalibratedHead) else result.head
    if isinstance(getattr(head, "file", None), ModelFile):
        return ["predict", str(head.file.path), "IMAGES"]
    name = result_name if ":" in result_name else getattr(head, "head_name", "")
    parameters = _parameters_to_give(head)
    if cache is None or parameters is None or not (":" in name or name in HEADS):
        return []
    if comparison.folds and options.get("split") not in ("random", "grouped"):
        options["split"] = None  # a file of folds; the others train on one split
    file = result_name.rpartition(":")[2]
    words = [str(cache), "--head", name]
    if len(result.tuning) > 1:  # each fold has its own parameters
        options["views"] = None
        words, file = ["tune", *words], f"{file}-tuned"
    else:
        words, file = ["train", *words], file + (".npz" if name in HEADS else ".skops")
        words += [word for key, value in parameters.items() for word in ("-p", f"{key}={value}")]
    words += [
        word
        for key, value in options.items()
        if value not in (None, 0)
        for word in (f"--{key.replace('_', '-')}", str(value))
    ]
    return [*words, "-o", file]


def _parameters_to_give(head: Any) -> dict[str, str] | None:
    """Return the parameters that are no defaults, as the commands take them; None if some cannot be given."""
    defaults = {name: one.default for name, one in inspect.signature(type(head)).parameters.items()}
    given = {name: value for name, value in head.get_params(deep=False).items() if value != defaults.get(name)}
    try:
        return {name: value if isinstance(value, str) else json.dumps(value) for name, value in given.items()}
    except (TypeError, ValueError):
        return None
