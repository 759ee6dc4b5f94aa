"""Columns of text about the rows of a cache, such as patients."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

MISSING = -1
_INTEGER = re.compile(r"-?(0|[1-9][0-9]{0,14})")
_NUMBER = re.compile(r"-?(0|[1-9][0-9]{0,14})(\.[0-9]+)?([eE][+-]?[0-9]+)?")


@dataclass
class Metadata:
    """Columns of text: cell (row, column) is ``values[codes[row, column]]``, or missing where the code is -1."""

    names: list[str] = field(default_factory=list)
    values: list[str] = field(default_factory=list)  # sorted, each once
    codes: npt.NDArray[np.int32] = field(default_factory=lambda: np.zeros((0, 0), np.int32))  # (n, columns)

    @classmethod
    def of_columns(cls, columns: Mapping[str, Sequence[str]]) -> Metadata:
        """Return columns of equal length; an empty text is a missing value."""
        values = sorted({text for column in columns.values() for text in column} - {""})
        code = {text: number for number, text in enumerate(values)} | {"": MISSING}
        codes = [[code[text] for text in column] for column in columns.values()]
        return cls(list(columns), values, np.array(codes, np.int32).T) if columns else cls()

    @property
    def columns(self) -> dict[str, npt.NDArray[np.object_]]:
        """The texts of every column, shape (n,); an empty one is a missing value."""
        texts = np.array([*self.values, ""], object)  # -1 is the last
        return {name: texts[self.codes[:, place]] for place, name in enumerate(self.names)}

    def take(self, rows: npt.NDArray[np.intp]) -> Metadata:
        """Return some rows, in their order."""
        return Metadata(self.names, self.values, self.codes[rows]) if self.names else self

    @classmethod
    def join(cls, parts: Sequence[Metadata], lengths: Sequence[int]) -> Metadata:
        """Return the rows of all parts, of given lengths, with the columns of all."""
        if len(parts) == 1:
            return parts[0]
        names = list(dict.fromkeys(name for part in parts for name in part.names))
        empty = {length: np.full(length, "", object) for length in lengths}
        columns = [(part.columns, length) for part, length in zip(parts, lengths, strict=True)]
        return cls.of_columns(
            {
                name: np.concatenate([texts.get(name, empty[length]) for texts, length in columns]).tolist()
                for name in names
            }
        )


def text_of(value: Any) -> str:
    """Return a value as the text that is stored; None and NaN are missing, so that their text is empty."""
    # NaN and pandas.NaT do not equal themselves, and pandas.NA has no truth value
    return "" if value is None or type(value).__name__ == "NAType" or value != value else str(value)


def typed(texts: npt.NDArray[np.object_]) -> npt.NDArray[Any]:
    """Return texts as int64, or float64 with NaN for missing values, if all are such numbers; otherwise with None."""
    present = [text for text in texts.tolist() if text]
    if present and len(present) == len(texts) and all(map(_INTEGER.fullmatch, present)):
        return texts.astype(np.int64)
    if present and all(map(_NUMBER.fullmatch, present)):
        return np.array([float(text) if text else np.nan for text in texts.tolist()])
    return np.array([text or None for text in texts.tolist()], object)
