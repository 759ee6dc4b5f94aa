"""Files of one result, which appear in a folder together."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from ...cache import display, make_folder, output_errors, sync_folder
from ...errors import OutputError


@contextlib.contextmanager
def replacing_files(folder: Path | str, what: str, last: str, old: Iterable[str] = ()) -> Iterator[Path]:
    """Give a temporary folder whose files replace those of ``folder`` at the end, ``last`` after all others.

    The names in ``old`` are files of an earlier result, which are removed. While the files change, and after a crash in
    between, ``last`` is missing: a folder that has it is complete. After an error, the files are as they were.
    """
    folder = make_folder(folder, what)
    with output_errors(f"create a temporary folder in {display(folder)}", ". Choose another place or free some space"):
        _remove_leftovers(folder, last)
        temporary = Path(tempfile.mkdtemp(prefix=f".{last}.", suffix=".tmp", dir=folder))
    try:
        try:
            yield temporary
        except OutputError as error:  # its message names the file that the user knows
            text = str(error.strerror).replace(display(temporary), display(folder))
            raise OutputError(error.errno, text) from error
        with output_errors(f"write {display(folder / last)}", ". Choose another place or free some space"):
            names = sorted(os.listdir(temporary))
            (folder / last).unlink(missing_ok=True)
            sync_folder(folder)
            for name in set(old) - set(names):
                if (folder / name).is_file():
                    (folder / name).unlink()
            for name in names:
                if name != last:
                    os.replace(temporary / name, folder / name)
            sync_folder(folder)
            os.replace(temporary / last, folder / last)
            sync_folder(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _remove_leftovers(folder: Path, last: str) -> None:
    """Remove temporary folders of a process that was killed."""
    for entry in folder.iterdir():
        if re.fullmatch(rf"\.{re.escape(last)}\.\w{{8}}\.tmp", entry.name) and entry.is_dir():
            shutil.rmtree(entry, ignore_errors=True)
