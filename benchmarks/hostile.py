"""Attack files, names and running commands, and count what goes wrong.

    python benchmarks/hostile.py [--scale 1.0] [--seed 0] [--only NAME ...] [--json FILE]

- kills: every command that writes replaces the output of an earlier run and is killed (SIGKILL) at a random moment.
  Its output must be the old one, the new one or marked as unfinished. The same command must then succeed and leave no
  temporary file.
- models: bytes of model files are flipped, and values of their JSON and arrays replaced by others.
- weights: bytes of a file of weights are flipped, most of them in its structure.
- images: bytes of image files are changed, or cut off, in all formats but JPEG and PNG.
- bombs: small files that claim or take much memory or time, each given to its command.
- sharing: four threads and four forked processes read one open cache.
- names: classes, images, heads and files with control characters and markup, through every command.
- interrupt: Ctrl-C while images of 50 megapixels are decoded.

A row of the table has the number of attacks, and how many of them ended in a traceback, took over 60 seconds, ended the
process, or gave something wrong (a mixed or damaged output, a leftover, a value that is not finite, a raw control
character). Reading runs in processes of its own, commands in their own process groups.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import random
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import threading
import time
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np
from embedonce import FeatureCache, load_head, make_head, save_head
from embedonce.errors import EmbedonceError, ImageError
from embedonce.extract import decode
from embedonce.extract.backbone.architecture import random_weights, weight_shapes
from embedonce.extract.backbone.read_h5 import read_weights
from embedonce.heads.io.files import load_predictor, read_metadata
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "heads" / "io"))

LIMIT_S = 60
SMALL = ("--weights", "random:0", "--alpha", "0.35", "--image-size", "64")
WRONG, REFUSED, TRACEBACK, NOT_FINITE, HANG, CRASH = "wrong", "refused", "traceback", "not finite", "hang", "crash"


@dataclass
class Tally:
    """Outcomes of one campaign."""

    outcomes: Counter[str] = field(default_factory=Counter)
    slowest: float = 0.0
    peak: int = 0
    notes: list[str] = field(default_factory=list)

    def add(self, outcome: str, seconds: float = 0.0, peak: int = 0, note: str = "") -> None:
        """Count one attack; ``peak`` is the resident memory in bytes."""
        self.outcomes[outcome] += 1
        self.slowest, self.peak = max(self.slowest, seconds), max(self.peak, peak)
        if outcome in (WRONG, TRACEBACK, NOT_FINITE, HANG, CRASH):
            self.notes.append(f"{outcome}: {note}")
            print(f"  {outcome}: {note}", file=sys.stderr)

    def row(self, name: str) -> str:
        """Return the line of the table."""
        counts = self.outcomes
        cells = [name, f"{counts.total():,}", f"{counts[TRACEBACK]}", f"{counts[HANG]}", f"{counts[CRASH]}"]
        cells += [f"{counts[WRONG] + counts[NOT_FINITE]}", f"{self.slowest:.1f}", f"{self.peak / 2**20:,.0f}"]
        return f"| {' | '.join(cells)} |"


HEADER = (
    "| attacks | number | tracebacks | over 60 s | ended the process | wrong | slowest, s | memory, MiB |\n"
    "|---|---:|---:|---:|---:|---:|---:|---:|"
)


def wait_for(child: int, begin: float) -> tuple[int | None, float, int]:
    """Wait for a process; return its exit code, None if it was killed after 60 seconds, its seconds and memory."""
    while True:
        done, status, usage = os.wait4(child, os.WNOHANG)
        seconds = time.monotonic() - begin
        if done:
            return os.waitstatus_to_exitcode(status), seconds, usage.ru_maxrss * 1024
        if seconds > LIMIT_S:
            os.killpg(child, signal.SIGKILL)
            _, _, usage = os.wait4(child, 0)
            return None, seconds, usage.ru_maxrss * 1024
        time.sleep(0.0005 if seconds < 0.2 else 0.01)


def attempt(tally: Tally, note: str, function: Callable[[], Any]) -> None:
    """Count what a function does in a forked process: it returns, raises, hangs, crashes, or gives NaN."""
    begin, child = time.monotonic(), os.fork()
    if not child:
        os.setpgid(0, 0)
        code = 2
        try:
            with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
                value = function()
            code = 0 if value is None or np.isfinite(value).all() else 3
        except EmbedonceError:
            code = 1
        except BaseException as error:  # the process ends here after any error
            print(f"  {type(error).__name__}: {error}", file=sys.stderr)
        finally:
            sys.stderr.flush()
            os._exit(code)
    code, seconds, peak = wait_for(child, begin)
    names = {None: HANG, 0: "read", 1: REFUSED, 2: TRACEBACK, 3: NOT_FINITE}
    tally.add(names.get(code, CRASH), seconds, peak, note)


class Ended(NamedTuple):
    """A command that has ended: exit code (None after 60 seconds), output, seconds, memory in bytes."""

    code: int | None
    output: str
    seconds: float
    peak: int

    @property
    def outcome(self) -> str:
        """Return the outcome by exit code and output."""
        if self.code is None:
            return HANG
        if self.code < 0:
            return CRASH
        return TRACEBACK if "Traceback (most recent" in self.output else ("read" if self.code == 0 else REFUSED)


def start(arguments: list[str], folder: Path, output: Any) -> subprocess.Popen[bytes]:
    """Start a command in a folder, with its own store and temporary folder there."""
    (folder / "tmp").mkdir(exist_ok=True)
    variables = os.environ | {"EMBEDONCE_HOME": str(folder / "home"), "TMPDIR": str(folder / "tmp"), "NO_COLOR": "1"}
    command = [sys.executable, "-m", "embedonce", *arguments]
    return subprocess.Popen(
        command, cwd=folder, env=variables, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
    )


def run(arguments: list[str], folder: Path) -> Ended:
    """Run a command to its end."""
    with tempfile.TemporaryFile() as output:
        begin = time.monotonic()
        code, seconds, peak = wait_for(start(arguments, folder, output).pid, begin)
        output.seek(0)
        return Ended(code, output.read().decode("utf-8", "replace"), seconds, peak)


def must_run(arguments: list[str], folder: Path) -> Ended:
    """Run a command that has to succeed."""
    ended = run(arguments, folder)
    if ended.code != 0:
        raise SystemExit(f"{' '.join(arguments)} failed:\n{ended.output}")
    return ended


def draw(kind: int, number: int, side: int = 64) -> Image.Image:
    """Draw an image of a class."""
    generator = np.random.default_rng(1000 * kind + number)
    y, x = np.mgrid[:side, :side]
    angle = kind * np.pi / 3 + generator.normal(0, 0.05)
    wave = np.sin((x * np.cos(angle) + y * np.sin(angle)) / (3 + kind) + generator.uniform(0, 6))
    pixels = 120 + 80 * wave[..., None] + generator.normal(0, 12, (side, side, 3))
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def draw_images(folder: Path, per_class: int, classes: tuple[str, ...] = ("ash", "birch", "cedar")) -> None:
    """Write a folder of images, one folder for each class."""
    for kind, name in enumerate(classes):
        (folder / name).mkdir(parents=True)
        for number in range(per_class):
            draw(kind, number).save(folder / name / f"{number:03d}.png")


# --- kills ------------------------------------------------------------------------------------------------------------


class Command(NamedTuple):
    """A command whose second form replaces the output of the first, if any; ``last`` is written as the last file."""

    first: str
    second: str
    output: str
    last: str = ""


COMMANDS = [
    Command("extract images x.h5 " + " ".join(SMALL), "extract more x.h5 " + " ".join(SMALL), "x.h5"),
    Command("extract images x.cache " + " ".join(SMALL), "extract more x.cache " + " ".join(SMALL), "x.cache"),
    Command("", "pack b.cache x.h5", "x.h5"),
    Command(
        "train c.h5 --head logreg --split random -o x.npz",
        "train c.h5 --head logreg --split random --seed 1 -o x.npz",
        "x.npz",
    ),
    Command(
        "train c.h5 --head softmax --split random -o x.keras",
        "train c.h5 --head softmax --split random --seed 1 -o x.keras",
        "x.keras",
    ),
    Command(
        "train c.h5 --head sklearn.tree:DecisionTreeClassifier --split random -o x.skops",
        "train c.h5 --head sklearn.tree:DecisionTreeClassifier --split random --seed 1 -o x.skops",
        "x.skops",
    ),
    Command(
        "compare c.h5 --heads logreg,knn --split random -o x",
        "compare c.h5 --heads svm,knn --split random --seed 1 -o x",
        "x",
        "results.json",
    ),
    Command(
        "tune c.h5 --head knn --space n_neighbors=1,3 --folds 2 --split random -o x",
        "tune c.h5 --head knn --space n_neighbors=1,5 --folds 2 --split random --seed 1 -o x",
        "x",
        "tune.json",
    ),
    Command("groups a.cache -o x.csv --report x", "groups b.cache -o x.csv --report x", "x", "groups.json"),
    Command("explain m.npz images/ash/000.png -o x.png", "explain m.npz images/ash/001.png -o x.png", "x.png"),
    Command("export m.npz -o x.tflite", "export n.npz -o x.tflite", "x.tflite"),
    Command(
        "finetune images --from s.keras --unfreeze 2 --epochs 1 -o x.keras",
        "finetune images --from s.keras --unfreeze 2 --epochs 3 --learning-rate 0.001 -o x.keras",
        "x.keras",
    ),
]


def prepare(folder: Path) -> None:
    """Write images, caches and models that the commands read."""
    draw_images(folder / "images", 12)
    draw_images(folder / "more", 15)
    must_run(["extract", "images", "c.h5", *SMALL], folder)
    must_run(["extract", "images", "a.cache", *SMALL], folder)
    must_run(["extract", "more", "b.cache", *SMALL], folder)
    must_run(["train", "c.h5", "--head", "logreg", "--split", "random", "-o", "m.npz"], folder)
    must_run(["train", "c.h5", "--head", "logreg", "--split", "random", "--seed", "1", "-o", "n.npz"], folder)
    must_run(["train", "c.h5", "--head", "softmax", "--split", "random", "-o", "s.keras"], folder)
    shutil.rmtree(folder / "tmp")


def listing(folder: Path) -> set[str]:
    """Return the paths of all files; without shards that a manifest names, and temporary files of other programs."""
    named = "".join(path.read_text("ascii") for path in folder.rglob("manifest.json"))
    shards = {path for path in folder.rglob("shard-*.h5") if path.stem.removeprefix("shard-") in named}
    paths = {str(path.relative_to(folder)) for path in {*folder.rglob("*")} - shards if path.is_file()}
    return {path for path in paths if not path.startswith(("home/", "tmp/")) or ".tmp" in path or "embedonce-" in path}


def contents(path: Path) -> dict[str, bytes]:
    """Return the bytes of a file, or of the files of a folder, by name."""
    if path.is_file():
        return {"": path.read_bytes()}
    return {str(file.relative_to(path)): file.read_bytes() for file in path.rglob("*") if file.is_file()}


def is_whole(path: Path) -> bool:
    """Return whether a file of one output can be read."""
    try:
        if path.suffix in (".h5", ".cache"):
            with FeatureCache.open(path) as cache:
                return bool(np.isfinite(cache.features).all())
        if path.suffix in (".npz", ".skops"):
            return len(load_head(path).classes_) == 3
        if path.suffix in (".keras", ".tflite"):
            with zipfile.ZipFile(path) as archive:
                return archive.testzip() is None
        with Image.open(path) as image:
            image.load()
        return True
    except (EmbedonceError, OSError, zipfile.BadZipFile):
        return False


def judge(command: Command, folder: Path, old: dict[str, bytes], new: dict[str, bytes]) -> str:
    """Return what is wrong with an output after a kill; an empty text if nothing is."""
    path = folder / command.output
    if not command.last:
        if not path.exists():
            return "" if not old else "the output of the earlier run is lost"
        return "" if contents(path) == old or is_whole(path) else "the output is damaged"
    found = {name: data for name, data in contents(path).items() if not name.startswith(".")}
    found.pop("results.partial.json", None)  # scores of the heads that the killed run had finished
    if command.last not in found:
        return ""  # readers refuse it as unfinished
    differing = [name for name in found if old.get(name) != new.get(name)]
    ages = {"old" if found[name] == old.get(name) else "new" for name in differing}
    if len(ages) > 1:
        return f"files of two runs: {', '.join(sorted(differing))}"
    missing = {name for name in (old if ages == {"old"} else new) if not name.startswith(".")} ^ set(found)
    return f"missing or foreign files: {', '.join(sorted(missing))}" if missing else ""


def kills(tally: Tally, scale: float, generator: random.Random, work: Path) -> None:
    """Kill every command."""
    prepare(base := work / "base")
    for command in COMMANDS:
        before = work / "before"
        shutil.copytree(base, before)
        if command.first:
            must_run(command.first.split(), before)
        old, clean = contents(before / command.output), work / "clean"
        shutil.copytree(before, clean)
        seconds = must_run(command.second.split(), clean).seconds
        new, expected = contents(clean / command.output), listing(clean)
        for _ in range(max(1, round(4 * scale))):
            folder, moment = work / "killed", generator.uniform(0.2, 1) * seconds
            shutil.copytree(before, folder)
            process = start(command.second.split(), folder, subprocess.DEVNULL)
            time.sleep(moment)
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            note = f"{command.second}, killed after {moment:.2f} of {seconds:.2f} s: "
            wrong = judge(command, folder, old, new)
            if not command.first:  # it refuses an output that exists
                (folder / command.output).unlink(missing_ok=True)
            again = run(command.second.split(), folder)
            if left := listing(folder) - expected:
                wrong += f" left {', '.join(sorted(left))}"
            if again.code != 0:
                wrong += f" run again: {again.output[-300:]}"
            outcome = again.outcome if again.outcome in (TRACEBACK, HANG, CRASH) else (WRONG if wrong else "whole")
            tally.add(outcome, again.seconds, again.peak, note + wrong)
            shutil.rmtree(folder)
        shutil.rmtree(before)
        shutil.rmtree(clean)


# --- files ------------------------------------------------------------------------------------------------------------


def flipped(data: bytes, generator: random.Random, end: int | None = None) -> bytes:
    """Return the bytes with one changed; it is before ``end``."""
    place = generator.randrange(len(data) if end is None else min(end, len(data)))
    return data[:place] + bytes([data[place] ^ generator.randrange(1, 256)]) + data[place + 1 :]


def use_model(path: Path, features: Any) -> Any:
    """Read a model file in all ways; return probabilities."""
    read_metadata(path)
    load_predictor(path).predict_proba(features)
    return load_head(path).predict_proba(features)


def models(tally: Tally, scale: float, generator: random.Random, work: Path) -> None:
    """Change model files."""
    from model_mutations import flips, type_changes

    prepare(work)
    with FeatureCache.open(work / "c.h5") as cache:
        features, labels = cache.features, cache.label_names
        heads = {"logreg": ".npz", "softmax": ".npz", "svm": ".npz", "linear-svm": ".npz", "knn": ".npz"}
        for name, suffix in heads.items():
            save_head(make_head(name).fit(features, labels), work / f"{name}{suffix}", cache=cache)
        tree = make_head("sklearn.tree:DecisionTreeClassifier", max_depth=2).fit(features, labels)
        save_head(tree, work / "tree.skops", cache=cache)
    originals = [work / f"{name}{suffix}" for name, suffix in heads.items()] + [work / "tree.skops"]
    for original in originals:
        target, data = work / f"changed{original.suffix}", original.read_bytes()
        counts = [round(number * scale / len(originals)) + 1 for number in (600, 400)]
        for change, content in chain(flips(data, counts[0], generator), type_changes(data, counts[1], generator)):
            target.write_bytes(content)
            attempt(tally, f"{original.name}: {change}", lambda target=target: use_model(target, features))


def weights_file(path: Path) -> bytes:
    """Write random weights as Keras writes ``.h5`` files; return their bytes."""
    weights = random_weights(0, 0.35)
    with h5py.File(path, "w") as file:
        layers: dict[str, list[str]] = {}
        for name in weight_shapes(0.35):
            layers.setdefault(name.partition("/")[0], []).append(name)
        file.attrs["layer_names"] = np.array([name.encode() for name in layers])
        for layer, names in layers.items():
            group = file.create_group(layer)
            group.attrs["weight_names"] = np.array([f"{name}:0".encode() for name in names])
            for name in names:
                group.create_dataset(f"{name}:0", data=weights[name])
    return path.read_bytes()


def structure_of(data: bytes) -> list[int]:
    """Return the offsets of the HDF5 structures of a file: everything but the values of its datasets."""
    with h5py.File(io.BytesIO(data)) as file:
        ranges: list[tuple[int, int]] = []
        file.visititems(
            lambda _, item: (
                ranges.append((item.id.get_offset(), item.nbytes)) if isinstance(item, h5py.Dataset) else None
            )
        )
    values = np.zeros(len(data), np.bool_)
    for offset, size in ranges:
        values[offset : offset + size] = True
    return np.flatnonzero(~values).tolist()


def weights(tally: Tally, scale: float, generator: random.Random, work: Path) -> None:
    """Change files of weights."""
    data = weights_file(work / "weights.h5")
    places, path = structure_of(data), work / "changed.h5"
    for number in range(round(1500 * scale)):
        place = generator.randrange(len(data)) if number % 4 == 0 else generator.choice(places)
        value = data[place] ^ generator.randrange(1, 256)
        path.write_bytes(data[:place] + bytes([value]) + data[place + 1 :])

        def read() -> Any:
            # every value may be another one, but each is finite
            return sum(float(array.sum(dtype=np.float64)) for array in read_weights(path, 0.35).values())

        attempt(tally, f"byte {place} of the weights is {value}", read)


def image_files() -> dict[str, bytes]:
    """Return a small file of each format that Pillow and others decode."""
    image, files = draw(0, 0), {}
    kinds = {"gif": "GIF", "bmp": "BMP", "webp": "WEBP", "jp2": "JPEG2000", "avif": "AVIF", "ppm": "PPM"}
    for suffix, kind in kinds.items():
        image.save(buffer := io.BytesIO(), kind)
        files[suffix] = buffer.getvalue()
    for compression in ("raw", "tiff_lzw", "tiff_deflate", "jpeg"):
        image.save(buffer := io.BytesIO(), "TIFF", compression=compression)
        files[f"{compression}.tiff"] = buffer.getvalue()
    import pillow_heif
    import pydicom

    pillow_heif.from_pillow(image).save(buffer := io.BytesIO())
    files["heic"] = buffer.getvalue()
    for syntax in (pydicom.uid.ExplicitVRLittleEndian, pydicom.uid.RLELossless):
        dataset = pydicom.Dataset()
        dataset.file_meta = pydicom.dataset.FileMetaDataset()
        dataset.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
        dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID = pydicom.uid.SecondaryCaptureImageStorage
        dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID = "1.2.3"
        dataset.Rows = dataset.Columns = image.width
        dataset.SamplesPerPixel, dataset.PhotometricInterpretation, dataset.PixelRepresentation = 1, "MONOCHROME2", 0
        dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, 12, 11
        dataset.WindowCenter, dataset.WindowWidth = 2000, 1000
        dataset.PixelData = (np.asarray(image.convert("L"), np.uint16) << 4).tobytes()
        if syntax == pydicom.uid.RLELossless:
            dataset.compress(syntax)
        dataset.save_as(buffer := io.BytesIO(), enforce_file_format=True)
        files[f"{syntax.name.split()[0].lower()}.dcm"] = buffer.getvalue()
    return files


def images(tally: Tally, scale: float, generator: random.Random, work: Path) -> None:
    """Change image files of each format, a hundred in a process."""
    import warnings

    warnings.simplefilter("ignore")
    for name, data in image_files().items():
        header = min(len(data), 400)
        for batch in range(max(1, round(100 * scale))):
            changed = []
            for _ in range(100):
                content = data
                for _ in range(generator.choice([1, 1, 2, 4])):
                    content = flipped(content, generator, generator.choice([header, None]))
                changed.append(content[: generator.randrange(len(data))] if generator.random() < 0.1 else content)

            def decode_all(changed: list[bytes] = changed) -> None:
                for content in changed:
                    with contextlib.suppress(ImageError):
                        decode(content)

            attempt(tally, f"batch {batch} of {name}", decode_all)
    tally.outcomes = Counter({outcome: 100 * count for outcome, count in tally.outcomes.items()})


# --- bombs ------------------------------------------------------------------------------------------------------------


def png(width: int, height: int) -> bytes:
    """Return a PNG file of zeros, compressed as it is made."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    packer, row = zlib.compressobj(9), bytes(1 + width)
    rows = b"".join(packer.compress(row) for _ in range(height)) + packer.flush()
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    text = chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(100_000_000), 9))
    return b"\x89PNG\r\n\x1a\n" + header + text + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def jpeg(mode: str, side: int, scans: int = 0) -> bytes:
    """Return a progressive JPEG file whose last scan is repeated."""
    buffer = io.BytesIO()
    Image.new(mode, (side, side)).save(buffer, "JPEG", progressive=True)
    data = buffer.getvalue()
    return data[:-2] + scans * data[data.rindex(b"\xff\xda") : -2] + data[-2:]


