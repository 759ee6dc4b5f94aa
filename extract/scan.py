"""The search for images in a folder or archive."""

from __future__ import annotations

import os
import re
import stat
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from ..cache import OTHER_HDF5, display, kind_of_path
from ..errors import ImageFolderError, check_path
from .archives import Archive, find_archive, is_other_archive
from .image_names import EXTENSIONS, SYSTEM_FOLDERS, UNREAD

_NEVER_IMAGES = ("a feature cache", OTHER_HDF5, "a model file", "a table", "a JSON file", "a configuration file")


@dataclass(frozen=True, slots=True)
class ImageFile:
    """An image file: path relative to the image folder, with ``/``; size in bytes; time in nanoseconds since 1970."""

    path: bytes
    size: int
    mtime: int


@dataclass
class Scan:
    """Images of a folder, sorted."""

    root: Path
    images: list[ImageFile] = field(default_factory=list)
    class_names: list[bytes] = field(default_factory=list)  # those of class folders, if they are the labels
    outside: int = 0  # images outside class folders, which were left out
    skipped: list[tuple[bytes, str]] = field(default_factory=list)  # path and reason of files that were not read
    unread: list[bytes] = field(default_factory=list)  # images of other formats
    empty: list[bytes] = field(default_factory=list)  # folders directly below the root without images
    links: list[bytes] = field(default_factory=list)  # links to folders that were not entered
    hidden: set[bytes] = field(default_factory=set)  # names of hidden folders and folders of systems
    top: bytes = b""  # folder in an archive that holds all images

    @property
    def unread_text(self) -> str:
        """Images of other formats, such as ``3 .heic, 1 .webp``; empty if there are none."""
        counts = Counter(format_of(path) for path in self.unread)
        return ", ".join(f"{count:,} {suffix}" for suffix, count in sorted(counts.items()))

    @property
    def links_text(self) -> str:
        """Statement about links that were not entered; empty if there are none."""
        return f"links to folders were not entered: {format_names(sorted(self.links))}" if self.links else ""

    @property
    def problem(self) -> str:
        """Statement that there are no images, and what to do."""
        layout = "Put the images into one folder per class, for example cats/1.jpg and dogs/1.jpg"
        if self.links:
            layout = f"{self.links_text[0].upper()}{self.links_text[1:]}. Enter them with --follow-links. {layout}"
        elif self.skipped:
            path, reason = self.skipped[0]
            layout = f"Left out {display(path)}: {reason}. {layout}"
        return f"{_no_images(self)}. {layout}"


def scan_folder(folder: Path | str, *, follow_links: bool = False) -> Scan:
    """Find the images of a folder or archive and of the folders in it."""
    # Names that begin with a dot are left out. A link to a regular file is an image. A class folder may be a
    # link, as in Keras. Other links to folders are entered with follow_links. Pipes,
    # devices and sockets are never opened.
    folder = check_path("images", "an extraction", folder)
    name = display(str(folder))
    whole = Path(os.path.realpath(folder.parent)) / folder.name  # a link may have another suffix than its archive
    archive, inside = find_archive(os.fsencode(whole)) or (None, b"")
    if inside or (archive is None and not os.path.isdir(folder)):
        what = f"is {kind_of_path(folder) or 'a file'}" if os.path.exists(folder) else "does not exist"
        if is_other_archive(os.fsencode(folder)) and os.path.isfile(folder):
            raise ImageFolderError(
                f"the archive {name} is of a kind that is not read. Save it as .zip, .tar or .tar.gz, or unpack it"
            )
        raise ImageFolderError(
            f"the image folder {name} {what}. Give a folder that holds one folder of images per class, or a .zip or "
            ".tar archive of it"
        )
    result = Scan(folder.resolve() if archive is None else whole)
    try:
        if archive is None:
            _walk(os.fsencode(result.root), b"", result, follow_links, ())
        else:
            _add_archive(archive, b"", result)
    except OSError as error:
        unreadable = display(error.filename) if error.filename else name
        raise ImageFolderError(f"cannot read {unreadable}: {error.strerror}") from error
    result.images.sort(key=lambda image: image.path)
    result.empty = sorted(set(result.empty) - {image.path.partition(b"/")[0] for image in result.images})
    if not result.images:
        kind = kind_of_path(folder) if archive is None else ""
        problem = f"is {kind}. Give the images" if kind == "a feature cache" else result.problem
        raise ImageFolderError(f"the {'archive' if archive else 'image folder'} {name} {problem}")
    return result


class FoundImages(NamedTuple):
    """Images with absolute paths, each once, and the sorted paths in the folders that are not read, with the reason."""

    images: list[ImageFile]
    unread: list[tuple[bytes, str]]


def format_names(names: Sequence[bytes]) -> str:
    """Return the first five names, and an ellipsis if there are more."""
    return ", ".join(display(name) for name in names[:5]) + ", …" * (len(names) > 5)


def format_of(path: bytes) -> str:
    """Return the suffix of a path in lower case, with its dot."""
    return os.fsdecode(os.path.splitext(path.lower())[1])


