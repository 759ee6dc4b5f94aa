"""Files of one result, which appear in a folder together."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from ...cache import display, make_folder, output_errors, sync_folder, temporary_folder
from ...errors import OutputError


@contextlib.contextmanager
def replacing_files(folder: Path | str, what: str, last: str, old: Iterable[str] = ()) -> Iterator[Path]:
    """Give a temporary folder whose files replace those of ``folder`` at the end, ``last`` after all others.

    The names in ``old`` are files of an earlier result, which are removed. While the files change, and after a crash in
    between, ``last`` is missing: a folder that has it is complete. After an error, the files are as they were.
    """
    folder = make_folder(folder, what)
    with temporary_folder(folder, last) as temporary:
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
