"""Measure accuracy and speed of the search for near-duplicates. Each part runs if its option is given.

    python benchmarks/groups.py CACHE --truth FILE_OR_FOLDER... [--images DIR | --signatures FILE.npy] [--json FILE]
        [--signatures-only]
    python benchmarks/groups.py --augmented [--signatures-only] [--photographs DIR] [--weights random:0] [--alpha 0.35]
        [--image-size 96]
    python benchmarks/groups.py --plain
    python benchmarks/groups.py CACHE --stages 1000,15000
    python benchmarks/groups.py --rows 100000

- ``CACHE --truth``: groups of a cache compared with true ones (CSV files ``path,group``), for each class with true
  groups. *Precision at k* is the fraction of true siblings among the first k candidates of an image: of the neighbours
  by features alone, and of the same neighbours in the order of their centred polar correlation. *Leak* is the fraction
  of test images with a true sibling in training, the mean over 3 seeds of 5 folds, for grouped and random folds.
- ``--augmented``: disjoint 96-pixel tiles of photographs (scikit-learn's two by default), each with 8 near-duplicates
  made by augmentation, embedded and searched. *Recall* is the fraction of near-duplicates in the group of their
  original. Doubtful pairs are verified on the images unless ``--signatures-only`` is given.
- ``--plain``: sets without near-duplicates, in which nothing should be grouped: the tiles alone, with and without
  verification on the images, and scikit-learn's digits with pixels as features, by class and without classes.
- ``--stages``: wall and processor seconds of each stage among so many images of a cache, chosen at random, with the
  pictures that are read, and of another search after 100 of them were added. Processor seconds are those that matter on
  a busy machine. *Verification* is part of the stages above it, and is summed over threads.
- ``--rows``: generated signatures and features of that many images, a fifth of them near-duplicates, for time and
  memory.

Seconds are those of the search, without reading pictures. Memory is the peak of the process, so that only the first
part has a separate peak.
"""

from __future__ import annotations

import argparse
import io
import json
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from embedonce.cache import FeatureCache
from embedonce.evaluate.duplicates import log_polar as polar
from embedonce.evaluate.duplicates.gray_images import Pictures, pictures_of
from embedonce.evaluate.duplicates.neighbors import Neighbors, nearest_neighbors
from embedonce.evaluate.duplicates.search import NEIGHBORS, Duplicates, find_duplicates
from embedonce.evaluate.duplicates.thumbnails import PIXELS, SIDE, Thumbnails
from embedonce.evaluate.splits.groups import name_groups, read_group_names
from embedonce.evaluate.splits.plan import make_splits
from embedonce.extract import cpu_count
from PIL import Image, ImageEnhance, ImageOps
from rich.console import Console
from rich.table import Table
from scipy import ndimage

SEEDS = 3
TILE = 96
WIDTH = 1280
KINDS = ("rotation", "rotation back", "flip", "upside down", "crop", "crop off centre", "JPEG", "brightness")

Rows = npt.NDArray[np.intp]
Signatures = npt.NDArray[np.uint8]


class Generated:
    """Features that are made when they are read, with the interface of a cache for the search of neighbours."""

    def __init__(self, originals: Rows) -> None:
        self.originals = originals
        self.shape = (len(originals), WIDTH)
        generator = np.random.default_rng(0)
        self.codes = generator.normal(size=(int(originals.max()) + 1, 64)).astype(np.float32)
        self.mixing = generator.normal(size=(64, WIDTH)).astype(np.float32) / 8

    def __len__(self) -> int:
        return len(self.originals)

    def __getitem__(self, rows: slice) -> npt.NDArray[np.float32]:
        """Return the features of some rows: those of the original and noise."""
        originals = self.originals[rows]
        noise = np.random.default_rng(rows.start).standard_normal((len(originals), WIDTH), np.float32)
        features: npt.NDArray[np.float32] = self.codes[originals] @ self.mixing + 0.3 * noise
        return features


