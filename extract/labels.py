"""Labels and metadata of images: from class folders, a table, or the names of files."""

from __future__ import annotations

import os
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from ..cache import counted, display, find_path, format_examples, match_names, printable, read_rows, text_of
from ..errors import LabelsError, ParameterError, check_choice, describe, first_line, import_optional
from .options import LAYOUTS
from .scan import Scan

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from ..cache import Metadata, Table

LabelsLike: TypeAlias = "str | os.PathLike[str] | Mapping[str, Any] | Any"
"""A CSV, TSV or Parquet file, a data frame of pandas or polars, or a mapping from path to label."""

_PATH_COLUMNS = ("path", "file", "filename", "file_name", "filepath", "image", "image_id", "image_path", "img", "id")
_LABEL_COLUMNS = ("label", "class", "class_name", "target", "category")
_SUSPECTS = ("suggested", "p_label", "p_suggested", "reason", "group")
"""Columns of ``suspects.csv`` that are no metadata."""
_NO_LABEL = ("", "nan", "<na>", "#n/a")
"""Texts of a missing label; None can be the name of a class."""
PARTS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation"), "val"),
    **dict.fromkeys(("test", "testing"), "test"),
}
"""Part of a split that a folder, or a value in a table, names, in lower case."""
_PART_NAMES = tuple(dict.fromkeys(PARTS.values()))
_MOST_CELLS = 100_000_000


@dataclass
class Labels:
    """Class names and metadata of images by path; an image that is not among `names` has no label."""

    names: dict[bytes, bytes] = field(default_factory=dict)
    columns: dict[str, dict[bytes, str]] = field(default_factory=dict)  # of metadata
    source: dict[str, Any] = field(default_factory=dict)  # for the provenance; empty for class folders
    notes: list[str] = field(default_factory=list)

    @property
    def class_names(self) -> list[bytes]:
        """Sorted names of the classes."""
        return sorted(set(self.names.values()))

    @property
    def counts(self) -> dict[str, int]:
        """Number of images of every class."""
        return {os.fsdecode(name): count for name, count in sorted(Counter(self.names.values()).items())}

    def codes(self, paths: Sequence[bytes], class_names: Sequence[bytes]) -> npt.NDArray[np.int32]:
        """Return the labels of images as indices into class names, -1 without a label."""
        import numpy as np

        index: dict[bytes | None, int] = {name: number for number, name in enumerate(class_names)}
        return np.array([index.get(self.names.get(path), -1) for path in paths], np.int32)

    def metadata(self, paths: Sequence[bytes]) -> Metadata:
        """Return the metadata of images."""
        from ..cache import Metadata

        return Metadata.of_columns(
            {name: [column.get(path, "") for path in paths] for name, column in self.columns.items()}
        )

    def are_those_of(self, table: Table) -> bool:
        """Return whether a stored table has these labels and metadata."""
        if not self.source and not table.provenance.get("labels"):
            return True  # both are those of the class folders
        paths = table.files.paths
        stored = [*table.class_names, None]  # -1 is the last
        codes = table.labels.tolist()
        if any(stored[code] != self.names.get(path) for path, code in zip(paths, codes, strict=True)):
            return False
        columns, now = table.metadata.columns, self.metadata(paths).columns
        return columns.keys() == now.keys() and all((columns[name] == now[name]).all() for name in now)

    def replaced(self, paths: Iterable[bytes], earlier: Labels) -> Labels:
        """Return these labels, with those of other labels for some paths."""
        paths = list(paths)
        names = {path: name for path, name in self.names.items() if path not in earlier.names}
        columns = {name: dict(column) for name, column in self.columns.items()}
        for name, column in earlier.columns.items():
            columns.setdefault(name, {}).update({path: column[path] for path in paths if path in column})
        names |= {path: earlier.names[path] for path in paths if path in earlier.names}
        return Labels(names, columns, self.source, self.notes)


