"""Measure where the time of a small comparison goes, alone, in a loop and in a grid.

    python benchmarks/comparison.py CACHE --groups FILE [--images 300] [--rounds 3] [--against CHECKOUT] [--json FILE]

Each round runs `embedonce compare` of the three default heads as a process: with all figures, those of the report and
none, and as a [grid] of six seeds. The table has the least processor time of the rounds, in seconds, of the whole
process. The phases are wall times, from ``--timings``; on a busy machine they are longer. With
``--against``, the folder of another checkout, the first variant runs there too, in the same rounds.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from embedonce import FeatureCache
from processes import run
from rich.console import Console
from rich.table import Table

GRID = """cache = {cache}
output = {output}
groups = {groups}

[grid]
seed = [0, 1, 2, 3, 4, 5]
"""


def smaller(cache: FeatureCache, groups: Path, images: int, folder: Path) -> tuple[Path, Path]:
    """Write a cache of evenly spaced images of another one, and their groups."""
    from embedonce.cache.csv_files import read_table
    from embedonce.cache.table import Files, Table
    from embedonce.cache.writer import write_cache

    rows = np.unique(np.linspace(0, len(cache) - 1, images).round().astype(int))
    part = cache.select(rows)
    names = [name.encode() for name in part.class_names]
    files = part.files
    table = Table(
        part.fingerprint | {"origin": "benchmark"},
        {"weights": "random:0"},
        names,
        Files([path.encode() for path in part.paths], files.sizes, files.mtimes, files.hashes),
        part.labels,
        part.features,
    )
    write_cache(table, folder / "small.h5")
    by_path = {row["path"]: row["group"] for _, row in read_table(groups, "groups file", ("path", "group"))}
    lines = ["path,group", *(f"{path},{by_path[path]}" for path in part.paths)]
    (folder / "groups.csv").write_text("\n".join(lines) + "\n")
    return folder / "small.h5", folder / "groups.csv"


def main() -> None:
    """Measure, print and write JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cache", type=Path)
    parser.add_argument("--groups", type=Path, required=True)
    parser.add_argument("--images", type=int, default=300)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--against", type=Path, metavar="CHECKOUT")
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        cache, groups = smaller(FeatureCache.open(options.cache), options.groups, options.images, folder)
        alone = ["compare", str(cache), "--groups", str(groups), "-o", str(folder / "run")]
        quoted = {name: json.dumps(str(path)) for name, path in (("cache", cache), ("groups", groups))}
        variants: dict[str, tuple[list[str], Path | None]] = {
            "all figures": (alone, None),
            "figures of the report": ([*alone, "--figures", "report"], None),
            "no figures": ([*alone, "--figures", "none"], None),
            "grid of six": (["compare", "--config", str(folder / "grid.toml")], None),
        }
        if options.against is not None:
            variants = {"the other checkout": (alone, options.against)} | variants
        seconds: dict[str, list[float]] = {name: [] for name in variants}
        for number in range(options.rounds):
            output = json.dumps(str(folder / f"grid{number}"))
            (folder / "grid.toml").write_text(GRID.format(output=output, **quoted))
            for name, (arguments, checkout) in variants.items():
                seconds[name].append(run(*arguments, checkout=checkout).processor_seconds)
        phases: dict[str, Any] = json.loads((folder / "run" / "results.json").read_bytes())["phase_seconds"]
    least = {name: min(values) for name, values in seconds.items()}
    table = Table("variant", "processor s", "to the first")
    for name, value in least.items():
        table.add_row(name, f"{value:.2f}", f"{value / next(iter(least.values())):.2f}")
    Console().print(table)
    Console().print({name: round(value, 2) for name, value in phases.items()})
    if options.json:
        options.json.write_text(json.dumps({"processor_seconds": seconds, "phase_seconds": phases}, indent=2))


if __name__ == "__main__":
    main()
