"""Zip and tar archives of images: listed and read where they are, never unpacked to disk."""

from __future__ import annotations

import calendar
import os
import posixpath
import re
import stat
import tarfile
import threading
import zipfile
import zlib
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from ..cache import display
from ..errors import ImageError, ImageFolderError, first_line
from .image_names import EXTENSIONS, SYSTEM_FOLDERS, UNREAD

MAX_MEMBERS = 2_000_000
MAX_TOTAL_BYTES = 1 << 40  # of all images
MAX_MEMBER_BYTES = 1 << 30
MAX_RATIO = 200  # of the unpacked to the packed size; deflate reaches 1,000, and photographs 2
FREE_BYTES = 1 << 26  # what unpacks to less may have any ratio
MAX_DIRECTORY_BYTES = 1 << 29  # of a zip archive
MAX_HEADER_BYTES = 1 << 20  # of a tar archive

_NAME = re.compile(rb"\.(zip|tar|tar\.gz|tgz)(?=[/\\]|$)", re.IGNORECASE)
_ANY_NAME = re.compile(rb"\.(zip|tar|tgz|7z|rar|tbz2?|txz|gz|bz2|xz|zst)$", re.IGNORECASE)
_OUTSIDE = re.compile(rb"/|[a-z]:|(.*/)?\.\.(/|$)|.*[\\\0]", re.IGNORECASE | re.DOTALL)
_ENCRYPTED = 0x2041
_STEP = 1 << 16


class Member(NamedTuple):
    """A regular file in an archive."""

    offset: int  # of its content; in a zip archive, of its header
    size: int
    packed: int  # bytes in the archive
    mtime: int  # nanoseconds since 1970, below a second from its checksum, so that other content has another time
    crc: int = 0
    method: int = zipfile.ZIP_STORED


@dataclass
class Archive:
    """Images of an archive and what else it holds, by their paths below `top`."""

    path: bytes
    state: tuple[int, int]  # size and time of the file
    is_zip: bool
    content: Gunzip | None = None  # of a compressed tar archive
    top: bytes = b""  # the deepest folder that all images are in; empty if it is the archive
    images: dict[bytes, Member] = field(default_factory=dict)
    folders: set[bytes] = field(default_factory=set)  # those at the top
    skipped: list[tuple[bytes, str]] = field(default_factory=list)
    unread: list[bytes] = field(default_factory=list)
    hidden: set[bytes] = field(default_factory=set)

    def read(self, path: bytes) -> bytes:
        """Return the content of an image, or raise ImageError."""
        member = self.images.get(path)
        if member is None:
            raise ImageError("cannot be read: it is not in the archive")
        try:
            with open(self.path, "rb") as file:
                if self.content is not None:
                    data = self.content.read(member.offset, member.size)
                elif self.is_zip:
                    data = _unzip(file, member)
                else:
                    file.seek(member.offset)
                    data = file.read(member.size)
                changed = _state(os.fstat(file.fileno())) != self.state
        except (zlib.error, EOFError, ValueError) as error:
            raise ImageError(f"damaged in the archive: {first_line(error)}") from error
        except OSError as error:
            raise ImageError(f"cannot be read: {error.strerror}") from error
        if changed:
            raise ImageError("cannot be read: the archive changes")
        if len(data) != member.size:
            raise ImageError(f"damaged in the archive: it has {len(data)} of {member.size} bytes")
        return data


def find_archive(path: bytes) -> tuple[Archive, bytes] | None:
    """Return the archive that a path names or leads into, and the path inside; None for other paths."""
    for match in _NAME.finditer(path):
        name = path[: match.end()]
        if os.path.isfile(name):
            return _open_archive(name), path[match.end() + 1 :]
    return None


def is_other_archive(path: bytes) -> bool:
    """Return whether this is the name of an archive of a kind that is not read."""
    return _ANY_NAME.search(path) is not None and _NAME.search(os.path.basename(path)) is None


