"""Training and validation images of a fine-tuning, taken from the training images of its initial model."""

from __future__ import annotations

from collections import Counter, defaultdict

import numpy as np
import numpy.typing as npt

from ...cache import FeatureCache, counted, display
from ...errors import ModelFileError, SplitError
from ..models import ModelFile, short_hashes
from ..splits import Groups, assign_parts, hash_to_unit_interval

VALIDATION_FRACTION = 0.2

Indices = npt.NDArray[np.intp]


def training_rows(cache: FeatureCache, model: ModelFile) -> tuple[Indices, list[str]]:
    """Return the rows of a cache that a model was trained on, sorted, and notes on missing images."""
    # A model knows the content of its training images, not their paths. Of several files of one content, as many as
    # were trained on; where their labels differ and not all of them were, none, since it cannot be said which.
    counts = Counter(model.training_hashes)
    if not counts:
        raise ModelFileError(
            f"{model.name} does not say which images it was trained on. Train it with embedonce train, then export "
            "it again"
        )
    rows_of: dict[bytes, list[int]] = defaultdict(list)
    for row, content in enumerate(short_hashes(cache)):
        rows_of[content].append(row)
    rows: list[int] = []
    unclear = 0
    for content, count in counts.items():
        candidates = rows_of.get(content, [])
        if len(candidates) > count and len(set(cache.labels[candidates].tolist())) > 1:
            unclear += count
        else:
            rows += candidates[:count]
    if not rows:
        raise ModelFileError(
            f"{model.name} was trained on none of the images of {cache.display_path}; give the cache that it was "
            "trained on with --cache CACHE"
        )
    notes = []
    missing = sum(counts.values()) - len(rows) - unclear
    if missing:
        total = sum(counts.values())
        notes.append(f"{missing:,} of the {total:,} images that {model.name} was trained on are not there")
    if unclear:
        notes.append(counted(unclear, "image(s) (is|are) left out, since files of the same content have other labels"))
    return np.sort(np.array(rows, np.intp)), notes


def hold_out(cache: FeatureCache, rows: Indices, groups: Groups | None, seed: int) -> tuple[Indices, Indices]:
    """Return the sorted rows to train on and to validate on, about a fifth, with every class in both."""
    # groups stay together; without groups, only files of the same content do
    if groups is not None:
        groups.require_rows_of(cache)
        names = [groups.names[row] for row in rows]
    else:
        names = [cache.files.hashes[row].tobytes().hex() for row in rows]
    keys, unit_of_row = np.unique(np.array(names, object), return_inverse=True)
    labels = cache.labels[rows].astype(np.intp)
    present, codes = np.unique(labels, return_inverse=True)
    pairs = np.unique(np.stack([unit_of_row, codes], axis=1), axis=0)
    counts = np.bincount(pairs[:, 1], minlength=len(present)).tolist()
    small = [
        f"{display(cache.class_names[label])} has {count}"
        for label, count in zip(present.tolist(), counts, strict=True)
        if count < 2
    ]
    if small:
        raise SplitError(
            f"validation needs at least 2 {'images' if groups is None else 'groups'} in every class among the training "
            f"images, but {', '.join(small)}; add images, or start from a model that was trained on more of them"
        )
    class_names = [cache.class_names[label] for label in present.tolist()]
    # repeat -1 is of no split, so that the draw is independent of the one that made the training part
    where = hash_to_unit_interval(keys.tolist(), seed, -1)
    parts, _ = assign_parts(where, [VALIDATION_FRACTION], pairs[:, 0], pairs[:, 1], class_names)
    of_row = parts[unit_of_row]
    return rows[of_row == 1], rows[of_row == 0]