def folder_labels(scan: Scan, layout: str = "auto") -> Labels:
    """Return the labels of class folders: the first part of each path, or the second in the folders of a split.

    Images outside them are left out of the scan.
    """
    inside = [image for image in scan.images if b"/" in image.path]
    folders = {image.path.partition(b"/")[0] for image in inside}
    if len(folders) < 2 and len(inside) < len(scan.images):
        count = len(scan.images)
        return Labels(
            source={"source": "none"},
            notes=[
                f"{counted(count, 'image(s) (is|are) not in class folders and (has|have)')} no label. Give labels with "
                "--labels FILE, or later with: embedonce label CACHE --labels FILE"
            ],
        )
    labels = _split_folders([image.path for image in inside])
    if labels is None or layout == "classes":
        names = {image.path: image.path.partition(b"/")[0] for image in inside}
        if labels is not None:
            labels = Labels(names, source={"source": "folders", "layout": "classes"})
        else:
            labels = Labels(names)
            if {os.fsdecode(name).lower() for name in labels.class_names} <= PARTS.keys():
                labels.notes.append(
                    f"the folders {_listed(labels.class_names)} became the classes. If "
                    "they are the parts of a split, each must have the class folders of train"
                )
    if len(labels.class_names) == 1:
        labels.notes.append(
            f"all images are of one class ({display(labels.class_names[0])}), and heads need two. Put the "
            "images into one folder per class, or give labels with --labels FILE"
        )
    scan.outside = len(scan.images) - len(inside)
    scan.images = inside
    scan.class_names = labels.class_names
    return labels


def _split_folders(paths: Sequence[bytes]) -> Labels | None:
    """Return the labels in folders of a split, such as ``train/cat`` and ``test/cat``, which agree in their classes."""
    parts = {top: PARTS.get(os.fsdecode(top).lower()) for top in {path.partition(b"/")[0] for path in paths}}
    found = set(parts.values())
    if None in found or "train" not in found or len(found) < 2 or len(found) < len(parts):
        return None
    names: dict[bytes, bytes] = {}
    column: dict[bytes, str] = {}
    classes: dict[str, set[bytes]] = {part: set() for part in _PART_NAMES}
    for path in paths:
        top, _, rest = path.partition(b"/")
        part = column[path] = str(parts[top])
        if b"/" in rest:
            names[path] = rest.partition(b"/")[0]
            classes[part].add(names[path])
    if len(classes["train"]) < 2 or any(not of_part <= classes["train"] for of_part in classes.values()):
        return None
    sizes = Counter(column.values())
    shown = ", ".join(f"{part} {sizes[part]:,}" for part in _PART_NAMES if part in sizes)
    note = (
        f"the folders are a given split ({shown} images) of {len(classes['train']):,} classes "
        f"({_listed(sorted(classes['train']))}). compare and train use it. If they are "
        "classes, use --layout classes"
    )
    source = {"source": "split folders", "given_split": True}
    return Labels(names, {"split": column}, source, [note])


def pattern_labels(pattern: str, paths: Sequence[bytes]) -> Labels:
    """Return the labels that a regular expression finds in file names, or in paths if it has a slash."""
    try:
        expression = re.compile(pattern)
    except (re.error, TypeError, RecursionError, OverflowError) as error:
        raise ParameterError(
            f"parameter label_pattern must be a regular expression, got {describe(pattern)}: {first_line(error)}"
        ) from error
    if expression.groupindex.keys() != {"label"}:
        raise ParameterError(
            f"parameter label_pattern must have one named group, (?P<label>...), got {describe(pattern)}. Example: "
            r"'(?P<label>[a-z]+)_\d+' takes cat from cat_12.jpg"
        )
    names = {}
    for path in paths:
        match = expression.search(os.fsdecode(path if "/" in pattern else path.rpartition(b"/")[2]))
        if match and match["label"]:
            names[path] = os.fsencode(match["label"])
    missing = [os.fsdecode(path) for path in paths if path not in names]
    if len(missing) == len(paths):
        raise LabelsError(
            f"parameter label_pattern {pattern!r} must match the names of images, got none of {len(paths):,}: "
            f"{format_examples(missing)}"
        )
    return Labels(names, {}, {"source": "pattern", "pattern": pattern}, _notes_on_missing(missing, len(paths), pattern))