def has_file(root: Path, path: bytes) -> bool:
    """Return whether a folder or archive has a file."""
    whole = os.path.join(os.fsencode(root), path)
    archive, inside = find_archive(whole) or (None, b"")
    return os.path.isfile(whole) if archive is None else inside in archive.images


def reading_order(root: Path, path: bytes) -> tuple[bytes, int]:
    """Return a sort key by which the images of an archive are read from its start to its end."""
    archive, inside = find_archive(os.path.join(os.fsencode(root), path)) or (None, b"")
    if archive is None or inside not in archive.images:
        return b"", 0
    return archive.path, archive.images[inside].offset


_opening = threading.Lock()


def _open_archive(path: bytes) -> Archive:
    with _opening:  # not by several threads, since it can take minutes
        try:
            return _listed(path, *_state(os.stat(path)))
        except OSError as error:
            raise ImageFolderError(f"cannot read the archive {display(path)}: {error.strerror}") from error


def _state(status: os.stat_result) -> tuple[int, int]:
    return status.st_size, status.st_mtime_ns


@lru_cache(maxsize=2)
def _listed(path: bytes, size: int, mtime: int) -> Archive:
    with open(path, "rb") as file:

        def read(offset: int, count: int) -> bytes:
            file.seek(offset)
            return file.read(count)

        start = file.read(2)
        content = Gunzip(path, size) if start == b"\x1f\x8b" else None
        archive = Archive(path, (size, mtime), start == b"PK", content)
        try:
            if archive.is_zip:
                members = _zip_members(_Stream(read, size, MAX_DIRECTORY_BYTES))
            else:
                sign = zlib.crc32(b"%d %d" % (size, mtime))  # there are no checksums of members
                members = _tar_members(read if content is None else content.read, sign)
            _list(archive, members)
        except MemoryError:
            raise
        except _TooLargeError as error:
            text = f"the archive {display(path)} is refused: {error}. If you trust it, unpack it and give the folder"
            raise ImageFolderError(text) from error
        except Exception as error:  # zipfile and tarfile raise many types
            if isinstance(error, OSError) and error.errno is not None:
                raise
            reason = f"{first_line(error)}".rstrip(".")
            text = f"the archive {display(path)} is damaged or neither zip nor tar: {reason}. Download or copy it again"
            raise ImageFolderError(text) from error
    return archive


class _TooLargeError(ValueError):
    """An archive is beyond a limit."""


_Found = tuple[bytes, Member | None, str]
"""Name, the regular file, which a folder is not, and the reason if it must not be read."""


def _list(archive: Archive, members: Iterator[_Found]) -> None:
    """Sort the members of an archive into its images and the other lists."""
    images: dict[bytes, Member | None] = {}
    folders: set[bytes] = set()
    total = 0
    for count, (name, member, problem) in enumerate(members, 1):
        if count > MAX_MEMBERS:
            raise _TooLargeError(f"it has more than {MAX_MEMBERS:,} members")
        if _OUTSIDE.match(name):
            archive.skipped.append((name, "its path is absolute, or has .. or a backslash"))
            continue
        parts = [part for part in name.split(b"/") if part not in (b"", b".")]
        path = b"/".join(parts)
        is_folder = member is None and not problem
        outer = parts if is_folder else parts[:-1]
        hidden = [part for part in outer if part.startswith(b".") or part.lower() in SYSTEM_FOLDERS]
        if hidden or not parts or parts[-1].startswith(b"."):
            archive.hidden.update(hidden[:1])
            continue
        folders.add(b"/".join(outer))
        if is_folder:
            continue
        if not problem and _ANY_NAME.search(path):
            problem = "an archive inside the archive, which is not entered"
        if not problem and not path.lower().endswith(EXTENSIONS):
            archive.unread += [path] * path.lower().endswith(UNREAD)
        elif problem or member is None:
            archive.skipped.append((path, problem))
        elif path in images:
            images[path] = None
        elif (size := max(member.size, member.packed)) > MAX_MEMBER_BYTES:
            archive.skipped.append((path, f"too large: {size} bytes, the limit is {MAX_MEMBER_BYTES}"))
        elif member.size > max(FREE_BYTES, MAX_RATIO * member.packed):
            archive.skipped.append((path, f"it unpacks to more than {MAX_RATIO} times its size"))
        else:
            images[path] = member
            total += member.size
    if total > MAX_TOTAL_BYTES:
        raise _TooLargeError(f"its images have {total:,} bytes, the limit is {MAX_TOTAL_BYTES:,}")
    if total > max(FREE_BYTES, MAX_RATIO * archive.state[0]):
        raise _TooLargeError(f"it unpacks to more than {MAX_RATIO} times its size")
    archive.skipped += [(path, "the archive has two files of this name") for path in images if images[path] is None]
    archive.top = top = posixpath.commonpath(map(posixpath.dirname, images)) if images else b""
    start = len(top) + 1 if top else 0

    def below(path: bytes) -> bytes:
        return path[start:] if path.startswith(top + b"/") else path

    archive.images = {path[start:]: images[path] for path in sorted(images) if images[path] is not None}  # type: ignore[misc]
    archive.skipped = [(below(path), reason) for path, reason in archive.skipped]
    archive.unread = [below(path) for path in archive.unread]
    archive.folders = {path[start:].partition(b"/")[0] for path in folders if below(path) != path or not top} - {b""}