class Stored:
    """Features in memory."""

    def __init__(self, features: npt.NDArray[np.float32]) -> None:
        self.features = features
        self.shape = features.shape

    def __len__(self) -> int:
        return len(self.features)

    def __getitem__(self, rows: slice) -> npt.NDArray[np.float32]:
        """Return the features of some rows."""
        return self.features[rows]


def search(
    source: Any,
    signatures: Signatures,
    hashes: npt.NDArray[np.uint8],
    labels: npt.NDArray[np.integer],
    pictures: Pictures | None = None,
) -> tuple[Duplicates, Neighbors, dict[str, float]]:
    """Find the groups and measure time and memory."""
    begin = time.perf_counter()
    neighbors = nearest_neighbors(source, NEIGHBORS)
    middle, middle_peak = time.perf_counter(), peak_megabytes()
    found = find_duplicates(signatures, neighbors, hashes, labels, pictures=pictures)
    sizes = np.bincount(found.groups)
    cost = {
        "images": len(signatures),
        "seconds": time.perf_counter() - begin,
        "seconds_neighbors": middle - begin,
        "peak_megabytes": peak_megabytes(),
        "peak_megabytes_neighbors": middle_peak,
        "groups": len(sizes),
        "largest": int(sizes.max()),
        "share_grouped": float(sizes[sizes > 1].sum() / len(signatures)),
        "threshold": found.thresholds.centred,
        "threshold_shifted": found.thresholds.shifted,
        "threshold_on_images": None if pictures is None else found.thresholds.images,
        "accepted_on_images": len(found.verified.first),
        "rejected_on_images": len(found.rejected.first),
        "pairs_tested": found.tested,
        "without_structure": found.flat,
    }
    return found, neighbors, cost


def peak_megabytes() -> float:
    """Return the peak memory of this process."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1 << 20 if sys.platform == "darwin" else 1 << 10)


def different_hashes(count: int) -> npt.NDArray[np.uint8]:
    """Return hashes of files that all differ."""
    return np.random.default_rng(1).integers(0, 256, (count, 32), np.uint8)


def with_truth(
    cache: FeatureCache, signatures: Signatures, files: list[Path], pictures: Pictures | None
) -> dict[str, Any]:
    """Compare the groups found in a cache with true ones, class by class."""
    from sklearn.metrics import adjusted_rand_score, fowlkes_mallows_score

    found, neighbors, cost = search(cache, signatures, cache.files.hashes, cache.labels, pictures)
    named: dict[str, str] = {}
    for file in files:
        named |= read_group_names(file)
    known = np.array([path in named for path in cache.paths])
    numbers = {name: number for number, name in enumerate(sorted(set(named.values())))}
    truth = np.array([numbers[named[path]] if path in named else -1 for path in cache.paths])
    leaks = leak_fractions(cache, found.groups, truth)
    reranked = by_polar_correlation(signatures, neighbors, np.flatnonzero(known))
    classes = {}
    for label, name in enumerate(cache.class_names):
        rows = np.flatnonzero(known & (cache.labels == label))
        if not len(rows):
            continue
        sizes = np.bincount(np.unique(found.groups[rows], return_inverse=True)[1])
        classes[name] = {
            "images": len(rows),
            "precision_1": precision(truth, rows, neighbors.rows, 1),
            "precision_10": precision(truth, rows, neighbors.rows, 10),
            "precision_1_polar": precision(truth, rows, reranked, 1),
            "precision_10_polar": precision(truth, rows, reranked, 10),
            "adjusted_rand": float(adjusted_rand_score(truth[rows], found.groups[rows])),
            "fowlkes_mallows": float(fowlkes_mallows_score(truth[rows], found.groups[rows])),
            "groups": len(sizes),
            "true_groups": len(np.unique(truth[rows])),
            "largest": int(sizes.max()),
            "leak_grouped": leaks["grouped"][label],
            "leak_random": leaks["random"][label],
        }
    return {"cost": cost, "classes": classes}


def precision(truth: Rows, rows: Rows, candidates: Rows, first: int) -> float:
    """Return the fraction of true siblings among the first candidates, of as many as an image can have."""
    siblings = np.bincount(truth[rows])[truth[rows]] - 1
    hits = (truth[candidates[rows, :first]] == truth[rows, None]).sum(1)
    some = siblings > 0
    return float(np.mean(hits[some] / np.minimum(siblings[some], first)))


def by_polar_correlation(signatures: Signatures, neighbors: Neighbors, rows: Rows) -> Rows:
    """Return the neighbours in the order of their correlation about the centre."""
    spectra = polar.ring_spectra(Thumbnails(signatures))
    ordered = neighbors.rows.copy()
    for row in rows.tolist():
        score = polar.correlate(spectra, row, neighbors.rows[row]).score
        ordered[row] = neighbors.rows[row][np.argsort(-score, kind="stable")]
    return ordered


def leak_fractions(cache: FeatureCache, groups: Rows, truth: Rows) -> dict[str, list[float]]:
    """Return the fraction of each class's test images that have a true sibling in training, by kind of folds."""
    fractions: dict[str, list[float]] = {}
    for name, kept in (("grouped", name_groups(cache, groups, "found")), ("random", None)):
        leaked = np.zeros(len(cache))
        for seed in range(SEEDS):
            for fold in make_splits(cache, name, seed, kept, 5):
                leaked[fold.test] += (truth[fold.test] >= 0) & np.isin(truth[fold.test], truth[fold.train])
        classes = [(truth >= 0) & (cache.labels == label) for label in range(len(cache.class_names))]
        fractions[name] = [float(leaked[rows].sum() / SEEDS / max(1, rows.sum())) for rows in classes]
    return fractions