def table_labels(
    labels: LabelsLike, paths: Sequence[bytes], path_column: str | None = None, label_column: str | None = None
) -> Labels:
    """Return the labels and metadata of images in a table, matched by path, file name, or name without suffix."""
    what, header, rows = _read(labels, [column for column in (path_column, label_column) if column])
    known = {os.fsdecode(path): path for path in paths}
    path_name = path_column or _path_column(what, header, rows, known)
    label_name = label_column or _label_column(what, header, path_name)
    for parameter, column in (("path_column", path_name), ("label_column", label_name)):
        if column not in header:
            raise LabelsError(
                f"parameter {parameter} must be a column of {what}, got {column!r}. Its columns are {_listed(header)}"
            )
    matched, unmatched = _match(what, rows, path_name, known)
    if not any(row[label_name].strip().lower() not in _NO_LABEL for _, row in rows):
        raise LabelsError(f"the column {display(label_name)} of {what} must hold labels, but all its fields are empty")
    ignored = {path_name, label_name} | (set(_SUSPECTS) if set(_SUSPECTS[:3]) <= set(header) else set())
    kept = [name for name in header if name not in ignored]
    names: dict[bytes, bytes] = {}
    columns: dict[str, dict[bytes, str]] = {name: {} for name in kept}
    for path, row in matched.items():
        text = row[label_name].strip()
        if text.lower() not in _NO_LABEL:
            names[path] = os.fsencode(text)
        for name in kept:
            columns[name][path] = row[name]
    found = f"{len(names):,} of {len(paths):,} images have the labels of {what}"
    notes = [
        f"{found}: paths from the column {display(path_name)}, labels from {display(label_name)}"
        + (f", metadata from {_listed(kept)}" if kept else "")
    ]
    if unmatched:
        notes.append(
            f"{len(unmatched):,} of {len(rows):,} rows of {what} name no image and are left out: "
            f"{format_examples(unmatched)}"
        )
    missing = [os.fsdecode(path) for path in paths if path not in names]
    source = {"source": "table", "table": what, "path_column": path_name, "label_column": label_name}
    return Labels(names, columns, source, notes + _notes_on_missing(missing, len(paths), what))


