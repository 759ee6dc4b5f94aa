"""One table of many saved comparisons, which says what can be compared."""

from __future__ import annotations

import json
import os
import string
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

from ...cache import as_csv, counted, display, write_atomically
from ...errors import ParameterError, check_choice, check_paths, describe
from ..metrics import METRICS
from ..shared import (
    Record,
    Records,
    TextTable,
    as_json,
    data_frame,
    format_interval,
    format_number,
    how_it_was_made,
    html_table,
)
from .page_template import page_template
from .saved_results import SavedResults, load_results

_SUFFIXES = (".csv", ".json", ".html")
_SHOWN = 8  # values of a setting that a note lists


@dataclass(frozen=True)
class LeaderboardRow(Record):
    """Score of one head of one saved comparison; scores of the same ``tested`` letter are of the same test images."""

    run: str
    tested: str
    head: str
    metric: str
    score: float | None
    low: float | None
    high: float | None
    test_images: int
    fit_seconds: float | None
    settings: dict[str, Any]
    folder: Path

    def to_dict(self) -> dict[str, Any]:
        """Return the values by name, settings that differ between the rows among them."""
        about = super().to_dict() | {"folder": str(self.folder)}
        return {name: value for name, value in about.items() if name != "settings"} | self.settings


@dataclass(frozen=True, repr=False)
class Leaderboard:
    """Scores of the heads of many saved comparisons.

    Attributes
    ----------
    rows : Records of LeaderboardRow
        The best first, those of the same test images together.
    notes : list of str
        What was tested, and what differs in data, split, features and versions.

    See Also
    --------
    embedonce.leaderboard : Returns it.
    """

    rows: Records[LeaderboardRow]
    notes: list[str]

    def table(self) -> TextTable:
        """Return the scores as text."""
        several = len({row.tested for row in self.rows}) > 1
        metric = self.rows[0].metric if self.rows else "score"
        metric = METRICS[metric].column if metric in METRICS else metric
        lines = [
            [
                display(row.run),
                *([row.tested] if several else []),
                display(row.head),
                format_number(row.score),
                format_interval(row.low, row.high),
            ]
            for row in self.rows
        ]
        return TextTable(["run", *(["tested"] if several else []), "head", metric, "95 % interval"], lines)

    def to_dict(self) -> dict[str, Any]:
        """Return rows and notes as JSON-serialisable values."""
        return {"rows": self.rows.to_dict(), "notes": self.notes}

    def to_frame(self) -> Any:
        """Return the rows as a pandas DataFrame, with the settings that differ."""
        return data_frame(self.rows.to_dict())

    def save(self, path: Path | str) -> Path:
        """Write the table as ``.csv``, ``.json`` or ``.html``, whose runs are links to their reports.

        Raises
        ------
        ParameterError
            When the path has another suffix.
        OutputError
            When the file cannot be written.
        """
        path = Path(path)
        if path.suffix.lower() not in _SUFFIXES:
            raise ParameterError(
                f"parameter path of Leaderboard.save must end in {', '.join(_SUFFIXES)}, got {display(str(path))}"
            )
        write_atomically(path, self._content(path))
        return path

    def _content(self, path: Path) -> bytes:
        if path.suffix.lower() == ".json":
            return as_json(self.to_dict())
        rows = self.rows.to_dict()
        if path.suffix.lower() == ".csv":
            titles = list(dict.fromkeys(name for row in rows for name in row))
            return as_csv(titles, ([_as_cell(row.get(title)) for title in titles] for row in rows))
        links = [_link(row.folder / "report.html", path.parent) for row in self.rows]
        text: str = page_template("leaderboard.html.j2").render(
            table=self.table(), links=links, notes=self.notes, results={"made": how_it_was_made()}, display=display
        )
        return text.encode("utf-8", "replace")

    def __str__(self) -> str:
        return "\n".join([str(self.table()), "", *self.notes])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return html_table(*self.table(), self.notes)