def tiles(folder: Path | None) -> list[Image.Image]:
    """Return disjoint tiles of photographs: those of a folder, or scikit-learn's two."""
    if folder is not None:
        pictures = []
        for path in sorted(folder.rglob("*")):
            if path.suffix.lower() in (".jpg", ".jpeg", ".png", ".bmp"):
                with Image.open(path) as opened:
                    pictures.append(opened.convert("RGB"))
    else:
        from sklearn.datasets import load_sample_images

        pictures = [Image.fromarray(pixels) for pixels in load_sample_images().images]
    return [
        picture.crop((left, top, left + TILE, top + TILE))
        for picture in pictures
        for top in range(0, picture.height - TILE + 1, TILE)
        for left in range(0, picture.width - TILE + 1, TILE)
    ]


def augmented(tile: Image.Image, generator: np.random.Generator) -> list[Image.Image]:
    """Return a near-duplicate of every kind of ``KINDS``."""
    angles = generator.uniform(5, 25, 2)
    inner = TILE * 4 // 5
    left, top = generator.integers(0, TILE - inner + 1, 2).tolist()
    file = io.BytesIO()
    tile.save(file, "JPEG", quality=30)
    middle = (TILE - inner) // 2
    return [
        rotated(tile, angles[0]),
        rotated(tile, -angles[1]),
        ImageOps.mirror(tile),
        ImageOps.flip(tile),
        tile.crop((middle, middle, middle + inner, middle + inner)).resize((TILE, TILE), Image.Resampling.BICUBIC),
        tile.crop((left, top, left + inner, top + inner)).resize((TILE, TILE), Image.Resampling.BICUBIC),
        Image.open(file).convert("RGB"),
        ImageEnhance.Brightness(tile).enhance(generator.choice([0.8, 1.2])),
    ]


def rotated(tile: Image.Image, angle: float) -> Image.Image:
    """Return a tile rotated and cropped so far that no corner is empty."""
    radians = np.deg2rad(abs(angle))
    inner = TILE / (np.cos(radians) + np.sin(radians))
    edge = (TILE - inner) / 2
    whole = tile.rotate(angle, Image.Resampling.BICUBIC)
    return whole.resize((TILE, TILE), Image.Resampling.BICUBIC, box=(edge, edge, TILE - edge, TILE - edge))


