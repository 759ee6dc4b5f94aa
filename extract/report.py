"""What an extraction did, told to people and to scripts."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from ..cache import REMEDY, FeatureCache, display
from ..errors import ImageError
from .plan import Inventory, StoredImage
from .scan import Scan


@dataclass
class ExtractionReport:
    """What a run did.

    Attributes
    ----------
    cache : FeatureCache
        As it is now.
    embedded : int
        Forward passes.
    unchanged, added, changed, moved, removed : int
        Images, against the cache as it was. A moved image has a new path and known content.
    repaired : int
        Images whose stored features were damaged.
    rejected : int
        Images of the folder that cannot be embedded.
    resumed : int
        Images taken over from a run that was cut off.
    copied : int
        Images that took the features of a file of the same content instead of a forward pass.
    seconds : float
        Time spent on embedding, from the first image to the last.
    published : bool
        False when nothing had to be written.
    notes : list of str
        What the user should know: files left out, segments that were damaged.
    views : dict of str to Report
        Of the views that were embedded too, each with a cache of its own.
    """

    cache: FeatureCache
    embedded: int = 0
    unchanged: int = 0
    added: int = 0
    changed: int = 0
    moved: int = 0
    removed: int = 0
    repaired: int = 0
    rejected: int = 0
    resumed: int = 0
    copied: int = 0
    seconds: float = 0.0
    published: bool = False
    notes: list[str] = field(default_factory=list)
    views: dict[str, ExtractionReport] = field(default_factory=dict)

    @property
    def images_per_second(self) -> float:
        """Forward passes per second of embedding."""
        return self.embedded / self.seconds if self.seconds else 0.0

    def as_dict(self) -> dict[str, Any]:
        """Return everything but the cache itself, JSON-serialisable, and the rejects with their reasons."""
        values = {item.name: getattr(self, item.name) for item in fields(self) if item.name not in ("cache", "views")}
        if self.views:
            values["views"] = {name: report.as_dict() for name, report in self.views.items()}
        return values | {"images_per_second": self.images_per_second, "rejects": self.cache.rejects}

    def count_changes(
        self, found: Scan, before: dict[bytes, StoredImage], inventory: Inventory, damaged: set[bytes]
    ) -> None:
        """Sort every image of the folder into one kind, against the cache as it was.

        Parameters
        ----------
        found : Scan
            The folder.
        before : dict of bytes to Known
            What the cache held, by path.
        inventory : Inventory
            What is known now.
        damaged : set of bytes
            Paths whose stored features could not be used.
        """
        present = {image.path for image in found.images}
        vanished: dict[bytes, int] = {}
        for path, known in before.items():
            if path not in present and known.row >= 0:
                vanished[known.digest] = vanished.get(known.digest, 0) + 1
        for image in found.images:
            now, then = inventory.by_path[image.path], before.get(image.path)
            if then is not None and (then.image == image or then.digest == now.digest):
                self.unchanged += 1
            elif then is not None:
                self.changed += 1
            elif image.path in damaged:
                self.repaired += 1
            elif vanished.get(now.digest, 0):
                vanished[now.digest] -= 1
                self.moved += 1
            else:
                self.added += 1
        self.removed = sum(path not in present for path in before) - self.moved


def notes_on_damage(problems: list[str], aside: list[Path], dropped: list[str]) -> list[str]:
    """Return what the user should know of damage to the cache and to unfinished work."""
    notes = [f"damaged, and embedded again: {problem.partition(f'; {REMEDY}')[0]}" for problem in problems]
    notes += [f"the damaged file is kept as {display(str(path))}; delete it when you like" for path in aside]
    notes += [f"dropped damaged unfinished work, its images were embedded again: {message}" for message in dropped]
    return notes


PARTS = frozenset({b"train", b"training", b"test", b"testing", b"val", b"valid", b"validation"})
"""What folders are called, in lower case, that hold the parts of a split and not the images of a class."""


def notes_on_scan(found: Scan) -> list[str]:
    """Return what the user should know of the folder."""
    notes = []
    if found.outside:
        notes.append(f"{found.outside} image(s) stand outside the class folders and were left out")
    if found.unread:
        notes.append(
            f"images of formats that are not read were left out: {found.unread_text}; convert them to JPEG or PNG"
        )
    if found.empty:
        shown = ", ".join(display(name) for name in found.empty[:5]) + ", …" * (len(found.empty) > 5)
        notes.append(f"folders without images are no class: {shown}")
    if {name.lower() for name in found.class_names} <= PARTS:
        names = ", ".join(display(name) for name in found.class_names)
        notes.append(
            f"the folders {names} became the classes; if they are parts of a split, put the images of each class into "
            "one folder, such as cats/train and cats/test"
        )
    notes += [f"left out {display(path)}: {reason}" for path, reason in found.skipped[:5]]
    if len(found.skipped) > 5:
        notes.append(f"… and {len(found.skipped) - 5} more that are no readable files")
    return notes


def strict_error(rejects: list[tuple[str, str]]) -> ImageError:
    """Return the error of a strict run with rejects, naming the first of them."""
    shown = "; ".join(f"{display(path)}: {reason}" for path, reason in rejects[:3])
    more = f"; and {len(rejects) - 3} more" if len(rejects) > 3 else ""
    return ImageError(f"{len(rejects)} image(s) cannot be embedded (--strict): {shown}{more}; mend or remove them")