def image_bombs() -> Iterator[tuple[str, bytes]]:
    """Yield image files."""
    yield "wide.png", png(10_000_000, 1)
    yield "widest.png", png(50_000_000, 1)
    yield "tall.png", png(1, 1_000_000)
    yield "large.png", png(7000, 7000)
    yield "scans.jpg", jpeg("RGB", 7000, 2646)
    yield "many-scans.jpg", jpeg("RGB", 7000, 20_000)
    yield "allowed-scans.jpg", jpeg("RGB", 7000, 40)
    yield "cmyk.jpg", jpeg("CMYK", 7000)
    yield "claims.gif", b"GIF89a\xff\xff\xff\xff\xf0\0\0" + bytes(6) + b",\0\0\0\0\xff\xff\xff\xff\0\2\2D\1\0;"
    yield "claims.bmp", b"BM" + struct.pack("<IIIIiiHHIIiiII", 100, 0, 54, 40, 40_000, 40_000, 1, 24, 0, 0, 0, 0, 0, 0)


def zip_of(original: bytes, **entries: bytes) -> bytes:
    """Return a zip archive with further or other entries, compressed."""
    buffer = io.BytesIO()
    replaced = {name.replace("__", "."): data for name, data in entries.items()}
    with zipfile.ZipFile(io.BytesIO(original)) as old, zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            if name not in replaced:
                new.writestr(name, old.read(name))
        for name, data in replaced.items():
            new.writestr(name, data)
    return buffer.getvalue()


