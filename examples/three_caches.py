"""Compare the same heads on the same split of three caches, with images of 96, 160 and 224 pixels.

    python examples/three_caches.py IMAGES [--output FOLDER] [--weights imagenet|FILE|random:SEED] [--alpha 1.0]

Each cache is made once; a second run, with other heads or another seed, only trains the heads. Near-duplicates are
found in the first cache, and their groups are used for all: the groups that each cache finds by itself can differ. All
caches are then tested on the same images, and differences between them can be tested image by image.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import embedonce as eo

HEADS = ["logreg", "svm", "softmax"]


def main():
    """Embed, compare and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("images")
    parser.add_argument("--output", type=Path, default=Path("runs/three-caches"))
    parser.add_argument("--weights", default="imagenet")
    parser.add_argument("--alpha", type=float, default=1.0)
    parser.add_argument("--sizes", type=int, nargs="+", default=[96, 160, 224])
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    groups, notes = None, {}
    print(f"{'pixels':>6}  {'head':<8} {'accuracy':>8}  95 % interval   log loss  fit s")
    for size in options.sizes:
        cache = eo.extract_features(
            options.images,
            options.output / f"{size}.h5",
            weights=options.weights,
            alpha=options.alpha,
            image_size=size,
        )
        if groups is None:
            groups = eo.find_groups(cache).groups
            groups.save(options.output / "groups.csv")
        comparison = eo.compare(cache, HEADS, groups=groups, seed=options.seed)
        notes.update(dict.fromkeys(comparison.notes))
        comparison.save(options.output / str(size))
        for result in comparison.results:
            low, high = result.intervals["accuracy"]
            scores = result.scores
            print(
                f"{size:>6}  {result.name:<8} {scores['accuracy']:>8.3f}  {low:.3f} to {high:.3f}  "
                f"{scores['log_loss']:>8.3f}  {result.fit_seconds:>5.2f}"
            )
    for note in notes:
        print(f"Note: {note}.")
    print(f"Image by image: embedonce diff {options.output / str(options.sizes[0])} {options.output / str(size)}")


if __name__ == "__main__":
    main()
