"""Which part of a split an image or a group belongs to, such that it stays there.

A split is stable when adding images moves no old one. Let f(S) be the parts of the images S. Stable means that an image
x is in the same part of every f(S) that has it, so also of f({x}): the part of x can depend on x and the seed alone,
and on nothing that the others do. A pure function of the name is thus not one way of many, it is the only one. What
it costs is exact proportions: with n units (images or groups) of a class, the share of a part of probability p has a
standard deviation of sqrt(p (1 - p) / n), for 80/20 that is 0.04 of 100 images and 0.004 of 10,000. Every class has
the same expected share, which is all the stratification that stability leaves room for.

This is why no splitter of scikit-learn is used here: StratifiedKFold, GroupKFold, StratifiedGroupKFold and
train_test_split balance by looking at all images, so that one more shuffles the others.

The same argument shows that no stable split has every class in every part: of three images, two share a side, and a
split of these two alone had to part them. Classes are kept in every part all the same, since scores without them are
worth little. Where a hash leaves a class out of a part, which at 80/20 happens to one class in 90 of 20 images
and to one in 70,000 of 50, the unit that was nearest to the part is moved into it. Only such moved units may go back
when images are added; all others stay.
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
    """Return a number for every key that looks uniformly distributed and depends on nothing but key and seed.

    Parameters
    ----------
    keys : sequence of str, length n
        Names of images or groups.
    seed, repeat : int

    Returns
    -------
    ndarray of float64, shape (n,)
        From 0 to below 1: the first 53 bits of the SHA-256 of ``SEED/REPEAT``, a zero byte and the key's bytes.
    """
    start = hashlib.sha256(f"{seed}/{repeat}\0".encode())
    numbers = np.empty(len(keys), np.float64)
    for position, key in enumerate(keys):
        digest = start.copy()
        digest.update(key.encode("utf-8", "surrogateescape"))
        numbers[position] = (int.from_bytes(digest.digest()[:8], "big") >> 11) / 2**53
    return numbers


def assign_parts(
    where: npt.NDArray[np.float64],
    edges: Sequence[float],
    units: npt.NDArray[np.intp],
    classes: npt.NDArray[np.intp],
    class_names: Sequence[str],
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.bool_]]:
    """Cut the units into parts by their places, and keep every class in every part.

    Parameters
    ----------
    where : ndarray of float64, shape (m,)
        Of the units, from :func:`hash_to_unit_interval`.
    edges : sequence of float, length k - 1
        Ascending, between 0 and 1: where the parts meet.
    units, classes : ndarray of intp, shape (p,)
        Pairs, each once: the unit has images of the class.
    class_names : sequence of str

    Returns
    -------
    parts : ndarray of intp, shape (m,)
        From 0 to k - 1.
    moved : ndarray of bool, shape (m,)
        Units that are elsewhere than their place says, because a class was missing from a part.

    Raises
    ------
    SplitError
        When a class cannot be in every part.
    """
    parts = np.searchsorted(np.asarray(edges), where, side="right").astype(np.intp)
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
        if counts[label, part]:  # a unit of several classes has come meanwhile
            continue
        members = units[classes == label].tolist()
        # what leaves a part must not be the last of any of its classes there
        free = [unit for unit in members if (counts[classes_of[unit], parts[unit]] > 1).all()]
        if not free:
            raise SplitError(
                f"class {display(class_names[label])} cannot be in every part: its groups also hold other classes, and "
                "moving them would take those away; ask for fewer folds, take another seed, or give a split file"
            )
        nearest = min(free, key=lambda unit: (max(bounds[part] - where[unit], where[unit] - bounds[part + 1]), unit))
        counts[classes_of[nearest], parts[nearest]] -= 1
        counts[classes_of[nearest], part] += 1
        parts[nearest] = part
    return parts, parts != natural
