"""The folds that a search scores on, and the growing shares of their training images.

Both come from names and the seed alone, as splits do: see :mod:`embedonce.evaluate.splits.stable_hash`.
"""

from __future__ import annotations

FOLDS = 5  # of a search, when nothing is said
ETA = 3  # a rung has this many times the images of the one before, and this share of its candidates
RUNGS = 3
FINALISTS = 3  # at least as many go on: the order on few images is not the order on all
SMALLEST = 200  # images that a fit of the first rung must have, so that parameters that suit many images survive


def rung_shares(images: int, classes: int, trials: int) -> list[float]:
    """Return the share of the training images that each rung has, ascending; the last is 1.

    There is another rung before as long as it has images enough, and more candidates than go on anyway.
    """
    least = max(SMALLEST, 20 * classes)
    rungs = 1
    while rungs < RUNGS and images / ETA**rungs >= least and trials / ETA ** (rungs - 1) > FINALISTS + 1:
        rungs += 1
    return [1 / ETA**number for number in reversed(range(rungs))]
