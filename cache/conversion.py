"""A cache as a file of other programs: Parquet, CSV or NumPy."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import ParameterError, check_flag, check_path, import_optional
from .csv_files import as_csv
from .feature_cache import FeatureCache, open_cache
from .files import make_folder, output_errors, refuse_input_as_output, temporary_folder, write_atomically
from .format import canonical_json
from .names import display

_BLOCK_ROWS = 4096
_LARGEST_BLOCK = 1 << 20  # bytes that are read at once from a finished file


def convert(cache: FeatureCache | Path | str, output: Path | str, *, features: bool = True) -> Path:
    """Write a cache as a Parquet, CSV or NumPy file, for other programs.

    Parameters
    ----------
    cache : FeatureCache or path-like
    output : path-like
        The suffix decides the format. ``.csv`` and ``.parquet`` have the columns of `FeatureCache.to_frame`. ``.npz``
        has the arrays ``paths``, ``labels``, ``class_names``, ``features`` (float32), each column of metadata as
        ``metadata/NAME``, and ``fingerprint`` as JSON; ``numpy.load`` reads it without pickles.
    features : bool, default=True
        Write the features. Without them, a CSV file is a table of labels that `label` takes.

    Returns
    -------
    Path
        The output.

    Raises
    ------
    CacheError
        If the cache cannot be read.
    ParameterError
        If the suffix is another one.
    MissingPackageError
        If pyarrow is not installed, which ``.parquet`` needs.
    OutputError
        If the output cannot be written.

    See Also
    --------
    FeatureCache.to_frame : The same as a data frame.
    embedonce.label : Change labels by a table.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> import numpy as np
    >>> from embedonce import FeatureCache, convert
    >>> cache = FeatureCache.from_arrays([[0.0], [1.0]], ["ash", "birch"])
    >>> path = convert(cache, Path(tempfile.mkdtemp()) / "trees.npz")
    >>> np.load(path)["features"].tolist()
    [[0.0], [1.0]]
    """
    path = check_path("output", "convert", output)
    check_flag("features", "convert", features)
    write = {".csv": _write_csv, ".parquet": _write_parquet, ".npz": _write_npz}.get(path.suffix.lower())
    if write is None:
        raise ParameterError(f"parameter output of convert must end in .csv, .parquet or .npz, got {os.fspath(path)!r}")
    opened = open_cache(cache, "convert")
    refuse_input_as_output(path, opened.path)
    make_folder(path.parent, "the file")
    write(opened, path, features)
    return path


def _write_csv(cache: FeatureCache, path: Path, features: bool) -> None:
    columns = {"path": cache.paths, "class_name": cache.label_names.tolist()}
    texts = [column.tolist() for column in cache.metadata.values()]
    header = [*cache.columns(), *(cache.feature_names if features else ())]

    def lines() -> Iterator[bytes]:
        yield as_csv(header, ())
        for start in range(0, len(cache), _BLOCK_ROWS):
            rows = slice(start, start + _BLOCK_ROWS)
            cells = zip(*(column[rows] for column in (*columns.values(), *texts)), strict=True)
            values = cache[rows] if features else np.zeros((len(cache.paths[rows]), 0), np.float32)
            # the shortest text of each float32
            yield as_csv([], ([*about, *map(str, row)] for about, row in zip(cells, values, strict=True))).removeprefix(
                b"\n"
            )

    write_atomically(path, lines())


def _write_parquet(cache: FeatureCache, path: Path, features: bool) -> None:
    arrow = import_optional("pyarrow", "a Parquet file")
    parquet = import_optional("pyarrow.parquet", "a Parquet file")
    columns: dict[str, Any] = cache.columns()
    if features:
        columns |= dict(zip(cache.feature_names, cache.features.T, strict=True))
    table = arrow.table({name: arrow.array(column) for name, column in columns.items()})
    _publish(path, lambda temporary: parquet.write_table(table, temporary))


def _write_npz(cache: FeatureCache, path: Path, features: bool) -> None:
    arrays: dict[str, Any] = {
        "paths": np.array(cache.paths, np.str_),
        "labels": cache.labels,
        "class_names": np.array(cache.class_names, np.str_),
        "fingerprint": np.array(canonical_json(cache.fingerprint).decode()),
    }
    arrays |= {f"metadata/{name}": column.astype(np.str_) for name, column in cache.metadata.items()}
    if features:
        arrays["features"] = cache.features
    _publish(path, lambda temporary: np.savez(temporary, **arrays))


def _publish(path: Path, write: Callable[[Path], Any]) -> None:
    """Have a library write a file, and copy it to its name."""
    with output_errors(f"write {display(path)}"), temporary_folder(path.parent, path.name) as folder:
        temporary = folder / path.name
        write(temporary)
        with open(temporary, "rb") as file:
            write_atomically(path, iter(lambda: file.read(_LARGEST_BLOCK), b""))
