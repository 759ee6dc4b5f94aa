"""Measure what survives crashes, and its cost: the long form of tests/durability.

    python benchmarks/durability.py [--scale 1.0] [--seed 0] [--only NAME ...] [--json FILE]
    python benchmarks/durability.py --cost IMAGES --weights FILE [--rounds 2] [--json FILE]

The first form tests both forms of a cache: simulated power cuts, real kills, full and broken disks, changed
bytes, torn pages, races and random walks. It prints a Markdown table of the losses. Then it breaks the writer
on purpose (negative controls) and prints in how many states that was detected. ``--scale 0.01`` tries a
hundredth of the states. Simulated states depend on the seed alone; kills, races and readers are real processes.

The second form times a real extraction: the seconds inside commits and the publication, the same run with
``os.fsync`` doing nothing, and reading the features with and without their checksums.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
from embedonce.cache import FeatureCache, publish, shard
from embedonce.cache.partial import PartialRun
from embedonce.extract import cpu_count
from embedonce.extract import run as extract_run
from embedonce.extract.engines.engines import make_engine
from embedonce.extract.recipe import make_recipe

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests" / "durability"))

from durability_campaigns import CONTROLS
from durability_runner import call
from durability_scenarios import FILE, FOLDER

FORMS = {"file": FILE, "folder": FOLDER}
READS = 25


def campaigns(scale: float, seed: int, processes: int) -> list[tuple[str, str, dict[str, Any]]]:
    """Return the tests: title, command of the runner, and its options."""

    def many(count: float) -> int:
        return max(2 * processes, round(count * scale))

    seconds = max(2.0, 30 * scale)
    common = {"seed": seed, "processes": processes}
    result: list[tuple[str, str, dict[str, Any]]] = [
        ("power cuts, pages of 4 KiB and 512 B", "cuts", {"count": many(10_000)} | common),
        (
            "power cuts after a kill and a resumed run",
            "cuts-after-kills",
            {"kills": max(1, round(12 * scale)), "count": max(2, round(12 * scale))} | common,
        ),
        ("real kills (SIGKILL)", "kills", {"count": many(1500)} | common),  # every call: before, amid and after it
        ("ENOSPC and EIO at every call, once and lasting", "errors", {"every": 1} | common),
    ]
    bits = [255, *(1 << bit for bit in range(8))] if scale >= 1 else [255]
    for name, form in FORMS.items():
        one = {"form": form} | common
        result += [
            (f"every byte changed, {name}", "flips", {"masks": bits} | one),
            (f"torn pages, {name}", "torn", {"count": many(20_000), "rows": 100} | one),
            (f"runs over a changed byte, {name}", "repairs", {"count": many(2000)} | one),
            (f"random walks, {name}", "walks", {"count": many(400)} | one),
            (f"writers racing, {name}", "races", {"form": form, "seconds": seconds}),
            (f"readers of a live cache, {name}", "readers", {"form": form, "seconds": seconds}),
        ]
    return result


def survive(options: argparse.Namespace) -> dict[str, Any]:
    """Run all tests, print the table line by line, and return the tallies."""
    print("| test | states | acknowledged rows lost | silent incorrect values | readers blocked or crashed | seconds |")
    print("|---|---:|---:|---:|---:|---:|")
    result: dict[str, Any] = {}
    for title, command, settings in campaigns(options.scale, options.seed, options.processes):
        if options.only and command not in options.only:
            continue
        tally = _scratch(command, settings)
        result[title] = tally
        counts = [tally[name] for name in ("states", "lost", "wrong", "crashed")]
        print(
            f"| {title} | " + " | ".join(f"{count:,}" for count in counts) + f" | {tally['seconds']:.0f} |", flush=True
        )
        for note in tally["notes"]:
            print(f"  {note}", file=sys.stderr)
    return result


def controls(options: argparse.Namespace) -> dict[str, Any]:
    """Break the writer on purpose, print what was detected, and return it."""
    print("\n| negative control | form | states tried | noticed in | rows lost | readers crashed |")
    print("|---|---|---:|---:|---:|---:|")
    result: dict[str, Any] = {}
    count = max(100, round(1000 * options.scale))
    for control in CONTROLS:
        for name, form in FORMS.items():
            settings = {"count": count, "control": control, "forms": form, "seed": options.seed}
            tally = _scratch("cuts", settings | {"processes": options.processes})
            result[f"{control}, {name}"] = tally
            counts = [tally[name] for name in ("states", "caught", "lost", "crashed")]
            print(f"| {control} | {name} | " + " | ".join(f"{count:,}" for count in counts) + " |", flush=True)
    return result


def _scratch(command: str, settings: dict[str, Any]) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        return call(command, Path(folder) / "scratch", **settings)


class _Stopwatch:
    """Adds up the seconds inside functions."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    def around(self, name: str, function: Any) -> Any:
        def timed(*arguments: Any, **options: Any) -> Any:
            begin = time.perf_counter()
            try:
                return function(*arguments, **options)
            finally:
                self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - begin

        return timed