@dataclass(frozen=True)
class LabelOptions:
    """The parameters of `extract_features` and `label` about labels."""

    labels: LabelsLike | None = None
    path_column: str | None = None
    label_column: str | None = None
    label_pattern: str | None = None
    layout: str = "auto"

    def check(self, owner: str) -> None:
        """Raise ParameterError for parameters that exclude each other."""
        for name, value in (("path_column", self.path_column), ("label_column", self.label_column)):
            if value is not None and (self.labels is None or not isinstance(value, str)):
                raise ParameterError(
                    f"parameter {name} of {owner} must be the name of a column of the parameter labels, got "
                    f"{describe(value)}{' without labels' if self.labels is None else ''}"
                )
        check_choice("layout", owner, self.layout, LAYOUTS)
        if self.layout != "auto" and self.given:
            raise ParameterError(
                f"parameter layout of {owner} is for labels by folders, got {self.layout!r} with labels of a table or "
                "pattern. Leave it out"
            )
        if self.labels is not None and self.label_pattern is not None:
            raise ParameterError(
                f"parameters labels and label_pattern of {owner} exclude each other, got both. Give one of them"
            )

    @property
    def given(self) -> bool:
        """Whether labels are given by a table or a pattern."""
        return self.labels is not None or self.label_pattern is not None

    def read(self, paths: Sequence[bytes]) -> Labels:
        """Return the labels of images by the table or the pattern."""
        if self.label_pattern is not None:
            return pattern_labels(self.label_pattern, paths)
        return table_labels(self.labels, paths, self.path_column, self.label_column)

    def of_scan(self, scan: Scan, about: Mapping[str, Any], stored: Sequence[Table]) -> Labels:
        """Return the labels of the images of a folder; ``about`` and ``stored`` are of the cache before the run."""
        paths = [image.path for image in scan.images]
        if self.given:
            return self.read(paths)
        source = about.get("source")
        if source == "pattern":
            return pattern_labels(str(about.get("pattern")), paths)
        layout = "classes" if about.get("layout") == "classes" else self.layout
        if source not in ("table", "edited"):
            return folder_labels(scan, layout)
        labels = Labels() if source == "table" else folder_labels(scan, layout)
        known = {path for table in stored for path in table.files.paths}
        # metadata of images without a label are kept too
        labels = labels.replaced([path for path in paths if path in known], stored_labels(stored))
        labels.source = dict(about)
        new = [os.fsdecode(image.path) for image in scan.images if image.path not in known]
        note = f"{len(paths) - len(new):,} images keep the labels of {printable(str(about.get('table')))}"
        if new and source == "table":
            note += f", {len(new):,} new images have no label: {format_examples(new)}. Give labels with --labels FILE"
        elif new:
            note += f", {len(new):,} new images have those of their folders"
        return replace(labels, notes=[note])


def stored_labels(tables: Iterable[Table]) -> Labels:
    """Return the labels and metadata of stored images."""
    labels = Labels()
    for table in tables:
        labels.names |= {
            path: table.class_names[code]
            for path, code in zip(table.files.paths, table.labels.tolist(), strict=True)
            if code >= 0
        }
        for name, texts in table.metadata.columns.items():
            labels.columns.setdefault(name, {}).update(zip(table.files.paths, texts.tolist(), strict=True))
    return labels


def _notes_on_missing(missing: Sequence[str], images: int, source: str) -> list[str]:
    if not missing:
        return []
    return [f"{len(missing):,} of {images:,} images have no label in {printable(source)}: {format_examples(missing)}"]


def _listed(names: Sequence[str | bytes]) -> str:
    return ", ".join(display(name) for name in names[:12]) + ", …" * (len(names) > 12)


Rows: TypeAlias = "list[tuple[int, dict[str, str]]]"


def _read(labels: LabelsLike, wanted: Sequence[str]) -> tuple[str, list[str], Rows]:
    """Return a name of the table for messages, its columns, and its rows with their numbers; all values are text."""
    if isinstance(labels, str | os.PathLike):
        path = Path(labels)
        what = display(str(path))
        if path.suffix.lower() in (".parquet", ".pq"):
            columns = _read_parquet(path, what)
        else:
            header, rows = read_rows(path, "table of labels", wanted, LabelsError)
            _require_columns(what, header)
            return what, header, rows
    elif isinstance(labels, Mapping):
        what = "the mapping of labels"
        columns = {"path": list(labels), "label": list(labels.values())}
    elif hasattr(labels, "columns") and hasattr(labels, "__getitem__"):  # a data frame
        what = "the data frame of labels"
        _require_columns(what, [*map(str, labels.columns), "index"])
        columns = {str(name): labels[name].to_list() for name in labels.columns}
        index = getattr(labels, "index", None)
        if index is not None and (index.name is not None or index.dtype.kind == "O"):  # of pandas, with paths
            columns = {str(index.name or "path"): index.to_list(), **columns}
    else:
        raise ParameterError(
            "parameter labels must be the path of a table, a data frame or a mapping from path to label, got "
            f"{describe(labels)}"
        )
    header = list(columns)
    _require_columns(what, header)
    cells = ([text_of(value) for value in column] for column in columns.values())
    return (
        what,
        header,
        [(number, dict(zip(header, row, strict=True))) for number, row in enumerate(zip(*cells, strict=True), 1)],
    )


