"""Compare the speed of extraction with Keras and torchvision on a folder of real images.

    python benchmarks/extraction.py IMAGES --weights FILE [--alpha 1.0] [--image-size 224] [--plot FILE] [--json FILE]
        [--processor-time]

In one run, on the same files, in images/s:

- ``keras``: ``image_dataset_from_directory`` and ``model.predict``, as in the Keras guides, on all images;
- ``training``: the same with a softmax head, trained end to end for an epoch with the frozen backbone, as head
  experiments are usually run (on some of the images);
- ``engine native``, ``engine litert``, ``engine keras``: the engines on arrays in memory, without files; the first two
  with one session per processor. The best of them is the ceiling. ``engine native, 8 lanes`` has the kernels of AVX2 on
  a processor with AVX-512;
- ``torchvision``: its MobileNetV2 (random weights, the same arithmetic) in PyTorch on arrays in memory, channels last,
  the faster of one image at a time and batches of 32, when torch and torchvision are installed and alpha is 1.0;
- ``sgemm``: the limit given by NumPy's matrix product at 0.6 GFLOP an image, for alpha 1.0 at 224 pixels. It and the
  engines except Keras are measured alternately, second by second, before and after everything else, since the clock
  of a processor varies; the ratio is the median over all rounds;
- ``extract``: ``embedonce extract`` as a whole process, from start to published cache, with a prepared model; once
  before and once after Keras, since the speed of a machine varies;
- ``extract 768``: the same from some of the images as JPEG files of 768 pixels;
- ``extract 12 MP``: the same from photographs of 12 megapixels, 4:2:0, which are enlarged images with noise, and
  ``keras 12 MP``, Keras's own pipeline on them; each before and after the other;
- ``extract int8``, ``extract 768 reduced`` and ``extract 12 MP reduced``: the same with ``--precision int8`` and
  ``--decoding reduced``, which give other features, and may exceed the limit. ``precision.py`` measures their cost in
  accuracy.

In milliseconds of processor time: the decoding of these photographs by libjpeg, whole and at an eighth, and that of
embedonce, with the resize. The three alternate, and the fastest of several counts.

For the plot, it also measures the time of one image in each stage of one thread.

In seconds: ``again``, the same command on the unchanged folder, and ``ten new`` and ``hundred new``, after images
were added to a copy of the folder (hard links). Rates of functions are measured after a warm-up; the others are
whole processes.

On a machine that other programs use, ``--processor-time`` counts the processor time of a process divided by the number
of processors, as if all of them were always busy.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import multiprocessing
import os
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
from embedonce._keras import import_keras
from embedonce.extract import cpu_count
from embedonce.extract.decoding import decode
from embedonce.extract.embed import read_image
from embedonce.extract.engines.engines import make_engine
from embedonce.extract.engines.native import LANES, supported_lanes, why_not_native
from embedonce.extract.engines.protocol import Session
from embedonce.extract.recipe import Recipe, make_recipe
from embedonce.extract.resizing import resize_into
from embedonce.extract.scan import scan_folder
from PIL import Image, ImageOps
from processes import extract, extraction_parser
from rich.console import Console
from rich.table import Table
from threadpoolctl import threadpool_limits

IN_MEMORY = 2000  # images, for variants that are not measured in rounds
ROUNDS = 8  # before everything else, and as many after it
ROUND_SECONDS = 1.5
TRAINED = 3000
LARGE = 1500
PHOTOGRAPHS, COPIES = 16, 20
PHOTOGRAPH = (4032, 3024)
GFLOP_PER_IMAGE = 0.6
clock: Callable[[], float] = time.perf_counter


def processor_time() -> float:
    """Return the processor time of this process and its finished children, divided by the number of processors."""
    return sum(os.times()[:4]) / cpu_count()


def keras_pipeline(folder: Path, recipe: Recipe) -> tuple[Any, Any, int]:
    """Return Keras's own dataset of the folder, scaled, the pooled backbone, and the number of images."""
    keras = import_keras()
    from embedonce.extract.backbone.keras_model import build_backbone

    size = (recipe.image_size, recipe.image_size)
    dataset = keras.utils.image_dataset_from_directory(
        folder, shuffle=False, image_size=size, batch_size=32, verbose=False
    )
    scaled = dataset.map(lambda image, label: (keras.applications.mobilenet_v2.preprocess_input(image), label))
    backbone = build_backbone(recipe.weights, recipe.alpha, recipe.image_size)
    backbone.trainable = False
    pooled = keras.layers.GlobalAveragePooling2D()(backbone.output)
    return scaled.prefetch(2), keras.Model(backbone.input, pooled), len(dataset.file_paths)


