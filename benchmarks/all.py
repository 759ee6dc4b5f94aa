"""Measure the speed of everything in one run of three to six minutes, with ratios, and print one table.

    python benchmarks/all.py IMAGES --weights FILE [--count 4000] [--cache CACHE] [--groups FILE] [--only PART,PART]
        [--json FILE]

The parts are short forms of the other benchmarks, whose docstrings say how each figure is measured:

- ``engines``: the engines in memory and the matrix product of NumPy, alternately (`extraction.py`), and whether
  features have the same bits for vectors of all widths;
- ``extraction``: whole processes of ``embedonce extract`` on ``--count`` of the images, before and after Keras's own
  pipeline;
- ``photographs``: the same from photographs of 12 megapixels, and what their decoding takes;
- ``near-duplicates``: wall seconds of the search among 1,000 images and all, and after 100 were added (`groups.py`);
- ``comparisons``: three heads on 300 images with given groups: wall seconds from the start of the process to the table,
  and processor seconds; those of a [grid] for each comparison beyond its fits; and three heads on all images
  (`comparison.py`);
- ``heads``: every head and its baseline, with all threads of BLAS and with one (`heads.py`).

Near-duplicates and comparisons use ``--cache`` and its ``--groups``, by default the cache that the second part made and
the groups that are found in it. The last column is what embedonce is meant to reach.
The title names the processor that BLAS was made for; OPENBLAS_CORETYPE, which must not be set, changes it.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import re
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from unittest import mock

import comparison
import extraction
import groups
import numpy as np
from embedonce import FeatureCache
from embedonce.extract import cpu_count
from embedonce.extract.engines.engines import make_engine
from embedonce.extract.engines.native import LANES, supported_lanes, why_not_native
from embedonce.extract.recipe import Recipe, make_recipe
from embedonce.extract.scan import scan_folder
from processes import extraction_parser, run
from rich.console import Console
from rich.table import Table
from threadpoolctl import threadpool_info

import heads

ROUNDS = 5  # of the engines, before everything else, and as many after it
COMPARISONS = 5
HEAD_ROWS, HEAD_ROUNDS = 2000, 3


@dataclass(frozen=True)
class Figure:
    """A measured figure, its ratio to another one of the run, and what it should be."""

    measured: str
    value: float
    unit: str
    ratio: float | None = None
    to: str = ""
    wanted: str = ""


@dataclass
class State:
    """What the parts share."""

    options: argparse.Namespace
    recipe: Recipe
    folder: Path
    cache: Path | None
    groups: Path | None
    rounds: list[dict[str, float]]
    turns: dict[str, Callable[[], float]]

    def measure_engines(self) -> None:
        """Measure the engines and the matrix product alternately."""
        self.turns = self.turns or extraction.engine_turns(self.recipe)
        self.rounds += [{name: turn() for name, turn in self.turns.items()} for _ in range(ROUNDS)]

    def images(self) -> Path:
        """Return the folder of the images that are extracted."""
        folder = self.folder / "images"
        if not folder.exists():
            extraction.link_tree(self.options.images, folder, self.options.count)
        return folder

    def opened(self) -> FeatureCache:
        """Return the cache for near-duplicates and comparisons."""
        if self.cache is None:
            self.cache = self.folder / "made.h5"
            extraction.extract_seconds(self.images(), self.cache, self.options)
        return FeatureCache.open(self.cache)

    def groups_file(self) -> Path:
        """Return the file of its groups."""
        if self.groups is None:
            self.opened()
            self.groups = self.folder / "found.csv"
            run("groups", self.cache, "-o", self.groups)
        return self.groups


def median(values: Iterable[float]) -> float:
    """Return the median."""
    return float(np.median(list(values)))


def engines(state: State) -> Iterator[Figure]:
    """Engines in memory to the matrix product, and whether all widths of vectors give equal features."""
    state.measure_engines()
    medians = {name: median(turn[name] for turn in state.rounds) for name in state.turns}
    best = max((name for name in medians if name != "sgemm"), key=lambda name: medians[name])
    for name, rate in medians.items():
        ratio = median(turn[name] / turn["sgemm"] for turn in state.rounds) if "sgemm" in medians else None
        wanted = "0.82, AVX2: 0.85" if name == best else ""
        yield Figure(name, rate, "images/s", None if name == "sgemm" else ratio, "sgemm", wanted)
    if not why_not_native():
        features = []
        image = np.random.default_rng(0).uniform(0, 255, (state.recipe.image_size,) * 2 + (3,)).astype(np.float32)
        for lanes in supported_lanes():
            with mock.patch.dict(os.environ, {LANES: str(lanes)}):
                session = make_engine("native", state.recipe).session()
            np.copyto(session.slot(0), image)
            features.append(np.array(session.run(1)[0]))
        different = sum(int((one != features[0]).sum()) for one in features)
        widths = ", ".join(map(str, supported_lanes()))
        yield Figure(f"features that differ between {widths} lanes", different, "", wanted="0")


def whole_extraction(state: State) -> Iterator[Figure]:
    """Whole processes of extract to Keras's pipeline, and to itself in 8 bits."""
    folder, options = state.images(), state.options
    count = len(scan_folder(folder).images)
    before, _ = extraction.extract_seconds(folder, state.folder / "made.h5", options)
    keras = extraction.keras_rate(folder, state.recipe)
    after, _ = extraction.extract_seconds(folder, state.folder / "second.h5", options)
    state.cache = state.cache or state.folder / "made.h5"
    rate = 2 * count / (before + after)
    yield Figure("Keras's pipeline", keras, "images/s")
    yield Figure("extract, whole process", rate, "images/s", rate / keras, "Keras's pipeline", "4.2, AVX2: 5.2")
    make_engine("litert", replace(state.recipe, precision="int8"))  # converts the model if necessary
    seconds, _ = extraction.extract_seconds(folder, state.folder / "int8.h5", options, "--precision", "int8")
    yield Figure("extract --precision int8", count / seconds, "images/s", count / seconds / rate, "extract")
    again, _ = extraction.extract_seconds(folder, state.folder / "second.h5", options)
    yield Figure("extract, nothing new", again, "s")


