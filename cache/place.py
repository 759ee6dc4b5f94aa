"""Location and form of a cache, and the files of its writer."""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass
from pathlib import Path

from ..errors import CacheError, OutputError, check_path
from .manifest import NAME, PARTIAL, shards_on_disk
from .names import display

FOLDER_SUFFIX = ".cache"


@dataclass(frozen=True)
class CacheLocation:
    """Path of a file or a folder of shards, and the paths of what only a writer needs."""

    path: Path
    sharded: bool

    @classmethod
    def of(cls, cache: Path | str) -> CacheLocation:
        """Return the location of a cache; a new one is a folder of shards if its path ends in ``/`` or ``.cache``."""
        check_path("cache", "extract_features", cache)
        text = os.fspath(cache)
        path = Path(text)
        if os.path.islink(path):  # the lock and the temporary files belong next to the file itself
            path = Path(os.path.realpath(path))  # of a loop of links it gives one of them, and raises nothing
        if not path.name:
            raise CacheError("the cache needs a name, such as lung.h5 for a file or lung.cache/ for a folder of shards")
        if os.path.isdir(path):  # os.path raises no error for a name that is too long: the writer has a better one
            others = [name for name in os.listdir(path) if name not in (NAME, PARTIAL) and not name.startswith(".")]
            if others and not _is_cache(path):
                raise OutputError(
                    errno.EISDIR,
                    f"the cache {display(path)} is a folder with other things in it ({display(others[0])}). Give "
                    "a file, such as lung.h5, or a new folder, such as lung.cache/",
                )
            return cls(path, True)
        separators = tuple(filter(None, (os.sep, os.altsep)))
        return cls(path, not os.path.exists(path) and (text.endswith(separators) or path.suffix == FOLDER_SUFFIX))

    def exists(self) -> bool:
        """Return whether there is a cache, intact or damaged; unfinished work does not count."""
        return os.path.exists(self.path) and (not self.sharded or _is_cache(self.path))

    @property
    def partial(self) -> Path:
        """The folder of unfinished work."""
        return self.path / PARTIAL if self.sharded else self.path.with_name(f"{self.path.name}.partial")

    @property
    def lock(self) -> Path:
        """The file that the one writer locks."""
        return self.path / ".lock" if self.sharded else self.path.with_name(f".{self.path.name}.lock")

    @property
    def holder(self) -> Path:
        """The file that names the one writer."""
        name = ".writer.json"
        return self.path / name if self.sharded else self.path.with_name(f".{self.path.name}{name}")


def _is_cache(folder: Path) -> bool:
    return (folder / NAME).exists() or bool(shards_on_disk(folder))