def keras_rate(folder: Path, recipe: Recipe) -> float:
    """Return images/s of Keras's own pipeline over the whole folder."""
    dataset, model, images = keras_pipeline(folder, recipe)
    dataset = dataset.map(lambda image, _: image)
    model.predict(dataset.take(2), verbose=0)
    begin = clock()
    features = model.predict(dataset, verbose=0)
    assert len(features) == images
    return images / (clock() - begin)


def training_rate(folder: Path, recipe: Recipe) -> float:
    """Return images/s of an epoch of the softmax head behind the frozen backbone."""
    keras = import_keras()
    dataset, embedder, images = keras_pipeline(folder, recipe)
    classes = sum(path.is_dir() for path in folder.iterdir())
    output = keras.layers.Dense(classes, activation="softmax")(keras.layers.Dropout(0.2)(embedder.output))
    model = keras.Model(embedder.input, output)
    model.compile(optimizer="adam", loss="sparse_categorical_crossentropy")
    model.fit(dataset.take(2), epochs=1, verbose=0)
    batches = min(TRAINED, images) // 32
    begin = clock()
    model.fit(dataset.take(batches), epochs=1, verbose=0)
    return batches * 32 / (clock() - begin)


def in_memory(name: str, recipe: Recipe, lanes: int | None = None) -> Callable[[], float]:
    """Return a function that measures images/s of an engine in memory, with its default number of sessions."""
    with mock.patch.dict(os.environ, {} if lanes is None else {LANES: str(lanes)}):
        engine = make_engine(name, recipe)
    size = recipe.image_size
    image = np.random.default_rng(0).uniform(0, 255, (size, size, 3)).astype(np.float32)
    sessions = [engine.session() for _ in range(engine.default_workers())]

    def work(session: Session, end: float) -> int:
        images = 0
        while time.perf_counter() < end:
            for position in range(session.batch_size):
                np.copyto(session.slot(position), image)
            session.run(session.batch_size)
            images += session.batch_size
        return images

    def measure() -> float:
        begin, end = clock(), time.perf_counter() + ROUND_SECONDS
        with ThreadPoolExecutor(len(sessions)) as pool:
            images = sum(pool.map(lambda session: work(session, end), sessions))
        return images / (clock() - begin)

    measure()
    return measure


def torchvision_rate(recipe: Recipe) -> float | None:
    """Return images/s of torchvision's MobileNetV2 in PyTorch; None when it is not installed or not the same."""
    if recipe.alpha != 1.0:
        return None
    try:
        import torch
        from torchvision.models import mobilenet_v2
    except ImportError:
        return None
    torch.set_num_threads(cpu_count())
    model = mobilenet_v2(weights=None).features.eval().to(memory_format=torch.channels_last)
    rates = []
    for batch_size in (1, 32):
        images = torch.rand(batch_size, 3, recipe.image_size, recipe.image_size)
        images = images.to(memory_format=torch.channels_last)
        rounds = IN_MEMORY // batch_size // 2
        with torch.inference_mode():
            for _ in range(5):
                model(images).mean((2, 3))
            begin = time.perf_counter()
            for _ in range(rounds):
                model(images).mean((2, 3))
        rates.append(rounds * batch_size / (time.perf_counter() - begin))
    return max(rates)


