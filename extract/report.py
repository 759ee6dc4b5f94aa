"""The report of an extraction, for users and for scripts."""

from __future__ import annotations

import os
import unicodedata
import warnings
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..cache import REMEDY, Files, counted, display
from ..errors import ImageError
from .decoding import MAX_PIXELS
from .embed import ODDITIES, EmbedResult
from .plan import Inventory, StoredImage
from .scan import ImageFile, Scan, format_names


@dataclass(frozen=True)
class ExtractionReport:
    """Result of an extraction, the ``report`` of the cache that `extract_features` returns.

    Attributes
    ----------
    embedded : int
        Forward passes.
    unchanged, added, changed, moved, removed : int
        Images, compared with the cache before. A moved image has a new path and stored content.
    repaired : int
        Images whose stored features were damaged.
    resumed : int
        Images of an earlier, unfinished run.
    copied : int
        Images that took the features of a file of the same content instead of a forward pass.
    seconds : float
        Time from the first embedded image to the last.
    published : bool
        Whether the cache was written.
    notes : list of str
        Notices for the user, such as files that were left out.
    rejects : list of (str, str)
        Path and reason of every image that cannot be embedded.
    views : dict of str to ExtractionReport
        Reports of the augmented views, each with its own cache.
    """

    embedded: int = 0
    unchanged: int = 0
    added: int = 0
    changed: int = 0
    moved: int = 0
    removed: int = 0
    repaired: int = 0
    resumed: int = 0
    copied: int = 0
    seconds: float = 0.0
    published: bool = False
    notes: list[str] = field(default_factory=list)
    rejects: list[tuple[str, str]] = field(default_factory=list)
    views: dict[str, ExtractionReport] = field(default_factory=dict)

    @property
    def rejected(self) -> int:
        """Number of images that cannot be embedded."""
        return len(self.rejects)

    @property
    def images_per_second(self) -> float:
        """Forward passes per second of embedding."""
        return self.embedded / self.seconds if self.seconds else 0.0

    def to_dict(self) -> dict[str, Any]:
        """Return all values, JSON-serialisable."""
        values = asdict(self) | {"rejected": self.rejected, "images_per_second": self.images_per_second}
        return values | {"views": {name: report.to_dict() for name, report in self.views.items()}}


def count_changes(
    scan: Scan, before: dict[bytes, StoredImage], inventory: Inventory, damaged: set[bytes]
) -> ExtractionReport:
    """Return a report that counts unchanged, changed, repaired, moved, added and removed images."""
    # inventory has the images after the run; damaged are paths whose stored features could not be used
    present = {image.path for image in scan.images}
    vanished = Counter(stored.digest for path, stored in before.items() if path not in present and stored.row >= 0)
    counts: dict[str, Any] = Counter()
    for image in scan.images:
        now, then = inventory.by_path[image.path], before.get(image.path)
        if then is not None:
            kind = "unchanged" if then.image == image or then.digest == now.digest else "changed"
        elif image.path in damaged:
            kind = "repaired"
        elif vanished[now.digest]:
            vanished[now.digest] -= 1
            kind = "moved"
        else:
            kind = "added"
        counts[kind] += 1
    removed = sum(path not in present for path in before) - counts["moved"]
    return ExtractionReport(**counts, removed=removed)


def notes_on_damage(problems: list[str], quarantined: list[Path], dropped: list[str]) -> list[str]:
    """Return notices about damage to the cache and to unfinished work."""
    notes = [f"damaged, and embedded again: {problem.partition(REMEDY)[0].rstrip('. ')}" for problem in problems]
    notes += [f"the damaged file is kept as {display(str(path))}. Delete it when you like" for path in quarantined]
    notes += [f"dropped damaged unfinished work, its images were embedded again: {message}" for message in dropped]
    return notes


@dataclass
class PixelCounts:
    """Counts of embedded images whose pixels look wrong."""

    embedded: int = 0
    uniform: int = 0
    oddities: dict[str, list[bytes]] = field(default_factory=dict)  # paths of images with each of `ODDITIES`

    def add(self, results: list[EmbedResult]) -> None:
        """Count the images of a segment that were embedded now."""
        made = [item for item in results if item.signature is not None and item.features is not None]
        for item in made:
            for name in item.oddities:
                self.oddities.setdefault(name, []).append(item.image.path)
        self.embedded += len(made)
        if made:
            luma = np.stack([item.signature for item in made])  # type: ignore[misc]
            dark = (luma <= NEARLY_BLACK).mean(axis=1) >= NEARLY_ALL
            self.uniform += int((dark | (np.ptp(luma, axis=1) <= 1)).sum())

    def merge(self, other: PixelCounts) -> None:
        """Add the counts of images that another process has embedded."""
        self.embedded += other.embedded
        self.uniform += other.uniform
        for name, paths in other.oddities.items():
            self.oddities.setdefault(name, []).extend(paths)

    def notes(self) -> list[str]:
        """Return notices about oddities, and about a data set that is mostly black or constant."""
        notes = notes_on_oddities(self.oddities)
        if 2 * self.uniform > self.embedded:
            notes.append(
                f"{self.uniform} of the {self.embedded} images embedded now are nearly black or of one colour. Check "
                "them: values of 12 bits in files of 16 bits and ignored palettes look so. Stretch the values of "
                "16 bits with --range stretch, or save the images with 8 bits"
            )
        return notes


