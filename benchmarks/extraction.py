"""How fast is extraction, against the way it is usually written? Run it on a folder of real images.

    python benchmarks/extraction.py IMAGES --weights FILE [--alpha 1.0] [--image-size 224] [--json FILE]

In one run, on the same files:

- ``keras``: ``image_dataset_from_directory`` and ``model.predict``, as in the Keras guides;
- ``ceiling``: the LiteRT engine on arrays in memory, one interpreter per processor, without files;
- ``extract``: ``embedonce extract`` as a whole process, from start to published cache, with the converted
  model in place; once before and once after Keras's turn, since a machine's speed drifts;
- ``again``: the same command on the unchanged folder;
- ``ten new``: the same command after ten images were added to a copy of the folder (hard links).

The first two are functions in this process, timed after one warm-up batch; the others are whole processes.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from embedonce.cache.quiet import import_keras
from embedonce.extract.engines import Session, available_processors, make_engine
from embedonce.extract.recipe import Recipe, make_recipe
from embedonce.extract.scan import scan
from PIL import Image, ImageOps
from rich.console import Console
from rich.table import Table

IN_MEMORY = 2000


def keras_rate(folder: Path, recipe: Recipe) -> float:
    """Return images/s of Keras's own pipeline over the whole folder."""
    keras = import_keras()
    from embedonce.extract.backbone import build_backbone

    dataset = keras.utils.image_dataset_from_directory(
        folder, shuffle=False, image_size=(recipe.image_size, recipe.image_size), batch_size=32, verbose=False
    )
    images = len(dataset.file_paths)
    scaled = dataset.map(lambda image, _: keras.applications.mobilenet_v2.preprocess_input(image)).prefetch(2)
    backbone = build_backbone(recipe.weights, recipe.alpha, recipe.image_size)
    pooled = keras.layers.GlobalAveragePooling2D()(backbone.output)
    model = keras.Model(backbone.input, pooled)
    model.predict(scaled.take(2), verbose=0)
    begin = time.perf_counter()
    features = model.predict(scaled, verbose=0)
    assert len(features) == images
    return images / (time.perf_counter() - begin)


def ceiling_rate(recipe: Recipe) -> float:
    """Return images/s of the LiteRT engine on arrays in memory, one session per processor."""
    engine = make_engine("litert", recipe)
    size = recipe.image_size
    image = np.random.default_rng(0).uniform(0, 255, (size, size, 3)).astype(np.float32)
    sessions = [engine.session() for _ in range(available_processors())]
    rounds = IN_MEMORY // len(sessions)

    def work(session: Session) -> None:
        for _ in range(rounds):
            np.copyto(session.slot(0), image)
            session.run(1)

    for session in sessions:
        work(session)
    begin = time.perf_counter()
    with ThreadPoolExecutor(len(sessions)) as pool:
        list(pool.map(work, sessions))
    return rounds * len(sessions) / (time.perf_counter() - begin)


def extract_seconds(folder: Path, cache: Path, options: argparse.Namespace) -> tuple[float, dict[str, Any]]:
    """Return the seconds of an ``embedonce extract`` process and what it reported."""
    command = [sys.executable, "-m", "embedonce", "extract", str(folder), str(cache), "--json"]
    command += ["--weights", options.weights, "--alpha", str(options.alpha), "--image-size", str(options.image_size)]
    begin = time.perf_counter()
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True)
    return time.perf_counter() - begin, json.loads(done.stdout)


def link_tree(source: Path, target: Path) -> None:
    """Copy a folder of images by hard links, or by symbolic ones where those are impossible."""
    for image in scan(source).images:
        name = os.fsdecode(image.path)
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(source / name, target / name)
        except OSError:
            (target / name).symlink_to(source.resolve() / name)


def add_images(folder: Path, count: int) -> None:
    """Write new images: inverted versions of some that are there."""
    for number, image in enumerate(scan(folder).images[:: len(scan(folder).images) // count][:count]):
        path = folder / os.fsdecode(image.path)
        ImageOps.invert(Image.open(path).convert("RGB")).save(path.with_name(f"new{number}.png"))


def main() -> None:
    """Measure, print a table, and write JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", type=Path)
    parser.add_argument("--weights", default="imagenet")
    parser.add_argument("--alpha", type=float, default=1.0)
    parser.add_argument("--image-size", type=int, default=224)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()

    recipe = make_recipe(options.weights, options.alpha, options.image_size)
    total = len(scan(options.images).images)
    result: dict[str, Any] = {"images": total, "processors": available_processors()}
    result["ceiling_images_per_second"] = ceiling_rate(recipe)  # converts the model when that is still to do
    with tempfile.TemporaryDirectory() as folder:
        cache, copy = Path(folder) / "a.h5", Path(folder) / "images"
        link_tree(options.images, copy)
        seconds, report = extract_seconds(copy, Path(folder) / "before.h5", options)
        result["keras_images_per_second"] = keras_rate(options.images, recipe)
        after, _ = extract_seconds(copy, cache, options)
        result |= {"extract_seconds_before_keras": seconds, "extract_seconds_after_keras": after}
        result["extract_images_per_second"] = 2 * total / (seconds + after)
        result["forward_passes"] = report["embedded"]
        result["forward_passes_per_second"] = report["images_per_second"]
        result["again_seconds"], again = extract_seconds(copy, cache, options)
        assert again["embedded"] == 0
        add_images(copy, 10)
        result["ten_new_seconds"], new = extract_seconds(copy, cache, options)
        assert new["embedded"] == 10, new
    result["extract_to_keras"] = result["extract_images_per_second"] / result["keras_images_per_second"]
    result["passes_to_ceiling"] = result["forward_passes_per_second"] / result["ceiling_images_per_second"]

    table = Table(title=f"{total:,} images, {result['processors']} processors")
    table.add_column("measured")
    table.add_column("value", justify="right")
    for name, value in result.items():
        table.add_row(name.replace("_", " "), f"{value:,.2f}" if isinstance(value, float) else f"{value:,}")
    Console().print(table)
    if options.json:
        options.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