def sgemm_limit() -> Callable[[], float]:
    """Return a function that measures images/s that this machine's matrix product allows at 0.6 GFLOP an image."""
    a, b = (np.random.default_rng(seed).random((2048, 2048), np.float32) for seed in (0, 1))

    def measure() -> float:
        begin, end = clock(), time.perf_counter() + ROUND_SECONDS
        # threads of BLAS wait for each other, which costs processor time on a machine that other programs use
        with threadpool_limits(1), ThreadPoolExecutor(cpu_count()) as pool:
            products = sum(pool.map(lambda _: multiply(end), range(cpu_count())))
        return products * 2 * 2048**3 / (clock() - begin) / (GFLOP_PER_IMAGE * 1e9)

    def multiply(end: float) -> int:
        products = 0
        while time.perf_counter() < end:
            a @ b
            products += 1
        return products

    measure()
    return measure


def engine_turns(recipe: Recipe) -> dict[str, Callable[[], float]]:
    """Return functions that measure images/s of the engines in memory and of sgemm, to be called alternately."""
    names = ["litert"] if why_not_native() else ["native", "litert"]
    turns = {f"engine {name}": in_memory(name, recipe) for name in names}  # converts the model if necessary
    if 16 in supported_lanes():
        turns["engine native, 8 lanes"] = in_memory("native", recipe, 8)
    if recipe.alpha == 1.0 and recipe.image_size == 224:
        turns["sgemm"] = sgemm_limit()
    return turns


def extract_seconds(
    folder: Path, cache: Path, options: argparse.Namespace, *further: str
) -> tuple[float, dict[str, Any]]:
    """Return the seconds of an ``embedonce extract`` process with further options, and what it reported."""
    begin = clock()
    done = extract(folder, cache, options, *further)
    return clock() - begin, json.loads(done.output)


