"""The part of a split that an image or a group belongs to, which stays the same when images are added.

Let f(S) be the parts of the images S. If adding images moves no old one, image x is in the same part of every f(S) that
has it, so also of f({x}): its part can depend only on x and the seed. A pure function of the name is thus the only
stable split, unlike scikit-learn's splitters, which balance by looking at all images. Its cost is exact proportions: a
part of probability p of n units has a standard deviation of sqrt(p (1 - p) / n), for 80/20 0.04 with 100 images.

No stable split has every class in every part: of three images two share a part, and a split of these two would have to
separate them. If a hash leaves a class out of a part, as at 80/20 for one class in 90 of 20 images, the nearest unit is
moved into it. Only moved units may change their part when images are added.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from ...cache import display
from ...errors import SplitError


def hash_to_unit_interval(keys: Sequence[str], seed: int, repeat: int = 0) -> npt.NDArray[np.float64]:
    """Return a number in [0, 1) for every key: the first 53 bits of SHA-256 of seed, repeat and key."""
    start = hashlib.sha256(f"{seed}/{repeat}\0".encode())
    numbers = np.empty(len(keys), np.float64)
    for position, key in enumerate(keys):
        digest = start.copy()
        digest.update(key.encode("utf-8", "surrogateescape"))
        numbers[position] = (int.from_bytes(digest.digest()[:8], "big") >> 11) / 2**53
    return numbers


def assign_parts(
    hashes: npt.NDArray[np.float64],
    edges: Sequence[float],
    units: npt.NDArray[np.intp],
    classes: npt.NDArray[np.intp],
    class_names: Sequence[str],
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.bool_]]:
    """Cut units into parts at ascending ``edges`` of their hashes, with every class in every part."""
    # units and classes are pairs, each once: the unit has images of the class; returns part, and whether moved, by unit
    parts = np.searchsorted(np.asarray(edges), hashes, side="right").astype(np.intp)
    natural = parts.copy()
    counts = np.zeros((len(class_names), len(edges) + 1), np.intp)
    np.add.at(counts, (classes, parts[units]), 1)
    if counts.all():
        return parts, parts != natural
    bounds = [0.0, *edges, 1.0]
    classes_of: dict[int, list[int]] = defaultdict(list)
    for unit, label in zip(units.tolist(), classes.tolist(), strict=True):
        classes_of[unit].append(label)
    for label, part in np.argwhere(counts == 0).tolist():
        if counts[label, part]:  # a unit of several classes was moved here
            continue
        members = units[classes == label].tolist()
        # a unit that leaves a part must not be the last of any of its classes there
        free = [unit for unit in members if (counts[classes_of[unit], parts[unit]] > 1).all()]
        if not free:
            raise SplitError(
                f"class {display(class_names[label])} cannot be in every part: its groups also hold other classes, and "
                "moving them would remove those. Ask for fewer folds, another seed, or give a split file"
            )
        nearest = min(free, key=lambda unit: (max(bounds[part] - hashes[unit], hashes[unit] - bounds[part + 1]), unit))
        counts[classes_of[nearest], parts[nearest]] -= 1
        counts[classes_of[nearest], part] += 1
        parts[nearest] = part
    return parts, parts != natural