def embedded(
    pictures: list[Image.Image], versions: int, options: argparse.Namespace
) -> tuple[npt.NDArray[np.float32], Signatures, npt.NDArray[np.uint8], npt.NDArray[np.int32]]:
    """Write pictures, embed them, and return features, signatures, hashes and labels in the pictures' order.

    Every other original, with its ``versions``, is in the second of two classes: a folder must have two.
    """
    import embedonce
    from embedonce.evaluate.duplicates.signatures import signatures_of

    with tempfile.TemporaryDirectory() as folder:
        images = Path(folder) / "images"
        for number, picture in enumerate(pictures):
            path = images / str(number // versions % 2) / f"{number:06d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            picture.save(path)
        recipe = {"weights": options.weights, "alpha": options.alpha, "image_size": options.image_size}
        with embedonce.extract_features(images, Path(folder) / "cache.h5", **recipe) as cache:
            order = np.argsort([Path(path).name for path in cache.paths])
            assert len(order) == len(pictures), "every picture is embedded"
            signatures = signatures_of(cache, images)
            return cache.features[order], signatures[order], cache.files.hashes[order], cache.labels[order]


def generated_near_duplicates(options: argparse.Namespace) -> dict[str, Any]:
    """Search generated near-duplicates."""
    originals = tiles(options.photographs)
    generator = np.random.default_rng(0)
    pictures = [picture for tile in originals for picture in (tile, *augmented(tile, generator))]
    step = 1 + len(KINDS)
    features, *further = embedded(pictures, step, options)
    shown = None if options.signatures_only else Pictures(lambda row: np.asarray(pictures[row].convert("RGB")))
    found, _, cost = search(Stored(features), *further, shown)
    truth = np.arange(len(pictures)) // step
    together = found.groups[:, None] == found.groups
    alike = truth[:, None] == truth
    np.fill_diagonal(together, False)
    recall = {
        kind: float(np.mean(found.groups[place::step] == found.groups[::step])) for place, kind in enumerate(KINDS, 1)
    }
    return {
        "cost": cost,
        "originals": len(originals),
        "recall": float(np.mean(list(recall.values()))),
        "precision": float((together & alike).sum() / max(1, together.sum())),
        "recall_by_kind": recall,
    }


def plain_sets(options: argparse.Namespace) -> dict[str, Any]:
    """Search sets without near-duplicates."""
    from sklearn.datasets import load_digits

    photographs = tiles(options.photographs)
    features, *further = embedded(photographs, 1, options)
    shown = Pictures(lambda row: np.asarray(photographs[row]))
    sets = {
        "tiles": search(Stored(features), *further, shown)[2],
        "tiles, signatures": search(Stored(features), *further)[2],
    }
    pixels, labels = load_digits(return_X_y=True)
    large = np.kron(pixels.reshape(-1, 8, 8), np.ones((4, 4)))[:, 2:-2, 2:-2] * 15.9
    signatures = large.round().astype(np.uint8).reshape(-1, PIXELS)
    source = Stored(pixels.astype(np.float32))
    for name, classes in (("digits", labels), ("digits, one class", np.zeros_like(labels))):
        sets[name] = search(source, signatures, different_hashes(len(labels)), classes)[2]
    return sets


class Stopwatch:
    """Wall and processor seconds of functions, by name."""

    def __init__(self) -> None:
        self.seconds: dict[str, list[float]] = {}

    def wrap(self, owner: Any, function: str, name: str | Callable[..., str], threads: bool = False) -> None:
        """Time each call of a function; one that runs in threads by the processor time of its thread."""
        original, clock = getattr(owner, function), time.thread_time if threads else time.process_time

        def timed(*values: Any, **options: Any) -> Any:
            begin, processor = time.perf_counter(), clock()
            result = original(*values, **options)
            spent = self.seconds.setdefault(name if isinstance(name, str) else name(*values), [0.0, 0.0])
            spent[0] += time.perf_counter() - begin
            spent[1] += clock() - processor
            return result

        setattr(owner, function, timed)


def by_stage(cache: FeatureCache, sizes: list[int]) -> dict[str, dict[str, Any]]:
    """Return wall and processor seconds of each stage, for some numbers of images."""
    from embedonce.evaluate.duplicates import find, pair_tests
    from embedonce.evaluate.duplicates.search import _Search

    watch = Stopwatch()
    watch.wrap(find, "nearest_neighbors", "neighbours by features")
    watch.wrap(_Search, "_centred_candidates", "correlation about the centre")
    watch.wrap(pair_tests.PairTests, "thresholds", "thresholds")
    watch.wrap(_Search, "_link", lambda _search, _candidates, _test, _threshold, stage, _failures: f"pairs, {stage}")
    watch.wrap(_Search, "_lonely_candidates", "candidates of lone images")
    watch.wrap(pair_tests, "verify", "verification, in threads", threads=True)
    watch.wrap(find, "_search", "all")
    table: dict[str, dict[str, Any]] = {}
    for size in sizes:
        order = np.random.default_rng(0).permutation(len(cache))[:size]
        whole, fewer = cache.select(np.sort(order)), cache.select(np.sort(order[:-100]))
        with tempfile.TemporaryDirectory() as folder:
            whole.path = fewer.path = Path(folder) / "cache.h5"
            for added, searched in ((False, fewer), (True, whole)):
                watch.seconds.clear()
                searched.signatures  # read before the search  # noqa: B018
                tested = find.find_near_duplicates(searched).to_dict()
                column = table[f"to {len(searched):,}: 100" if added else f"{len(searched):,}"] = {}
                column |= {name: tuple(seconds) for name, seconds in watch.seconds.items()}
                column |= {"pairs tested": tested["pairs_tested"], "groups": tested["groups"]}
    return table


def at_scale(rows: int) -> dict[str, Any]:
    """Search generated images, a fifth of them near-duplicates of others."""
    generator = np.random.default_rng(0)
    first_copy = rows - rows // 5
    originals = np.arange(rows)
    originals[first_copy:] = generator.integers(0, first_copy, rows - first_copy)
    signatures = np.empty((rows, PIXELS), np.uint8)
    for start in range(0, first_copy, 4096):
        count = min(4096, first_copy - start)
        noise = generator.standard_normal((count, SIDE, SIDE), np.float32)
        signatures[start : start + count] = as_bytes(sum(smooth(noise, sigma) for sigma in (0.7, 1.4, 2.8)))
    for row in range(first_copy, rows):
        picture = signatures[originals[row]].reshape(SIDE, SIDE)
        angle, mirror = generator.uniform(-25, 25), generator.integers(2)
        signatures[row] = turned_thumbnail(picture[:, ::-1] if mirror else picture, angle).ravel()
    found, _, cost = search(Generated(originals), signatures, different_hashes(rows), np.zeros(rows, np.int32))
    joined = found.groups[first_copy:] == found.groups[originals[first_copy:]]
    true_sizes = np.bincount(originals)
    joined_wrongly = len(true_sizes[true_sizes > 0]) - len(np.unique(found.groups[:first_copy]))
    return {"cost": cost, "recall": float(joined.mean()), "originals_joined": int(joined_wrongly)}


def smooth(noise: npt.NDArray[np.float32], sigma: float) -> npt.NDArray[np.float32]:
    """Return blurred noise of unit deviation."""
    blurred: npt.NDArray[np.float32] = ndimage.gaussian_filter(noise, (0, sigma, sigma), mode="wrap")
    return blurred / blurred.std()


def as_bytes(pictures: Any) -> Signatures:
    """Return pictures as signatures of medium contrast."""
    scaled = 128 + 40 * pictures / pictures.std()
    return scaled.clip(0, 255).round().astype(np.uint8).reshape(len(pictures), PIXELS)


def turned_thumbnail(picture: npt.NDArray[np.uint8], angle: float) -> npt.NDArray[np.uint8]:
    """Return a small picture rotated and cropped so far that no corner is empty."""
    cosine, sine = np.cos(np.deg2rad(angle)), np.sin(np.deg2rad(angle))
    matrix = np.array([[cosine, sine], [-sine, cosine]]) / (abs(cosine) + abs(sine))
    middle = np.full(2, (SIDE - 1) / 2)
    moved: npt.NDArray[np.uint8] = ndimage.affine_transform(picture, matrix, middle - matrix @ middle, order=1)
    return moved


def truth_files(places: list[Path]) -> list[Path]:
    """Return the files of a list of files and folders."""
    return [file for place in places for file in (sorted(place.glob("*.csv")) if place.is_dir() else [place])]


def show(title: str, table: dict[str, dict[str, Any]]) -> None:
    """Print one column for each entry."""
    shown = Table(title=title)
    shown.add_column("measured")
    for name in table:
        shown.add_column(name, justify="right")
    for key in max(table.values(), key=len):
        values = [table[name].get(key) for name in table]
        shown.add_row(key.replace("_", " "), *map(cell, values))
    Console().print(shown)


def cell(value: Any) -> str:
    """Return a number, or wall and processor seconds, as text."""
    if isinstance(value, tuple):
        return "  ".join(f"{seconds:.2f}" for seconds in value)
    return "-" if value is None else f"{value:,.4f}" if isinstance(value, float) else f"{value:,}"


def main() -> None:
    """Measure, print tables, and write JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cache", type=Path, nargs="?")
    parser.add_argument("--truth", type=Path, nargs="+", default=[])
    parser.add_argument("--images", type=Path, help="folder of the images, for a cache without signatures")
    parser.add_argument("--signatures", type=Path, help="uint8 array of the cache's rows, for the same")
    parser.add_argument("--augmented", action="store_true")
    parser.add_argument("--plain", action="store_true")
    parser.add_argument("--photographs", type=Path)
    parser.add_argument("--weights", default="random:0")
    parser.add_argument("--alpha", type=float, default=0.35)
    parser.add_argument("--image-size", type=int, default=TILE)
    parser.add_argument("--signatures-only", action="store_true", help="verify no pair on the images")
    parser.add_argument("--rows", type=int)
    parser.add_argument("--stages", type=lambda text: [int(size) for size in text.split(",")])
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    if not (options.cache or options.augmented or options.plain or options.rows):
        parser.error("name a cache with --truth, or ask for --augmented, --plain or --rows")
    if options.cache and not (options.truth or options.stages):
        parser.error("a cache needs --truth or --stages")

    result: dict[str, Any] = {"processors": cpu_count()}
    if options.cache and options.stages:
        result["stages"] = by_stage(FeatureCache.open(options.cache), options.stages)
        show("wall and processor seconds", result["stages"])
    if options.cache and options.truth:
        cache = FeatureCache.open(options.cache)
        if options.signatures:
            signatures = np.load(options.signatures).reshape(len(cache), PIXELS)
        else:
            from embedonce.evaluate.duplicates.signatures import signatures_of

            signatures = signatures_of(cache, options.images)
        pictures = None if options.signatures_only else pictures_of(cache, options.images)
        result["truth"] = with_truth(cache, signatures, truth_files(options.truth), pictures)
        show("finding", {"all": result["truth"]["cost"]})
        show("against the truth", result["truth"]["classes"])
    parts: list[tuple[str, bool, Callable[[], dict[str, Any]]]] = [
        ("near-duplicates", options.augmented, lambda: generated_near_duplicates(options)),
        ("plain", options.plain, lambda: plain_sets(options)),
        ("rows", bool(options.rows), lambda: at_scale(options.rows)),
    ]
    for name, asked, measure in parts:
        if not asked:
            continue
        result[name] = measure()
        if name == "plain":
            show("sets without near-duplicates", result[name])
            continue
        show(name, {"all": {key: value for key, value in result[name].items() if not isinstance(value, dict)}})
        show("finding", {"all": result[name]["cost"]})
        if "recall_by_kind" in result[name]:
            show("recall", {"near-duplicates": result[name]["recall_by_kind"]})
    if options.json:
        options.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