def leaderboard(
    runs: Iterable[Path | str] | Path | str,
    *,
    where: Mapping[str, Any] | Iterable[str] = (),
    metric: str | None = None,
) -> Leaderboard:
    """Put the scores of many saved comparisons into one table.

    Scores are comparable if they are of the same test images with the same labels. Where they are not, the rows have
    different letters, and notes say what differs.

    Parameters
    ----------
    runs : path-like or iterable of path-like
        Folders that `Comparison.save` or ``embedonce compare`` wrote, or folders of such folders.
    where : mapping, or iterable of str such as ``"head=svm"``, default=()
        Values of the rows to keep: of ``run``, ``head``, ``tested``, a setting such as ``seed`` or ``alpha``, or a
        parameter such as ``C``.
    metric : str, default=None
        Score that orders the rows, also one of the user; by default accuracy, or balanced accuracy if one of the runs
        is ranked by it.

    Returns
    -------
    Leaderboard

    Raises
    ------
    ParameterError
        When a folder holds no results, no run has `metric`, or `where` names something that no row has.

    See Also
    --------
    embedonce.compare : Compare heads.
    embedonce.diff : Compare two saved comparisons in detail.
    embedonce.load_results : Read one saved comparison.

    Examples
    --------
    >>> import embedonce as eo, numpy as np, tempfile
    >>> X = np.random.default_rng(0).normal(size=(40, 1280)).astype(np.float32)
    >>> cache = eo.FeatureCache.from_arrays(X, ["cat", "dog"] * 20)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for seed in (0, 1):
    ...         written = eo.compare(cache, ["knn"], split="random", seed=seed).save(f"{folder}/{seed}", figures="none")
    ...     board = eo.leaderboard(folder)
    >>> [(row.run, row.tested) for row in board.rows]
    [('0', 'A'), ('1', 'B')]
    """
    wanted = _wanted(where)
    saved = _unique(run for path in check_paths("runs", "leaderboard", runs) for run in _runs_in(path))
    if not saved:
        raise ParameterError("parameter runs of leaderboard must have at least one folder of results, got none")
    signs = {name: sign for run in saved for name, sign in run.signs.items()}
    check_choice("metric", "leaderboard", metric, signs, optional=True)
    skewed = any(run.ranked_by == "balanced_accuracy" for run in saved)
    metric = metric or ("balanced_accuracy" if skewed else "accuracy")
    names = _names([run.folder for run in saved])
    letters = _letters([_tested(run) for run in saved])
    rows = []
    for run, name, letter in zip(saved, names, letters, strict=True):
        for score in run.scores(metric) if metric in run.signs else ():
            settings = run.settings_of(score.head)
            test = run.content["split"].get("test") or 0
            ends = (score.low, score.high)
            rows.append(
                LeaderboardRow(
                    name, letter, score.head, metric, score.score, *ends, test, score.fit_seconds, settings, run.folder
                )
            )
    _check_wanted(wanted, rows)
    rows = [row for row in rows if _fits(row, wanted)]
    order = {letter: number for number, letter in enumerate(sorted(set(letters), key=lambda one: (len(one), one)))}
    sign = signs[metric]
    rows.sort(key=lambda row: (order[row.tested], float("inf") if row.score is None else -sign * row.score))
    differing = _differing(rows)
    kept = [replace(row, settings={key: row.settings.get(key) for key in differing}) for row in rows]
    without = [name for run, name in zip(saved, names, strict=True) if metric not in run.signs]
    notes = [f"Without {display(metric)}, and not shown: {', '.join(map(display, without))}."] if without else []
    return Leaderboard(Records(kept), _notes(kept, differing) + notes)


def _runs_in(path: Path) -> list[SavedResults]:
    """Return the results in a folder, or in the folders in it."""
    if path.is_dir() and not (path / "results.json").exists():
        inside = sorted(entry.parent for entry in path.glob("*/results.json"))
        if inside:
            return [load_results(folder) for folder in inside]
    return [load_results(path)]


def _unique(runs: Iterable[SavedResults]) -> list[SavedResults]:
    return list({run.folder.resolve(): run for run in runs}.values())


def _names(folders: Sequence[Path]) -> list[str]:
    """Return the shortest ends of the paths that tell the folders apart."""
    parts = [folder.resolve().parts for folder in folders]
    for length in range(1, max(map(len, parts)) + 1):
        names = ["/".join(part[-length:]) for part in parts]
        if len(set(names)) == len(names):
            break
    return names