def model_bombs(work: Path) -> Iterator[tuple[str, bytes, list[str]]]:
    """Yield name and content of files, and the command that reads each."""
    model, zeros = (work / "m.npz").read_bytes(), bytes(2 * 10**9)
    deep = b"[" * 200_000 + b"]" * 200_000
    yield "zip.npz", zip_of(model, coef_=zeros), ["predict", "zip.npz", "images"]
    yield "zip.skops", zip_of(model, schema__json=zeros), ["predict", "zip.skops", "images"]
    yield "zip.keras", zip_of(model, config__json=zeros), ["predict", "zip.keras", "images"]
    yield "deep.npz", zip_of(model, embedonce__json=deep), ["predict", "deep.npz", "images"]
    yield "deep.toml", b"a = " + deep, ["compare", "c.h5", "--config", "deep.toml", "-o", "x"]
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(buffer, {"descr": "<f8", "fortran_order": False, "shape": (10**12,)})
    yield "shape.npz", zip_of(model, coef___npy=buffer.getvalue()), ["predict", "shape.npz", "images"]
    extract = ["extract", "images", "y.h5", "--alpha", "0.35", "--image-size", "64", "--weights"]
    for name, add in (("claims.h5", claim), ("external.h5", external), ("virtual.h5", virtual), ("link.h5", link)):
        path = work / f"made-{name}"
        weights_file(path)
        with h5py.File(path, "a") as file:
            del file["Conv1/Conv1/kernel:0"]
            add(file["Conv1/Conv1"], "kernel:0", path)
        yield name, path.read_bytes(), [*extract, name]