class _Stream:
    """A file object for zipfile and tarfile, which refuses a single read that is too large for a listing."""

    def __init__(self, read: Callable[[int, int], bytes], size: int, limit: int) -> None:
        self._read, self._size, self._limit, self._place = read, size, limit, 0

    def tell(self) -> int:
        return self._place

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        place = offset + (0, self._place, self._size)[whence]
        if place < 0:
            raise OSError("before the start")  # as of a file
        self._place = place
        return place

    def read(self, count: int = -1) -> bytes:
        count = max(0, self._size - self._place) if count < 0 else count
        if count > self._limit:
            raise _TooLargeError(f"its list of files has {count:,} bytes, the limit is {self._limit:,}")
        data = self._read(self._place, count)
        self._place += len(data)
        return data


def _zip_members(stream: Any) -> Iterator[_Found]:
    with zipfile.ZipFile(stream) as archive:
        for info in archive.infolist():
            mode = stat.S_IFMT(info.external_attr >> 16)
            problem = ""
            if mode == stat.S_IFLNK:
                problem = "a link, which is not followed"
            elif mode not in (0, stat.S_IFREG, stat.S_IFDIR):
                problem = "not a regular file"
            elif info.flag_bits & _ENCRYPTED:
                problem = "it is encrypted"
            elif info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                problem = "its compression is not read. Save the archive with deflate"
            if info.is_dir() or mode == stat.S_IFDIR:
                yield _zip_name(info), None, ""
                continue
            try:
                seconds = calendar.timegm((*info.date_time, 0, 0, 0))
            except ValueError:  # there is no such date
                seconds = 0
            mtime = _mtime(seconds, info.CRC)
            sizes = (info.header_offset, info.file_size, info.compress_size)
            yield _zip_name(info), Member(*sizes, mtime, info.CRC, info.compress_type), problem


def _zip_name(info: zipfile.ZipInfo) -> bytes:
    """Return a name as bytes: UTF-8, also where the archive does not say so, as those of macOS."""
    if not info.flag_bits & 0x800:
        raw = info.filename.encode("cp437")
        try:
            raw.decode("utf-8")
        except UnicodeDecodeError:
            return os.fsencode(info.filename)
        return raw
    return os.fsencode(info.filename)


def _unzip(file: Any, member: Member) -> bytes:
    file.seek(member.offset)
    header = file.read(30)
    if header[:4] != b"PK\3\4":
        raise ValueError("its header is missing")
    file.seek(int.from_bytes(header[26:28], "little") + int.from_bytes(header[28:30], "little"), os.SEEK_CUR)
    data: bytes = file.read(member.packed)
    if member.method == zipfile.ZIP_DEFLATED:
        data = zlib.decompressobj(-zlib.MAX_WBITS).decompress(data, member.size + 1)
    if zlib.crc32(data) != member.crc:
        raise ValueError("its checksum differs")
    return data


