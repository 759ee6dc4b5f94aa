"""Finding the images: class-per-folder directories, as ``image_dataset_from_directory`` reads them."""

from __future__ import annotations

import os
import stat
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from ..cache import display
from ..errors import ImageFolderError

EXTENSIONS = (b".bmp", b".gif", b".jpeg", b".jpg", b".png")
UNREAD = tuple(b".avif .dcm .heic .heif .jfif .jp2 .jpe .ndpi .svs .tif .tiff .webp".split())
"""Endings of images that are not read, so that a folder of them is not left out in silence."""


@dataclass(frozen=True, slots=True)
class ImageFile:
    """An image file as the scan saw it.

    Attributes
    ----------
    path : bytes
        Relative to the image folder, with ``/`` between the parts.
    size : int
        In bytes.
    mtime : int
        Modification time in nanoseconds since 1970.
    """

    path: bytes
    size: int
    mtime: int


@dataclass
class Scan:
    """What a folder holds.

    Attributes
    ----------
    root : Path
        The folder, resolved.
    class_names : list of bytes
        Folders with at least one image, sorted.
    images : list of ImageFile
        Sorted by path.
    outside : int
        Images that stand in no class folder and are left out.
    skipped : list of (bytes, str)
        Paths with an image's name that were not read, and why.
    unread : list of bytes
        Paths of images of formats that are not read.
    empty : list of bytes
        Folders that would be a class and hold no image, sorted.
    """

    root: Path
    class_names: list[bytes] = field(default_factory=list)
    images: list[ImageFile] = field(default_factory=list)
    outside: int = 0
    skipped: list[tuple[bytes, str]] = field(default_factory=list)
    unread: list[bytes] = field(default_factory=list)
    empty: list[bytes] = field(default_factory=list)

    @property
    def unread_text(self) -> str:
        """What images of other formats there are, such as ``3 .heic, 1 .webp``; empty when there are none."""
        counts = Counter(format_of(path) for path in self.unread)
        return ", ".join(f"{count:,} {ending}" for ending, count in sorted(counts.items()))


def scan(folder: Path | str, *, follow_links: bool = False) -> Scan:
    """Find the images below a folder of class folders.

    The first folder below ``folder`` is the class; images may stand deeper. Names that begin with a dot
    are left out. Endings are ``.jpg .jpeg .png .bmp .gif`` in upper or lower case. A link to a regular file
    is an image; a link to a folder is entered only on request. Pipes, devices and sockets are never opened.

    Parameters
    ----------
    folder : path-like
    follow_links : bool
        Enter links to folders, each at most once on a way down.

    Returns
    -------
    Scan

    Raises
    ------
    ImageFolderError
        When the folder cannot be read, or has images in fewer than two class folders.
    """
    folder = Path(folder)
    shown = display(str(folder))
    if not os.path.isdir(folder):
        what = "is a file" if os.path.exists(folder) else "does not exist"
        raise ImageFolderError(
            f"the image folder {shown} {what}; give a folder that holds one folder of images per class"
        )
    result = Scan(folder.resolve())
    try:
        _walk(os.fsencode(result.root), b"", result, follow_links, ())
    except OSError as error:
        name = display(error.filename) if error.filename else shown
        raise ImageFolderError(f"cannot read {name}: {error.strerror}") from error
    result.images.sort(key=lambda image: image.path)
    result.class_names = sorted({image.path.partition(b"/")[0] for image in result.images})
    result.empty = sorted(set(result.empty) - set(result.class_names))
    if len(result.class_names) < 2:
        raise ImageFolderError(f"the image folder {shown} {_what_is_wrong(result)}")
    return result


class FoundImages(NamedTuple):
    """Images wherever they are.

    Attributes
    ----------
    images : list of ImageFile
        With absolute paths, each once: in the order given, those of a folder by path.
    unread : list of bytes
        Paths of images in the folders whose formats are not read, sorted.
    """

    images: list[ImageFile]
    unread: list[bytes]


def format_of(path: bytes) -> str:
    """Return the ending of a path in lower case, with its dot."""
    return os.fsdecode(os.path.splitext(path.lower())[1])


def find_images(paths: Sequence[Path | str]) -> FoundImages:
    """Find images wherever they are.

    Parameters
    ----------
    paths : sequence of path-like
        Files, whatever their ending, and folders, whose images are taken as :func:`scan` knows them, however deep.

    Returns
    -------
    FoundImages

    Raises
    ------
    ImageFolderError
        When there is no such file or folder, or a folder holds no image.
    """
    found: dict[bytes, ImageFile] = {}
    unread: set[bytes] = set()
    for given in paths:
        path, shown = os.path.abspath(os.fsencode(given)), display(str(given))
        try:
            if not os.path.isdir(path):
                status = os.stat(path)
                found[path] = ImageFile(path, status.st_size, status.st_mtime_ns)
                continue
            result = Scan(Path(os.fsdecode(path)))
            _walk(path, path, result, False, ())
        except OSError as error:
            raise ImageFolderError(f"cannot read {shown}: {error.strerror}; give an image or a folder") from error
        if not result.images:
            raise ImageFolderError(f"the folder {shown} {_no_images(result)}; give an image or a folder of images")
        found |= {image.path: image for image in sorted(result.images, key=lambda image: image.path)}
        unread.update(result.unread)
    return FoundImages(list(found.values()), sorted(unread - set(found)))


def _what_is_wrong(result: Scan) -> str:
    layout = "put the images into one folder per class, for example cats/1.jpg and dogs/1.jpg"
    if result.class_names:
        return f"has images of one class only ({display(result.class_names[0])}); {layout}"
    if result.outside:
        return f"has {result.outside} image(s) but no class folders; {layout}"
    return f"{_no_images(result)}; {layout}"


def _no_images(result: Scan) -> str:
    endings = " ".join(ending.decode() for ending in EXTENSIONS)
    others = f", only {result.unread_text}, which are not read: convert them to JPEG or PNG" if result.unread else ""
    return f"has no images ({endings}){others}"


def _walk(folder: bytes, relative: bytes, result: Scan, follow_links: bool, above: tuple[tuple[int, int], ...]) -> None:
    status = os.stat(folder)
    here = (status.st_dev, status.st_ino)
    if here in above:  # a link that leads back up
        result.skipped.append((relative, "a link to a folder above it"))
        return
    folders: list[tuple[bytes, bytes]] = []
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith(b"."):
                continue
            path = relative + b"/" + entry.name if relative else entry.name
            if entry.is_dir(follow_symlinks=follow_links):
                folders.append((entry.path, path))
                if not relative:
                    result.empty.append(path)  # unless images are found there
            elif entry.name.lower().endswith(EXTENSIONS):
                _add(entry, path, result)
            elif entry.name.lower().endswith(UNREAD):
                result.unread.append(path)
            elif entry.is_symlink() and entry.is_dir():
                result.skipped.append((path, "a link to a folder"))
    for place, path in folders:
        _walk(place, path, result, follow_links, (*above, here))


def _add(entry: os.DirEntry[bytes], path: bytes, result: Scan) -> None:
    try:
        status = entry.stat()
    except OSError as error:  # a dangling or looping link, or a file that has just gone
        result.skipped.append((path, (error.strerror or "cannot be read").lower()))
        return
    if not stat.S_ISREG(status.st_mode):
        kind = "a link to a folder" if stat.S_ISDIR(status.st_mode) else "not a regular file"
        result.skipped.append((path, kind))
    elif b"/" not in path:
        result.outside += 1
    else:
        result.images.append(ImageFile(path, status.st_size, status.st_mtime_ns))
