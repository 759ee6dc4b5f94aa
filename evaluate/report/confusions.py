"""Confusion matrices of the page; with many classes, the most confused pairs with an image of each class."""

from __future__ import annotations

from typing import Any

import numpy as np

from ...cache import display
from ..scoring import ComparisonData, HeadResult
from ..shared import MATRIX_CLASSES, confused_pairs, drawn_heads


def confusion_content(comparison: ComparisonData) -> dict[str, Any]:
    """Return confusion matrices of the heads, the best first, or the most confused pairs if there are many classes."""
    content: dict[str, Any] = {"matrices": [], "pairs": [], "drawn": len(drawn_heads(comparison.table))}
    if len(comparison.cache.class_names) <= MATRIX_CLASSES:
        content["matrices"] = [_matrix(comparison, result) for result in comparison.table]
    else:
        content["pairs"] = [_pairs(comparison, result) for result in drawn_heads(comparison.table)]
    return content


def pictured_rows(content: dict[str, Any]) -> list[int]:
    """Return the rows of the images in the table of the best head."""
    return [image["row"] for of_head in content["pairs"][:1] for pair in of_head["pairs"] for image in pair["images"]]


def _matrix(comparison: ComparisonData, result: HeadResult) -> dict[str, Any]:
    matrix = comparison.confusion(result.name)
    fractions = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    cells = [list(zip(*row, strict=True)) for row in zip(matrix.tolist(), fractions.tolist(), strict=True)]
    return {"head": display(result.name), "cells": cells}


def _pairs(comparison: ComparisonData, result: HeadResult) -> dict[str, Any]:
    cache, test, matrix = comparison.cache, comparison.split.test, comparison.confusion(result.name)
    head, names = display(result.name), [display(name) for name in cache.class_names]
    pairs = []
    for pair in confused_pairs(matrix):
        true, predicted = names[pair.true], names[pair.predicted]
        confused = test[(cache.labels[test] == pair.true) & (result.predicted == pair.predicted)]
        images = [
            _image(comparison, confused[0], true, f"{true}; {head} predicts {predicted}"),
            _image(comparison, np.flatnonzero(cache.labels == pair.predicted)[0], predicted, predicted),
        ]
        total = int(matrix[pair.true].sum())
        pairs.append({"images": images, "count": pair.images, "total": total, "fraction": pair.fraction})
    return {"head": head, "pairs": pairs}


def _image(comparison: ComparisonData, row: int, class_name: str, caption: str) -> dict[str, Any]:
    path = display(comparison.cache.paths[row])
    return {"row": int(row), "class": class_name, "path": path, "caption": caption}