def claim(group: h5py.Group, name: str, path: Path) -> None:
    """Add a dataset that claims 864 GB and has no values."""
    group.create_dataset(name, (3, 3, 3, 8 * 10**9), "f4", chunks=(3, 3, 3, 1000), compression="gzip")


def external(group: h5py.Group, name: str, path: Path) -> None:
    """Add a dataset whose values are those of another file."""
    group.create_dataset(name, (3, 3, 3, 16), "f4", external=[("/dev/zero", 0, 1728)])


def virtual(group: h5py.Group, name: str, path: Path) -> None:
    """Add a dataset of parts of another file."""
    layout = h5py.VirtualLayout((3, 3, 3, 16), "f4")
    layout[:] = h5py.VirtualSource(str(path.with_name("c.h5")), "features", (3, 3, 3, 16))
    group.create_virtual_dataset(name, layout)


def link(group: h5py.Group, name: str, path: Path) -> None:
    """Add a link to another file."""
    group[name] = h5py.ExternalLink(str(path.with_name("c.h5")), "/features")


def bombs(tally: Tally, scale: float, generator: random.Random, work: Path) -> None:
    """Give each file to its command."""
    prepare(work)
    for name, data in image_bombs():
        folder = work / name.replace(".", "-")
        draw_images(folder, 2)
        (folder / "ash" / name).write_bytes(data)
        ended = run(["extract", folder.name, f"{folder.name}.h5", *SMALL], work)
        outcome = ended.outcome if ended.code == 0 else (WRONG if ended.outcome == REFUSED else ended.outcome)
        tally.add(outcome, ended.seconds, ended.peak, f"{name}: {ended.output[-300:]}")
    for name, data, command in model_bombs(work):
        (work / name).write_bytes(data)
        ended = run(command, work)
        tally.add(WRONG if ended.code == 0 else ended.outcome, ended.seconds, ended.peak, f"{name}: {ended.output}")