_ODDITIES = {
    "palette": (
        "BMP image(s) (has|have) a palette that is ignored, as by Keras, so that (its|their) pixels are wrong",
        *2 * ("Convert them to PNG",),
    ),
    "turned": (
        "image(s) (has|have) an EXIF orientation, which is ignored, as by Keras, so that (it lies|they lie) on a side, "
        "upside down or mirrored",
        "To turn them upright, use --orientation exif and another cache",
        "Turn them upright, or train on a cache that was extracted with --orientation exif",
    ),
    "dark": (
        "image(s) of 16 bits (uses|use) less than a quarter of (its|their) range, so that (it is|they are) nearly "
        "black",
        "Stretch their values with --range stretch and another cache, or save them with 8 bits",
        "Save them with 8 bits, or train on a cache that was extracted with --range stretch",
    ),
    "large": (
        "JPEG image(s) (has|have) more than 50 megapixels and (was|were) reduced in decoding",
        *2 * ("Reduce them yourself if you want other pixels",),
    ),
}
"""Notices about `ODDITIES`: what they are, and what to do in an extraction and in a prediction."""


def notes_on_oddities(oddities: Mapping[str, Sequence[bytes]], predicted: bool = False) -> list[str]:
    """Return notices about images, given by their paths, with each of `ODDITIES`."""
    return [
        f"{counted(len(paths), text)}: {display(min(paths))}{', …' * (len(paths) > 1)}. {remedies[predicted]}"
        for name, (text, *remedies) in _ODDITIES.items()
        if (paths := oddities.get(name))
    ]


def notes_on_stored_oddities(files: Files) -> list[str]:
    """Return notices about images of a cache with each of `ODDITIES`."""
    odd = [(path, flags) for path, flags in zip(files.paths, files.oddities.tolist(), strict=True) if flags]
    return notes_on_oddities(
        {name: [path for path, flags in odd if flags >> bit & 1] for bit, name in enumerate(ODDITIES)}
    )


_LARGE_FILE = 8_000_000
"""Bytes of a file that takes tenths of a second to decode."""
NEARLY_BLACK = 16
NEARLY_ALL = 0.99


def notes_on_size(root: Path, images: Sequence[ImageFile]) -> list[str]:
    """Return a notice about images that will be rejected since they have too many pixels, as far as that is cheap."""
    # a header is read where decoding the file takes a hundred times as long; other images, and those in archives, are
    # rejected when it is their turn, which loses no work
    from PIL import Image

    too_large = []
    for image in images:
        if image.size >= _LARGE_FILE and image.path.lower().endswith((b".png", b".bmp", b".tif", b".tiff")):
            try:
                with warnings.catch_warnings(action="ignore"), Image.open(root / os.fsdecode(image.path)) as opened:
                    if opened.width * opened.height <= MAX_PIXELS:
                        continue
            except Image.DecompressionBombError:
                pass
            except Exception:  # its rejection will have a reason
                continue
            too_large.append(image.path)
    if not too_large:
        return []
    return [
        f"{counted(len(too_large), 'image(s)')} of more than {MAX_PIXELS // 1_000_000} megapixels will be rejected: "
        f"{format_names(too_large)}. Reduce them, or save them as JPEG, which is reduced while it is decoded"
    ]


def notes_on_scan(scan: Scan) -> list[str]:
    """Return notices about the image folder."""
    notes = []
    if scan.top:
        notes.append(f"all images of the archive are in its folder {display(scan.top)}, which is the image folder here")
    if scan.outside:
        notes.append(counted(scan.outside, "image(s) outside the class folders (was|were) left out"))
    if scan.unread:
        notes.append(
            f"images of formats that are not read were left out: {scan.unread_text}. Convert them to JPEG or PNG"
        )
    if scan.empty and scan.class_names:
        notes.append(f"folders without images are not classes: {format_names(scan.empty)}")
    if scan.hidden:
        notes.append(f"hidden folders and folders of the system were left out: {format_names(sorted(scan.hidden))}")
    if scan.links:
        notes.append(f"{scan.links_text}. Enter them with --follow-links")
    notes += [f"left out {display(path)}: {reason}" for path, reason in scan.skipped[:5]]
    if len(scan.skipped) > 5:
        notes.append(f"… and {len(scan.skipped) - 5} more that are not readable files")
    return notes


def notes_on_classes(counts: Mapping[str, int]) -> list[str]:
    """Return notices about classes with fewer than 2 images, and about names that may mean one class."""
    notes = []
    small = [f"{display(name)} has {count}" for name, count in counts.items() if count < 2]
    if small:
        more = f" and {len(small) - 5} more have fewer" if len(small) > 5 else ""
        notes.append(
            f"compare, train and tune need at least 2 images in every class, but {', '.join(small[:5])}{more}. Add "
            "images or remove the class folder, then run embedonce extract again"
        )
    alike: dict[str, list[str]] = defaultdict(list)
    for name in counts:
        alike[_normal(_normal(name).casefold())].append(name)
    for names in alike.values():
        if len(names) > 1:
            same = len(set(map(_normal, names))) == 1
            shown = [ascii(name) if same else display(name) for name in names]  # both would look alike
            notes.append(
                f"the classes {' and '.join(shown)} differ only in {'Unicode form' if same else 'case'}. If they are "
                "one class, put their images into one folder and run embedonce extract again"
            )
    return notes


def _normal(name: str) -> str:
    return unicodedata.normalize("NFC", name)


def strict_error(rejects: list[tuple[str, str]]) -> ImageError:
    """Return the error of a strict run with rejects, naming the first of them."""
    examples = "; ".join(f"{display(path)}: {reason}" for path, reason in rejects[:3])
    more = f"; and {len(rejects) - 3} more" if len(rejects) > 3 else ""
    return ImageError(
        f"{counted(len(rejects), 'image(s)')} cannot be embedded (--strict): {examples}{more}. Repair or remove them"
    )