def extraction_cost(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Time a real extraction with and without fsync, alternating, and return the seconds of each."""
    recipe = make_recipe(options.weights, options.alpha, options.image_size)
    make_engine("auto", recipe)  # converts the model if necessary
    runs: dict[str, list[dict[str, float]]] = {"with fsync": [], "without fsync": []}
    for turn in range(options.rounds):
        for kind, seen in list(runs.items())[:: 1 if turn % 2 == 0 else -1]:  # neither is always the first
            watch = _Stopwatch()
            fsync = os.fsync if kind == "with fsync" else lambda descriptor: None
            with (
                mock.patch.object(PartialRun, "commit", watch.around("commits", PartialRun.commit)),
                mock.patch.object(publish, "publish_file", watch.around("publish", publish.publish_file)),
                mock.patch.object(publish, "publish_shards", watch.around("publish", publish.publish_shards)),
                mock.patch.object(os, "fsync", watch.around("fsync", fsync)),
            ):
                begin = time.perf_counter()
                cache = extract_run.extract_features(
                    options.cost,
                    folder / f"{turn}-{len(seen)}-{kind.partition(' ')[0]}.h5",
                    weights=options.weights,
                    alpha=options.alpha,
                    image_size=options.image_size,
                    progress=False,
                )
                total = time.perf_counter() - begin
            seen.append({"total": total, **watch.seconds})
            print(f"{kind}: {cache.report.embedded:,} forward passes, " + _seconds(seen[-1]), file=sys.stderr)
            images = len(cache)
            cache.close()
    best = {kind: min(seen, key=lambda times: times["total"]) for kind, seen in runs.items()}
    durable = best["with fsync"]
    return {
        "images": images,
        "processors": cpu_count(),
        "runs": runs,
        "share_of_commits_and_publish": (durable["commits"] + durable["publish"]) / durable["total"],
        "share_of_fsync": durable["fsync"] / durable["total"],
        "total_to_without_fsync": durable["total"] / best["without fsync"]["total"],
    }


class _AnyChecksum:
    """Equal to every checksum."""

    def __eq__(self, other: object) -> bool:
        return True

    def __ne__(self, other: object) -> bool:
        return False

    __hash__ = None  # type: ignore[assignment]


def _any_checksum(data: object) -> _AnyChecksum:
    return _AnyChecksum()


def reading_cost(cache: Path) -> dict[str, float]:
    """Time reading all features of a cache with and without checking them: best of many, in turns."""
    unchecked = mock.patch.object(shard.xxhash, "xxh3_64_intdigest", _any_checksum)
    best = {"checked": np.inf, "unchecked": np.inf}
    for turn in range(2 * READS):
        name = list(best)[turn % 2]
        with FeatureCache.open(cache) as opened:
            if name == "unchecked":
                unchecked.start()
            begin = time.perf_counter()
            features = opened.features
            seconds = time.perf_counter() - begin
            if name == "unchecked":
                unchecked.stop()
        best[name] = min(best[name], seconds)
    result = {f"read_{name}_seconds": seconds for name, seconds in best.items()}
    return result | {"read_bytes": features.nbytes, "checked_to_unchecked": best["checked"] / best["unchecked"]}


def _seconds(times: dict[str, float]) -> str:
    return ", ".join(f"{name} {seconds:.3f} s" for name, seconds in times.items())


def main() -> None:
    """Measure, print tables, and write JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scale", type=float, default=1.0, help="factor of the numbers of states and seconds")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--processes", type=int, default=cpu_count())
    parser.add_argument("--only", nargs="+", help="commands of the runner, such as cuts, kills or controls")
    parser.add_argument("--cost", type=Path, metavar="IMAGES", help="time a real extraction of this folder instead")
    parser.add_argument("--weights", default="imagenet")
    parser.add_argument("--alpha", type=float, default=1.0)
    parser.add_argument("--image-size", type=int, default=224)
    parser.add_argument("--rounds", type=int, default=2, help="extractions of each kind")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    if options.cost:
        with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder:  # not where memory plays the disk
            result = extraction_cost(options, Path(folder))
            result |= reading_cost(next(Path(folder).glob("*.h5")))
        print("| measured | value |\n|---|---:|")
        for name, value in result.items():
            if name != "runs":
                print(
                    f"| {name.replace('_', ' ')} | {value:,.4g} |"
                    if isinstance(value, float)
                    else f"| {name} | {value:,} |"
                )
    else:
        result = {"seed": options.seed, "survival": survive(options)}
        if not options.only or "controls" in options.only:
            result["controls"] = controls(options)
    if options.json:
        options.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