def _tested(run: SavedResults) -> str:
    """Return what tells test sets apart: the digest, or for results of an earlier version what is known of them."""
    digest = run.content["split"].get("test_digest")
    known = {key: value for key, value in run.settings.items() if not key.startswith(("features", "version"))}
    return str(digest) if digest else json.dumps(known, sort_keys=True)


def _letters(tested: Sequence[str]) -> list[str]:
    """Return a letter for each test set, A for the most frequent one."""
    sets = [one for one, _ in Counter(tested).most_common()]
    letters = [*string.ascii_uppercase, *(f"{a}{b}" for a in string.ascii_uppercase for b in string.ascii_uppercase)]
    named = {one: letters[number] if number < len(letters) else str(number) for number, one in enumerate(sets)}
    return [named[one] for one in tested]


def _wanted(where: Any) -> dict[str, str]:
    if isinstance(where, Mapping):
        return {str(name): str(value) for name, value in where.items()}
    texts = [where] if isinstance(where, str) else list(where)
    for text in texts:
        if not isinstance(text, str) or "=" not in text:
            raise ParameterError(
                f'parameter where of leaderboard must be texts such as "head=svm", got {describe(text)}'
            )
    return dict(text.split("=", 1) for text in texts)


def _values(row: LeaderboardRow, name: str) -> list[str]:
    """Return the values of a row that a name means: a field, or settings with this name or this end."""
    if name in ("run", "head", "tested"):
        return [str(getattr(row, name))]
    return [str(value) for key, value in row.settings.items() if name in (key, key.partition(": ")[2])]


def _check_wanted(wanted: Mapping[str, str], rows: Sequence[LeaderboardRow]) -> None:
    for name in wanted:
        if not any(_values(row, name) for row in rows):
            known = {key.partition(": ")[2] or key for row in rows for key in row.settings if key != "classes"}
            raise ParameterError(
                "parameter where of leaderboard must name run, head, tested, "
                f"{', '.join(map(display, sorted(known)))}, got {name!r}"
            )


def _fits(row: LeaderboardRow, wanted: Mapping[str, str]) -> bool:
    return all(value in _values(row, name) for name, value in wanted.items())


def _differing(rows: Sequence[LeaderboardRow]) -> list[str]:
    """Return the settings that differ between rows that have them."""
    values: dict[str, set[str]] = {}
    for row in rows:
        for key, value in row.settings.items():
            values.setdefault(key, set()).add(json.dumps(value, sort_keys=True, default=str))
    return [key for key, found in values.items() if len(found) > 1]


def _notes(rows: Sequence[LeaderboardRow], differing: Sequence[str]) -> list[str]:
    if not rows:
        return ["No row has these values."]
    sets = {row.tested: row for row in rows}
    if len(sets) == 1:
        notes = [f"All scores are of the same {counted(rows[0].test_images, 'test image(s)')}."]
    else:
        about = ", ".join(f"{letter} {row.test_images:,}" for letter, row in sets.items())
        notes = [f"Scores with different letters are not comparable: they are of different test images ({about})."]
    for key in differing:
        values = dict.fromkeys(_as_text(row.settings[key]) for row in rows if row.settings[key] is not None)
        if len(values) > 1:
            several = len(values) > _SHOWN or max(map(len, values)) > 60
            shown = f"{len(values)} different ones" if several else "; ".join(map(display, values))
            notes.append(f"{display(key)}: {shown}.")
    return notes


def _as_text(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {_as_text(one)}" for name, one in value.items())
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else _as_cell(value)


def _as_cell(value: Any) -> str:
    return "" if value is None else value if isinstance(value, str) else json.dumps(value, default=str)


def _link(path: Path, folder: Path) -> str:
    """Return the address of a file, relative to a folder; empty if there is no such file."""
    if not path.is_file():
        return ""
    try:
        return quote(os.path.relpath(path, folder).replace(os.sep, "/"))
    except ValueError:  # on another drive
        return path.resolve().as_uri()