# --- sharing, names, interrupt ----------------------------------------------------------------------------------------


def sharing(tally: Tally, scale: float, generator: random.Random, work: Path) -> None:
    """Read one cache in threads and forked processes."""
    prepare(work)
    with FeatureCache.open(work / "c.h5") as cache:
        expected = cache.features.copy()

    cache = FeatureCache.open(work / "c.h5")

    def read(seed: int) -> int:
        draws, wrong = np.random.default_rng(seed), 0
        for _ in range(round(500 * scale) + 1):
            rows = draws.integers(0, len(expected), draws.integers(1, 30))
            try:
                wrong += not np.array_equal(cache[rows], expected[rows])
            except EmbedonceError:
                wrong += 1
        return wrong

    results: list[int] = []
    threads = [threading.Thread(target=lambda seed=seed: results.append(read(seed))) for seed in range(4)]
    children = []
    for seed in range(4, 8):
        child = os.fork()
        if not child:
            os._exit(min(read(seed), 255))
        children.append(child)
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    results += [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    reads = 8 * (round(500 * scale) + 1)
    tally.outcomes["read"] += reads - sum(results)
    tally.outcomes[WRONG] += sum(results)
    cache.close()


NAMES = ("[tabby] cat", "[link=a]b", "$5$ \x1b[31mred", "a\rb\x07\x9b\u202e")


def names(tally: Tally, scale: float, generator: random.Random, work: Path) -> None:
    """Use names with control characters and markup in every command."""
    draw_images(work / "\x1b[1mphotos", 6, NAMES)
    commands = [
        ["extract", "\x1b[1mphotos", "\x1b[2Jc.h5", *SMALL],
        ["info", "\x1b[2Jc.h5"],
        ["verify", "\x1b[2Jc.h5", "--images", "\x1b[1mphotos"],
        ["groups", "\x1b[2Jc.h5", "-o", "\x1b[3mg.csv", "--report", "\x1b[3mg"],
        ["train", "\x1b[2Jc.h5", "--head", "logreg", "--split", "random", "-o", "\x1b[4mm.npz"],
        ["evaluate", "\x1b[4mm.npz", "\x1b[2Jc.h5"],
        ["predict", "\x1b[4mm.npz", "\x1b[1mphotos"],
        ["explain", "\x1b[4mm.npz", f"\x1b[1mphotos/{NAMES[2]}/000.png", "-o", "\x1b[5me.png"],
        ["tune", "\x1b[2Jc.h5", "--head", "knn", "--space", "n_neighbors=1", "--folds", "2", "-o", "\x1b[6mt"],
        ["compare", "\x1b[2Jc.h5", "--heads", "knn,dummy", "--split", "random", "-o", "\x1b[7ma"],
        ["compare", "\x1b[2Jc.h5", "--heads", "knn,dummy", "--split", "random", "--seed", "1", "-o", "\x1b[7mb"],
        ["diff", "\x1b[7ma", "\x1b[7mb"],
        ["export", "\x1b[4mm.npz", "-o", "\x1b[8mx.tflite"],
        ["evaluate", "\x1b[4mm.npz", "\x1b[9mmissing.h5"],
        ["init", "\x1b[9mi.toml"],
        ["nothing\x1b[0m"],
    ]
    for command in commands:
        ended = run(command, work)
        raw = {character for character in ended.output if not character.isprintable() and character != "\n"}
        outcome = WRONG if raw else ended.outcome
        tally.add(outcome, ended.seconds, ended.peak, f"{command[0]}: {sorted(raw)} {ended.output[-300:]!r}")


def interrupt(tally: Tally, scale: float, generator: random.Random, work: Path) -> None:
    """Interrupt runs; the slowest is the longest time from the signal to the end."""
    draw_images(work / "images", 2)
    must_run(["extract", "images", "x.h5", *SMALL], work)  # prepares the backbone
    data = jpeg("RGB", 7000, 40)
    for number in range(12):
        # other content, so that every file is decoded
        (work / "images" / "ash" / f"slow{number}.jpg").write_bytes(data + bytes([number]))
    for _ in range(max(1, round(5 * scale))):
        process = start(["extract", "images", "x.h5", *SMALL], work, subprocess.DEVNULL)
        time.sleep(generator.uniform(2, 6))
        os.kill(process.pid, signal.SIGINT)
        code, seconds, peak = wait_for(process.pid, time.monotonic())
        late = HANG if code is None else (WRONG if seconds > 1 else "ended")
        tally.add(late, seconds, peak, f"ended {seconds:.1f} s after the interrupt, status {code}")


CAMPAIGNS: dict[str, Callable[[Tally, float, random.Random, Path], None]] = {
    function.__name__: function for function in (kills, models, weights, images, bombs, sharing, names, interrupt)
}


def main() -> None:
    """Run as the module's docstring says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scale", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="+", choices=CAMPAIGNS, default=list(CAMPAIGNS))
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    print(HEADER)
    results = {}
    for name in options.only:
        tally = Tally()
        with tempfile.TemporaryDirectory() as folder:
            CAMPAIGNS[name](tally, options.scale, random.Random(options.seed), Path(folder))
        print(tally.row(name), flush=True)
        results[name] = {**vars(tally), "outcomes": dict(tally.outcomes)}
    if options.json:
        options.json.write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