def _tar_members(read: Callable[[int, int], bytes], sign: int) -> Iterator[_Found]:
    stream: Any = _Stream(read, 0, MAX_HEADER_BYTES)
    with tarfile.open(fileobj=stream, mode="r:") as archive:
        last = -1
        while (info := archive.next()) is not None:
            if not last < info.offset_data <= archive.offset:
                raise ValueError("a member has an impossible size")
            last = info.offset_data
            archive.members = []  # type: ignore[attr-defined]  # which would hold all of them
            name = os.fsencode(info.name)
            if info.isdir():
                yield name, None, ""
                continue
            problem = ""
            if info.issym() or info.islnk():
                problem = "a link, which is not followed"
            elif not info.isreg() or info.issparse():
                problem = "not a regular file"
            member = Member(info.offset_data, info.size, info.size, _mtime(info.mtime, sign))
            yield name, member, problem
        end = archive.offset
    while rest := read(end, _STEP):  # to the end, where the checksum of a compressed archive is
        if rest.strip(b"\0"):  # tarfile takes a damaged header for the end
            raise ValueError("the header of a member cannot be read, or data follow the end")
        end += len(rest)


def _mtime(seconds: float, sign: int) -> int:
    whole = int(seconds) if 0 <= seconds < 1 << 33 else 0  # not for NaN either
    return whole * 1_000_000_000 + sign % 1_000_000_000


class Gunzip:
    """Content of a gzip file, with random access by copies of the decompressor at its blocks."""

    def __init__(self, path: bytes, size: int) -> None:
        self._path = path
        self._block_bytes = max(1 << 22, size >> 9)
        self._most = max(FREE_BYTES, MAX_RATIO * size)
        self._starts: list[tuple[int, Any, bytes]] = [(0, zlib.decompressobj(31), b"")]
        """For each block, and one after the last: place in the file, decompressor, bytes that were read before."""
        self._blocks: OrderedDict[int, bytes] = OrderedDict()  # those that were read last
        self._lock = threading.Lock()

    def read(self, offset: int, count: int) -> bytes:
        """Return bytes of the content; fewer at its end."""
        parts = []
        with self._lock:
            for number in range(offset // self._block_bytes, (offset + count - 1) // self._block_bytes + 1):
                start = number * self._block_bytes
                parts.append(self._block(number)[max(0, offset - start) : offset + count - start])
        return b"".join(parts)

    def _block(self, number: int) -> bytes:
        if number in self._blocks:
            self._blocks.move_to_end(number)
            return self._blocks[number]
        block = b""
        for known in range(min(number, len(self._starts) - 1), number + 1):
            if known == len(self._starts):  # it is after the end
                return b""
            block = self._unpack(known)
        self._blocks[number] = block
        if len(self._blocks) > max(2, FREE_BYTES // self._block_bytes):
            self._blocks.popitem(last=False)
        return block

    def _unpack(self, number: int) -> bytes:
        if number * self._block_bytes > self._most:
            raise _TooLargeError(f"it unpacks to more than {MAX_RATIO} times its size")
        place, state, pending = self._starts[number]
        state, parts, missing = state.copy(), [], self._block_bytes
        with open(self._path, "rb") as file:
            file.seek(place)
            while missing:
                pending = pending or file.read(_STEP)
                if state.eof:
                    if not pending:
                        break
                    pending = pending.lstrip(b"\0")  # padding
                    if not pending:
                        continue
                    state = zlib.decompressobj(31)  # a gzip file can have several parts
                if not pending:
                    raise EOFError("it ends too early")
                parts.append(state.decompress(pending, missing))
                missing -= len(parts[-1])
                pending = state.unused_data if state.eof else state.unconsumed_tail
            if not missing and number + 1 == len(self._starts):
                self._starts.append((file.tell(), state, pending))
        return b"".join(parts)
