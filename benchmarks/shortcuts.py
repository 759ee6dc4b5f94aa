"""False alarms and power of the shortcut audit of compare.

Sets without a shortcut have values of files and pictures that are equal within a group of images, and drawn without
regard to the class. In the others, the values of one family name the class with the probability of the first column.

    python benchmarks/shortcuts.py --repeats 200
"""

from __future__ import annotations

import argparse
from unittest import mock

import embedonce as eo
import numpy as np
from embedonce.evaluate.comparison import shortcuts
from embedonce.evaluate.comparison.shortcut_families import Families, _one_hot


def audit(seed: int, images: int, classes: int, per_group: int, signal: float, known: float, skew: bool):
    """Return the audit of a drawn set: features have this signal, and the camera names the class this often."""
    generator = np.random.default_rng(seed)
    groups = images // per_group
    frequencies = np.r_[4, np.ones(classes - 1)] if skew else np.ones(classes)
    of_group = generator.permutation(np.arange(groups) % classes)
    if skew:
        of_group = generator.choice(classes, groups, p=frequencies / frequencies.sum())
    ids = np.repeat(np.arange(groups), per_group)
    labels = of_group[ids]
    noise = generator.normal(size=(groups, 16))[ids] + generator.normal(size=(len(ids), 16))
    features = noise.astype(np.float32)
    features[np.arange(len(ids)), labels % 16] += signal
    cache = eo.FeatureCache.from_arrays(features, [f"class{label:02d}" for label in labels])

    def families_of(cache, rows):
        families = Families()

        def shared(width: int):
            return (generator.normal(size=(groups, width))[ids] + 0.3 * generator.normal(size=(len(ids), width)))[rows]

        camera = np.where(generator.random(groups) < known, of_group, generator.integers(0, classes, groups))[ids]
        families.add("file format", _one_hot(generator.choice(["JPEG", "PNG"], groups)[ids][rows].tolist()))
        families.add("camera and software", _one_hot([str(one) for one in camera[rows]]))
        for name, width in (("image size and aspect", 4), ("file size", 1), ("bytes per pixel", 1), ("border", 28)):
            families.add(name, shared(width))
        families.add("mean brightness", shared(1))
        families.add("8 x 8 thumbnail", shared(64))
        return families

    with mock.patch.object(shortcuts, "families_of", families_of):
        compared = eo.compare(
            cache, ["logreg"], split="grouped", groups=[f"g{one}" for one in ids], seed=seed, shortcuts=True
        )
    return compared.shortcuts


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=100)
    parser.add_argument("--known", type=float, nargs="+", default=[0.0, 0.5, 0.98])
    options = parser.parse_args()
    repeats = options.repeats
    print(f"{'images':>7}{'classes':>9}{'a group':>9}{'skewed':>8}{'known':>7}{'head':>7}{'family':>8}{'alarms':>8}")
    for known in options.known:
        for images, classes, per_group in ((300, 2, 1), (300, 3, 5), (2000, 3, 10), (2000, 20, 4)):
            for signal, skew in ((0.0, False), (3.0, False), (3.0, True))[: 3 if classes < 20 else 2]:
                audits = [audit(seed, images, classes, per_group, signal, known, skew) for seed in range(repeats)]
                heads = np.mean([one.best for one in audits])
                best = np.mean([one.scores[0].score for one in audits])
                alarms = np.mean([bool(one.findings) for one in audits])
                print(
                    f"{images:7,}{classes:9}{per_group:9}{'yes' if skew else 'no':>8}{known:7}{heads:7.2f}{best:8.2f}"
                    f"{100 * alarms:6.1f} %",
                    flush=True,
                )


if __name__ == "__main__":
    main()