def photographs(state: State) -> Iterator[Figure]:
    """Photographs of 12 megapixels."""
    extraction.PHOTOGRAPHS = extraction.COPIES = 10
    folder = state.folder / "photographs"
    extraction.photographs(state.options.images, folder)
    rates = extraction.photograph_rates(folder, state.folder, state.options, state.recipe)
    rate, keras = rates["extract 12 MP"], rates["keras 12 MP"]
    yield Figure("Keras's pipeline, photographs", keras, "images/s")
    yield Figure("extract, photographs", rate, "images/s", rate / keras, "Keras's pipeline", "1.6")
    reduced = rates["extract 12 MP reduced"]
    yield Figure("extract --decoding reduced, photographs", reduced, "images/s", reduced / rate, "extract")
    milliseconds = extraction.photograph_milliseconds(folder, state.recipe)
    eighth = milliseconds["at an eighth"]
    for name, value in milliseconds.items():
        own = name.startswith("as read")
        yield Figure(f"decoding {name}", value, "ms", value / eighth, "an eighth", "at most 1.25" if own else "")


def near_duplicates(state: State) -> Iterator[Figure]:
    """Search for near-duplicates, without reading the cache."""
    cache = state.opened()
    for name, column in groups.by_stage(cache, sorted({min(1100, len(cache)), len(cache)})).items():
        wall, processor = column["all"]
        size, _, added = name.partition(": ")
        count = int(re.sub(r"\D", "", size))
        text = f"near-duplicates, {added} images added {size}" if added else f"near-duplicates of {size} images"
        wanted = ("1 s" if added else "2 s") if count <= 1000 or added else f"{60 * count / 100_000:.0f} s"
        yield Figure(text, wall, "s", wanted=wanted)
        yield Figure("  processor time", processor, "s")