def _read_parquet(path: Path, what: str) -> dict[str, list[Any]]:
    parquet = import_optional("pyarrow.parquet", "a Parquet file")
    try:
        with parquet.ParquetFile(path) as file:
            cells = file.metadata.num_rows * file.metadata.num_columns
            if cells > _MOST_CELLS:
                raise LabelsError(f"{what} must have at most {_MOST_CELLS:,} cells, got {cells:,}. Select columns")
            columns: dict[str, list[Any]] = file.read().to_pydict()
            return columns
    except LabelsError:
        raise
    except Exception as error:  # pyarrow's are of several types
        raise LabelsError(f"cannot read the table of labels {what}: {first_line(error)}") from error


def _require_columns(what: str, header: list[str]) -> None:
    if len(header) < 2:
        raise LabelsError(
            f"{what} must be a table with a column of paths and one of labels, got {_listed(header) or 'no columns'}"
        )
    twice = [name for name, count in Counter(header).items() if count > 1]
    if twice:
        raise LabelsError(f"{what} must name every column once, got {display(twice[0])!r} twice")


def _path_column(what: str, header: list[str], rows: Rows, known: Mapping[str, bytes]) -> str:
    """Return the column of a usual name, or else of any name, whose values name most images."""
    usual = [name for name in header if name.strip().lower() in _PATH_COLUMNS]
    if len(usual) == 1:
        return usual[0]
    counts = {}
    for name in usual or header:
        copies = [(line, dict(row)) for line, row in rows]
        match_names(copies, known.keys(), name)
        counts[name] = sum(row[name] in known for _, row in copies)
    best = [name for name, count in counts.items() if count and count == max(counts.values())]
    if len(best) != 1:
        raise LabelsError(
            f"{what} must have one column with the paths of images, got {_listed(best or header)}. Name it with "
            "--path-column"
        )
    return best[0]


def _label_column(what: str, header: list[str], path_column: str) -> str:
    others = [name for name in header if name != path_column]
    usual = [name for name in others if name.strip().lower() in _LABEL_COLUMNS]
    if len(others) == 1 or len(usual) == 1:
        return usual[0] if usual else others[0]
    raise LabelsError(
        f"{what} must have one column of labels ({', '.join(_LABEL_COLUMNS)}), got {_listed(usual or header)}. Name it "
        "with --label-column"
    )


def _match(
    what: str, rows: Rows, column: str, known: Mapping[str, bytes]
) -> tuple[dict[bytes, dict[str, str]], list[str]]:
    """Return the row of every image, and the names in rows without an image."""
    for _, row in rows:
        row[column] = find_path(row[column], known)
    ambiguous = match_names(rows, known.keys(), column)
    if ambiguous:
        examples = [f"{display(name)} ({format_examples(images)})" for name, images in list(ambiguous.items())[:3]]
        raise LabelsError(
            f"{what} does not tell the image of {counted(len(ambiguous), 'name(s)')}, since several images have it: "
            f"{', '.join(examples)}. Write their paths relative to the image folder into the table"
        )
    matched: dict[bytes, dict[str, str]] = {}
    unmatched: list[str] = []
    differing: dict[str, list[int]] = defaultdict(list)
    for line, row in rows:
        path = known.get(row[column])
        if path is None:
            unmatched.append(row[column])
        elif matched.setdefault(path, row) != row:
            differing[row[column]].append(line)
    if differing:
        name, lines = next(iter(differing.items()))
        raise LabelsError(
            f"{what} must have one row for each image, got rows that differ for {counted(len(differing), 'image(s)')}, "
            f"such as row {lines[0]} for {display(name)}"
        )
    if not matched:
        raise LabelsError(
            f"{what} must name images in the column {display(column)}, but none of its {len(rows):,} rows does: "
            f"{format_examples(unmatched)}. The images are {format_examples(sorted(known))}"
        )
    return matched, unmatched