def link_tree(source: Path, target: Path, count: int | None = None) -> int:
    """Copy images by hard links, or by symbolic ones where those are impossible; return their number.

    With a count, about as many are taken, evenly spaced.
    """
    images = scan_folder(source).images
    images = images[:: 1 if count is None else max(1, len(images) // count)][:count]
    for image in images:
        name = os.fsdecode(image.path)
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(source / name, target / name)
        except OSError:
            (target / name).symlink_to(source.resolve() / name)
    return len(images)


def stage_times(folder: Path, recipe: Recipe, images: int = 500) -> dict[str, float]:
    """Return the milliseconds that one thread spends on an image in each stage, the median of many."""
    session = make_engine("auto", recipe).session()
    times = []
    files = scan_folder(folder).images
    for image in files[:: max(1, len(files) // images)][:images]:
        ticks = [time.perf_counter()]
        data, _ = read_image(folder, image)
        ticks.append(time.perf_counter())
        hashlib.sha256(data).digest()
        ticks.append(time.perf_counter())
        pixels = decode(data)
        ticks.append(time.perf_counter())
        resize_into(session.slot(0), pixels)
        ticks.append(time.perf_counter())
        session.run(1)
        ticks.append(time.perf_counter())
        times.append(np.diff(ticks))
    names = ("read", "hash", "decode", "resize", "embed")
    return dict(zip(names, (1000 * np.median(times, axis=0)).tolist(), strict=True))


def draw(rates: dict[str, float], stages: dict[str, float], path: Path) -> None:
    """Draw the rates, and the time of an image in each stage."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9.5, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=[3, 2])
    ordered = sorted(((name, rate) for name, rate in rates.items() if "alone" not in name), key=lambda item: item[1])
    colours = ["#4477aa" if name.startswith("extract") else "#bbbbbb" for name, _ in ordered]
    bars = left.barh([name for name, _ in ordered], [rate for _, rate in ordered], color=colours)
    left.bar_label(bars, fmt="%.0f", padding=3)
    left.set(title="images/s", xlim=(0, 1.15 * max(rates.values())))
    start = 0.0
    for name, milliseconds in stages.items():
        fraction = milliseconds / sum(stages.values())
        right.barh(["one image"], [milliseconds], left=start, label=f"{name} {milliseconds:.2f} ms ({fraction:.0%})")
        start += milliseconds
    right.set(title="milliseconds of one thread", yticks=[])
    right.legend(frameon=False, loc="upper center", bbox_to_anchor=(0.5, -0.1), ncols=2)
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=150)


def enlarge(source: Path, target: Path, count: int) -> int:
    """Write some of the images as JPEG files of 768 pixels, and return how many."""
    images = scan_folder(source).images
    chosen = images[:: max(1, len(images) // count)][:count]
    for image in chosen:
        path = target / f"{os.path.splitext(os.fsdecode(image.path))[0]}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        with Image.open(source / os.fsdecode(image.path)) as opened:
            opened.convert("RGB").resize((768, 768), Image.Resampling.BICUBIC).save(path, quality=90)
    return len(chosen)


def photographs(source: Path, target: Path) -> None:
    """Write some of the images as photographs of 12 megapixels with noise, and copies of them."""
    images = scan_folder(source).images
    generator = np.random.default_rng(0)
    for image in images[:: max(1, len(images) // PHOTOGRAPHS)][:PHOTOGRAPHS]:
        with Image.open(source / os.fsdecode(image.path)) as opened:
            enlarged = opened.convert("RGB").resize(PHOTOGRAPH, Image.Resampling.BICUBIC)
        noise = generator.normal(0, 4, (*PHOTOGRAPH[::-1], 1)).astype(np.float32)
        pixels = np.clip(np.asarray(enlarged) + noise, 0, 255).astype(np.uint8)
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, "JPEG", quality=90, subsampling="4:2:0")
        path = target / os.fsdecode(image.path)
        path.parent.mkdir(parents=True, exist_ok=True)
        for copy in range(COPIES):  # what follows the image makes it a new one, and is not decoded
            path.with_name(f"{path.stem}-{copy}.jpg").write_bytes(buffer.getvalue() + bytes([copy]))


def photograph_milliseconds(folder: Path, recipe: Recipe) -> dict[str, float]:
    """Return the processor time that decoding takes, the mean over photographs of the fastest of several."""
    out = np.empty((recipe.image_size, recipe.image_size, 3), np.float32)
    turns: dict[str, Callable[[bytes], Any]] = {
        "whole": decode,
        "at an eighth": lambda data: decode(data, min(PHOTOGRAPH) // 8),
        "as read, with the resize": lambda data: recipe.decode_into(out, data),
    }
    times = []
    for image in scan_folder(folder).images[::COPIES]:
        data, _ = read_image(folder, image)
        rounds = []
        for _ in range(7):
            ticks = [time.process_time()]
            for turn in turns.values():
                turn(data)
                ticks.append(time.process_time())
            rounds.append(np.diff(ticks))
        times.append(np.min(rounds, axis=0))
    return dict(zip(turns, (1000 * np.mean(times, axis=0)).tolist(), strict=True))


def photograph_rates(folder: Path, work: Path, options: argparse.Namespace, recipe: Recipe) -> dict[str, float]:
    """Return images/s from photographs."""
    count = len(scan_folder(folder).images)
    keras, exact = [], []
    for number in range(2):
        exact.append(extract_seconds(folder, work / f"photographs{number}.h5", options)[0])
        keras.append(keras_rate(folder, recipe))
    reduced, _ = extract_seconds(folder, work / "photographs_reduced.h5", options, "--decoding", "reduced")
    return {
        "extract 12 MP": 2 * count / sum(exact),
        "keras 12 MP": float(np.mean(keras)),
        "extract 12 MP reduced": count / reduced,
    }


def add_images(folder: Path, count: int) -> None:
    """Write new images: inverted versions of some that are there."""
    for number, image in enumerate(scan_folder(folder).images[:: len(scan_folder(folder).images) // count][:count]):
        path = folder / os.fsdecode(image.path)
        ImageOps.invert(Image.open(path).convert("RGB")).save(path.with_name(f"new{number}.png"))


def main() -> None:
    """Measure, print a table, and write JSON."""
    parser = extraction_parser(__doc__)
    parser.add_argument("--plot", type=Path)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--processor-time", action="store_true")
    options = parser.parse_args()
    if options.processor_time:
        global clock
        clock = processor_time

    recipe = make_recipe(options.weights, options.alpha, options.image_size)
    total = len(scan_folder(options.images).images)
    turns = engine_turns(recipe)
    rounds = [{name: measure() for name, measure in turns.items()} for _ in range(ROUNDS)]
    rates: dict[str, float] = {}
    seconds: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        copy, large = Path(folder) / "images", Path(folder) / "large"
        link_tree(options.images, copy)
        before, report = extract_seconds(copy, Path(folder) / "before.h5", options)
        rates["keras"] = keras_rate(options.images, recipe)
        after, _ = extract_seconds(copy, Path(folder) / "a.h5", options)
        rates["extract"] = 2 * total / (before + after)
        rates["extract, forward passes alone"] = report["images_per_second"]
        stages = stage_times(options.images, recipe)
        rates["training"] = training_rate(options.images, recipe)
        rates["engine keras"] = in_memory("keras", recipe)()
        # in another process: PyTorch crashes in one that has loaded TensorFlow
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
            if (torchvision := process.submit(torchvision_rate, recipe).result()) is not None:
                rates["torchvision"] = torchvision
        rounds += [{name: measure() for name, measure in turns.items()} for _ in range(ROUNDS)]
        rates |= {name: float(np.median([turn[name] for turn in rounds])) for name in turns}
        make_engine("litert", replace(recipe, precision="int8"))  # converts the model if necessary
        rates["extract int8"] = total / extract_seconds(copy, Path(folder) / "i.h5", options, "--precision", "int8")[0]
        count = enlarge(options.images, large, LARGE)
        rates["extract 768"] = count / extract_seconds(large, Path(folder) / "large.h5", options)[0]
        reduced, _ = extract_seconds(large, Path(folder) / "reduced.h5", options, "--decoding", "reduced")
        rates["extract 768 reduced"] = count / reduced
        photographs(options.images, Path(folder) / "photographs")
        rates |= photograph_rates(Path(folder) / "photographs", Path(folder), options, recipe)
        decoding = photograph_milliseconds(Path(folder) / "photographs", recipe)
        seconds["again"], again = extract_seconds(copy, Path(folder) / "a.h5", options)
        assert again["embedded"] == 0
        for name, new in (("ten new", 10), ("hundred new", 100)):
            add_images(copy, new)
            seconds[name], done = extract_seconds(copy, Path(folder) / "a.h5", options)
            assert 0 < done["embedded"] <= new, done
    best = max((name for name in rates if name.startswith("engine")), key=lambda name: rates[name])
    ceiling = rates[best]

    table = Table(title=f"{total:,} images, {cpu_count()} processors")
    for column in ("measured", "images/s", "to keras", "to ceiling"):
        table.add_column(column, justify="left" if column == "measured" else "right")
    for name, rate in sorted(rates.items(), key=lambda item: -item[1]):
        table.add_row(name, f"{rate:,.0f}", f"{rate / rates['keras']:.2f}", f"{rate / ceiling:.2f}")
    for name, value in seconds.items():
        table.add_row(name, f"{value:.2f} s")
    Console().print(table)
    result = {
        "images": total,
        "processors": cpu_count(),
        "images_per_second": rates,
        "seconds": seconds,
        "stage_milliseconds": stages,
        "photograph_milliseconds": decoding,
        "extract_to_keras": rates["extract"] / rates["keras"],
        "extract_to_ceiling": rates["extract"] / ceiling,
        "rounds": rounds,
    }
    if "sgemm" in rates:
        result["engine_to_sgemm"] = float(np.median([turn[best] / turn["sgemm"] for turn in rounds]))
        print(f"the best engine to sgemm: {result['engine_to_sgemm']:.2f}")
    print("milliseconds of one thread:", ", ".join(f"{name} {value:.3f}" for name, value in stages.items()))
    print("decoding a photograph, milliseconds:", ", ".join(f"{name} {value:.1f}" for name, value in decoding.items()))
    print(f"extract to keras, photographs: {rates['extract 12 MP'] / rates['keras 12 MP']:.2f}")
    if options.plot:
        draw(rates, stages, options.plot)
    if options.json:
        options.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