def comparisons(state: State) -> Iterator[Figure]:
    """Comparisons of 300 images, alone and in a grid, and of all images."""
    cache, given = comparison.smaller(state.opened(), state.groups_file(), 300, state.folder)
    alone = ("compare", cache, "--groups", given, "-o", state.folder / "run")
    runs = {figures: [run(*alone, "--figures", figures) for _ in range(COMPARISONS)] for figures in ("none", "all")}
    to_table = median(one.first_line_seconds for done in runs.values() for one in done)
    yield Figure("three heads, 300 images: start to table", to_table, "s", wanted="2 s")
    for figures, done in runs.items():
        yield Figure(f"  whole process, --figures {figures}", median(one.seconds for one in done), "s")
        processor = median(one.processor_seconds for one in done)
        yield Figure("  processor time", processor, "s")
    quoted = {name: json.dumps(str(path)) for name, path in (("cache", cache), ("groups", given))}
    beyond = []
    for number in range(2):
        text = comparison.GRID.format(output=json.dumps(str(state.folder / f"grid{number}")), **quoted)
        (state.folder / "grid.toml").write_text(text)
        printed = run("compare", "--config", state.folder / "grid.toml", "--timings").output
        phases = {name: float(value) for name, value in re.findall(r"^(\w[\w ]*?)  +(\d+\.\d\d)$", printed, re.M)}
        fits = sum(value for name, value in phases.items() if name.startswith(("start", "training")))
        beyond.append((phases["total"] - fits) / 6)
    yield Figure("a comparison of a grid, beyond its fits", median(beyond), "s", wanted="0.5 s")
    everything = run("compare", state.cache, "--groups", state.groups_file(), "-o", state.folder / "large")
    count = len(state.opened())
    wanted = "20 s for 15,000"
    yield Figure(f"three heads, {count:,} images: start to table", everything.first_line_seconds, "s")
    yield Figure("  processor time, all figures", everything.processor_seconds, "s", wanted=wanted)


def head_ratios(state: State) -> Iterator[Figure]:
    """Heads to their baselines."""
    made = state.folder / "made.h5"  # with fewer images to predict than a given cache
    cache = made if made.exists() else state.opened().path
    rows = min(HEAD_ROWS, int(0.8 * len(FeatureCache.open(cache))))
    only = ["softmax", "logreg", "linear-svm", "svm"]
    named = argparse.Namespace(cache=cache, rows=rows, rounds=HEAD_ROUNDS, only=only)
    for row in heads.compare_ways(named):
        if row["way"].startswith("embedonce"):
            way = row["way"].replace("embedonce", row["head"])
            text = f"{way}, BLAS threads: {row['threads']}"
            yield Figure(text, row["fit"], "s", row["fit ratio"], "the baseline", "1")


PARTS: dict[str, Callable[[State], Iterator[Figure]]] = {
    "extraction": whole_extraction,
    "photographs": photographs,
    "near-duplicates": near_duplicates,
    "comparisons": comparisons,
    "heads": head_ratios,
    "engines": engines,
}


def main() -> None:
    """Measure, print a table, and write JSON."""
    parser = extraction_parser(__doc__)
    parser.add_argument("--count", type=int, default=4000, help="images of the extraction")
    parser.add_argument("--cache", type=Path)
    parser.add_argument("--groups", type=Path)
    parser.add_argument("--only", type=lambda names: names.split(","), default=list(PARTS))
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    if unknown := set(options.only) - PARTS.keys():
        parser.error(f"--only must have parts of {', '.join(PARTS)}, got {', '.join(unknown)}")
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    recipe = make_recipe(options.weights, options.alpha, options.image_size)
    figures: dict[str, list[Figure]] = {}
    begin = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        state = State(options, recipe, Path(folder), options.cache, options.groups, [], {})
        if "engines" in options.only:  # half of the rounds before everything else, half after it
            state.measure_engines()
        for name in filter(options.only.__contains__, PARTS):
            print(f"{time.perf_counter() - begin:4.0f} s: {name} ...", file=sys.stderr, flush=True)
            figures[name] = list(PARTS[name](state))
    table = Table("measured", "value", "ratio", "wanted")
    kernels = {one.get("architecture") for one in threadpool_info() if one["user_api"] == "blas"} - {None}
    table.title = (
        f"{cpu_count()} processors, BLAS for {', '.join(sorted(kernels))}, {time.perf_counter() - begin:.0f} s"
    )
    for part in figures.values():
        for one in part:
            value = f"{one.value:,.0f}" if one.value >= 100 or not one.unit else f"{one.value:,.2f}"
            ratio = "" if one.ratio is None else f"{one.ratio:.2f} x {one.to}"
            table.add_row(one.measured, f"{value} {one.unit}", ratio, one.wanted)
        table.add_section()
    Console(width=110).print(table)
    if options.json:
        written = {name: [asdict(one) for one in part] for name, part in figures.items()}
        options.json.write_text(json.dumps(written, indent=1) + "\n")


if __name__ == "__main__":
    main()