def _natural(path: bytes) -> list[bytes | int]:
    """Return the key of an order in which 2 is before 10."""
    parts = re.split(rb"(\d+)", path)
    return [int(part) if place % 2 else part for place, part in enumerate(parts)]


def find_images(paths: Sequence[Path | str]) -> FoundImages:
    """Find images outside a data set: files with any suffix, and the sorted images of folders and archives."""
    images: dict[bytes, ImageFile] = {}
    unread: dict[bytes, str] = {}
    if paths and all(kind_of_path(path) in _NEVER_IMAGES for path in paths):
        raise ImageFolderError(
            f"the images must be image files, folders or archives, got {display(str(paths[0]))}, which is "
            f"{kind_of_path(paths[0])}"
        )
    for argument in paths:
        path, name = os.path.abspath(os.fsencode(argument)), display(str(argument))
        archive, inside = find_archive(path) or (None, b"")
        result = Scan(Path(os.fsdecode(path)))
        try:
            if archive is not None and not inside:
                _add_archive(archive, path + b"/", result)
            elif archive is not None and inside in archive.images:
                member = archive.images[inside]
                images[path] = ImageFile(path, member.size, member.mtime)
                continue
            elif not os.path.isdir(path):
                status = os.stat(path)
                images[path] = ImageFile(path, status.st_size, status.st_mtime_ns)
                continue
            else:
                _walk(path, path, result, False, ())
        except OSError as error:
            raise ImageFolderError(f"cannot read {name}: {error.strerror}. Give an image or a folder") from error
        if not result.images:
            more = f"; {result.links_text}" if result.links else ""
            if archive is not None and result.skipped:
                more = f"; left out {display(result.skipped[0][0])}: {result.skipped[0][1]}"
            raise ImageFolderError(
                f"the {'archive' if archive else 'folder'} {name} {_no_images(result)}{more}. Give an image or a "
                "folder of images"
            )
        images |= {image.path: image for image in sorted(result.images, key=lambda image: _natural(image.path))}
        reason = "its format {} is not read. Convert it to JPEG or PNG"
        unread |= {path: reason.format(format_of(path)) for path in result.unread}
        unread |= dict(result.skipped) | dict.fromkeys(result.links, "a link to a folder, which is not entered")
    return FoundImages(list(images.values()), sorted((path, unread[path]) for path in unread.keys() - images.keys()))


def _no_images(result: Scan) -> str:
    suffixes = " ".join(suffix.decode() for suffix in sorted(EXTENSIONS))
    others = f", only {result.unread_text}, which are not read: convert them to JPEG or PNG" if result.unread else ""
    return f"has no images ({suffixes}){others}"


def _add_archive(archive: Archive, prefix: bytes, result: Scan) -> None:
    """Add what an archive holds; ``prefix`` comes before all paths."""
    result.images += [ImageFile(prefix + path, member.size, member.mtime) for path, member in archive.images.items()]
    result.top = archive.top
    result.hidden |= archive.hidden
    result.empty += sorted(archive.folders)
    result.skipped += [(prefix + path, reason) for path, reason in archive.skipped]
    result.unread += [prefix + path for path in archive.unread]


def _walk(folder: bytes, relative: bytes, result: Scan, follow_links: bool, above: tuple[tuple[int, int], ...]) -> None:
    status = os.stat(folder)
    here = (status.st_dev, status.st_ino)
    if here in above:  # a link that leads back up
        result.skipped.append((relative, "a link to a folder above it"))
        return
    folders: list[tuple[bytes, bytes]] = []
    with os.scandir(folder) as entries:
        for entry in entries:
            name, path = entry.name.lower(), relative + b"/" + entry.name if relative else entry.name
            is_link = entry.is_symlink()
            is_folder = os.path.isdir(entry.path) if is_link else entry.is_dir()
            if name.startswith(b".") or (is_folder and name in SYSTEM_FOLDERS):
                if is_folder:
                    result.hidden.add(entry.name)
            elif is_folder and is_link and above and not follow_links:
                result.links.append(path)
            elif is_folder:
                folders.append((entry.path, path))
                if not relative:
                    result.empty.append(path)  # unless images are found there
            elif name.endswith(EXTENSIONS) or (is_link and not os.path.exists(entry.path)):
                _add(entry, path, result)
            elif name.endswith(UNREAD):
                result.unread.append(path)
    for location, path in folders:
        _walk(location, path, result, follow_links, (*above, here))


def _add(entry: os.DirEntry[bytes], path: bytes, result: Scan) -> None:
    try:
        status = entry.stat()
    except OSError as error:  # a dangling or looping link, or a file that was just removed
        reason = (error.strerror or "cannot be read").lower()
        result.skipped.append((path, f"a broken link ({reason})" if entry.is_symlink() else reason))
        return
    if not stat.S_ISREG(status.st_mode):
        result.skipped.append((path, "not a regular file"))
    else:
        result.images.append(ImageFile(path, status.st_size, status.st_mtime_ns))
