"""Measure time and memory of extraction for growing numbers of images.

    python benchmarks/scale.py IMAGES --weights FILE [--sizes 1000,15000,150000] [--form h5|cache] [--plot FILE]

For every size, that many JPEG files are made from those in IMAGES, each with a few different bytes after the end
of the image: the same pixels and another content, so that every file is embedded. Then, as whole processes: a first
``embedonce extract``, the same again with nothing to do, and again after a hundredth of the images was replaced.
It prints seconds, images/s and the largest resident memory of each, and draws them. The memory is an upper bound: Linux
includes the memory of the process that starts another one, and this one has made the images.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from pathlib import Path
from typing import Any

from embedonce.extract.scan import scan_folder
from processes import extract, extraction_parser
from rich.console import Console
from rich.table import Table

_STRIDE = 7919  # a prime: walks over all images, and over all classes from the start


def make_images(source: Path, target: Path, count: int, mark: int = 0, every: int = 1) -> int:
    """Write ``count`` images made from those in ``source``, or every so many of them, and return how many."""
    images = [image.path for image in scan_folder(source).images if image.path.lower().endswith((b".jpg", b".jpeg"))]
    contents: dict[bytes, bytes] = {}
    written = 0
    for number in range(0, count, every):
        path = images[number * _STRIDE % len(images)]
        if path not in contents and len(contents) < 20_000:
            contents[path] = (source / os.fsdecode(path)).read_bytes()
        data = contents.get(path) or (source / os.fsdecode(path)).read_bytes()
        name = target / os.fsdecode(path.partition(b"/")[0]) / f"{number:07d}.jpg"
        name.parent.mkdir(parents=True, exist_ok=True)
        name.write_bytes(data + f"\n{mark}:{number}".encode())
        written += 1
    return written


def measure(folder: Path, cache: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Run ``embedonce extract`` and return its seconds, its peak memory in MB, and the number of embedded images."""
    done = extract(folder, cache, options)
    embedded = json.loads(done.output)["embedded"]
    return {"seconds": done.seconds, "peak_mb": done.peak_megabytes, "embedded": embedded}


def draw(rows: list[dict[str, Any]], path: Path) -> None:
    """Draw images/s and memory against the number of images."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.4), layout="constrained")
    sizes = [row["images"] for row in rows]
    for axes, title, kinds in zip(
        figure.subplots(1, 3),
        ("images/s, first run", "seconds, runs afterwards", "peak memory, MB"),
        (
            [("first", "rate")],
            [("again", "seconds"), ("update", "seconds")],
            [("first", "peak_mb"), ("again", "peak_mb")],
        ),
        strict=True,
    ):
        for kind, key in kinds:
            values = [row["images"] / row[kind]["seconds"] if key == "rate" else row[kind][key] for row in rows]
            axes.plot(
                sizes, values, marker="o", label={"first": "first run", "again": "nothing new"}.get(kind, "1 % new")
            )
        axes.set(xscale="log", xlabel="images", title=title)
        if title.startswith("seconds"):
            axes.set_yscale("log")
            axes.yaxis.set_major_formatter("{x:g}")
        else:
            axes.set_ylim(0, 1.15 * axes.get_ylim()[1])
        axes.xaxis.set_major_formatter("{x:,.0f}")
        axes.grid(alpha=0.3)
        if len(kinds) > 1:
            axes.legend(frameon=False)
    figure.savefig(path, dpi=150)


def main() -> None:
    """Run as the module's docstring says."""
    parser = extraction_parser(__doc__)
    parser.add_argument("--sizes", default="1000,15000,150000")
    parser.add_argument("--form", choices=["h5", "cache"], default="cache")
    parser.add_argument("--plot", type=Path)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    rows: list[dict[str, Any]] = []
    for size in map(int, options.sizes.split(",")):
        with tempfile.TemporaryDirectory() as folder:
            images, cache = Path(folder) / "images", Path(folder) / f"a.{options.form}"
            make_images(options.images, images, size)
            row: dict[str, Any] = {"images": size, "first": measure(images, cache, options)}
            row["again"] = measure(images, cache, options)
            new = make_images(options.images, images, size, mark=1, every=100)
            row["update"] = measure(images, cache, options)
            assert (row["first"]["embedded"], row["again"]["embedded"], row["update"]["embedded"]) == (size, 0, new)
            rows.append(row)
    table = Table("images", "run", "seconds", "images/s", "peak MB")
    for row in rows:
        for kind in ("first", "again", "update"):
            rate = f"{row[kind]['embedded'] / row[kind]['seconds']:,.0f}" if row[kind]["embedded"] else "-"
            table.add_row(
                f"{row['images']:,}", kind, f"{row[kind]['seconds']:.2f}", rate, f"{row[kind]['peak_mb']:,.0f}"
            )
    Console().print(table)
    if options.plot:
        draw(rows, options.plot)
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
