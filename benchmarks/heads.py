"""Compare heads with scikit-learn and Keras in one run, and measure their memory.

    python benchmarks/heads.py CACHE [--rows 12000] [--rounds 3] [--only softmax,logreg,linear-svm,svm] [--json FILE]
    python benchmarks/heads.py --generate 1000000 [--width 1280] [--folder FOLDER] [--only softmax,logreg]

The first form fits and predicts on the features of a cache: a random part of ``--rows`` images trains, the others are
predicted. Every variant runs ``--rounds`` times in a row, with all threads of BLAS and with one, since some virtual
machines take back idle memory, and the gigabyte of a kernel matrix then costs seconds when it is touched again. The
table has medians of the wall and processor seconds, their ratio, accuracies, and the loss if there is one. The
baselines are:

- softmax: a Keras model of Dropout(0.2) and Dense(softmax), ``model.fit`` for 5 epochs in batches of 100; Adam. The
  head is measured with as many, and with those that it chooses.
- logreg: ``make_pipeline(StandardScaler(), LogisticRegression(C, max_iter=1000))``; the loss is scikit-learn's
  objective, which both minimize, in float64.
- linear-svm: ``make_pipeline(StandardScaler(), LinearSVC(C=0.001))``; the head runs without and with probabilities.
- svm: ``make_pipeline(StandardScaler(), SVC(C=10))`` with the RBF kernel, without probabilities; the head runs
  without and with them.

The second form writes a cache of that many rows of noise around three classes, trains on it in other processes, and
prints their largest resident memory.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from embedonce import FeatureCache, make_head
from embedonce._keras import import_keras
from embedonce.cache.table import Files, Table
from embedonce.cache.writer import write_cache
from rich.console import Console
from rich.table import Table as Shown
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC, LinearSVC
from threadpoolctl import threadpool_limits

Data = tuple[Any, Any, Any, Any]


class KerasSoftmax:
    """The Keras baseline with the interface of a scikit-learn classifier."""

    def fit(self, X: Any, y: Any) -> KerasSoftmax:
        """Train for five epochs."""
        keras = import_keras()
        self.classes_, codes = np.unique(y, return_inverse=True)
        layers = [keras.layers.Dropout(0.2), keras.layers.Dense(len(self.classes_), activation="softmax")]
        self.model = keras.Sequential([keras.Input((X.shape[1],)), *layers])
        self.model.compile(optimizer="adam", loss="sparse_categorical_crossentropy", metrics=["accuracy"])
        self.model.fit(X, codes, epochs=5, batch_size=100, verbose=0)
        return self

    def predict(self, X: Any) -> Any:
        """Return class names."""
        return self.classes_[self.model.predict(X, verbose=0).argmax(axis=1)]


def plain_logreg(C: float) -> Any:
    """Return the scikit-learn baseline."""
    return make_pipeline(StandardScaler(), LogisticRegression(C=C, max_iter=1000))


def objective(model: Any, X: Any, y: Any) -> float:
    """Return the objective of a fitted pipeline of logistic regression, for three or more classes, in float64."""
    scaler, linear = model
    logits = (X.astype(np.float64) - scaler.mean_) / scaler.scale_ @ linear.coef_.T + linear.intercept_
    logits -= logits.max(axis=1, keepdims=True)
    own = logits[np.arange(len(y)), np.searchsorted(linear.classes_, y)]
    return float((np.log(np.exp(logits).sum(axis=1)) - own).sum() + np.square(linear.coef_).sum() / (2 * linear.C))


def measure(make: Callable[[], Any], data: Data) -> dict[str, float]:
    """Fit and predict once."""
    X, y, held, truth = data
    begin, processor = time.perf_counter(), time.process_time()
    head = make().fit(X, y)
    fitted, processor = time.perf_counter(), time.process_time() - processor
    predicted = head.predict(held)
    done = {"fit": fitted - begin, "processor": processor, "predict": time.perf_counter() - fitted}
    done["accuracy"] = float(np.mean(predicted == truth))
    model = getattr(head, "model_", head) if not isinstance(head, KerasSoftmax) and hasattr(head, "classes_") else None
    if hasattr(model, "steps") and isinstance(model[-1], LogisticRegression) and len(model.classes_) > 2:
        done["loss"] = objective(model, X, y)
    return done


def pair(name: str, makers: dict[str, Callable[[], Any]], rounds: int, data: Data) -> list[dict[str, Any]]:
    """Return the medians of several variants, with all threads of BLAS and with one; the first is the baseline."""
    of_all: list[dict[str, Any]] = []
    for threads in (None, 1):
        rows: list[dict[str, Any]] = []
        for way, make in makers.items():
            with threadpool_limits(limits=threads, user_api="blas"):
                runs = [measure(make, data) for _ in range(rounds)]
            row: dict[str, Any] = {"head": name, "way": way, "threads": threads or "all"}
            row |= {key: float(np.median([run[key] for run in runs])) for key in runs[0]}
            for key in ("fit", "processor", "predict"):
                row[f"{key} ratio"] = (rows[0] if rows else row)[key] / row[key]
            rows.append(row)
        of_all += rows
    return of_all


def compare_ways(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Measure the selected heads on a cache."""
    cache = FeatureCache.open(options.cache)
    order = np.random.default_rng(0).permutation(len(cache))
    train, held = np.sort(order[: options.rows]), np.sort(order[options.rows :])
    features, names = cache.features, cache.label_names
    data = (features[train], names[train], features[held], names[held])
    rows: list[dict[str, Any]] = []
    if "softmax" in options.only:
        KerasSoftmax().fit(data[0][:200], data[1][:: len(train) // 200][:200])  # TensorFlow is imported, not measured
        ways = {
            "Keras": KerasSoftmax,
            "embedonce": lambda: make_head("softmax", epochs=5),
            "embedonce, epochs=auto": lambda: make_head("softmax"),
        }
        rows += pair("softmax", ways, options.rounds, data)
    if "logreg" in options.only:
        for C in (1.0, 0.01):
            ways = {"scikit-learn": lambda C=C: plain_logreg(C), "embedonce": lambda C=C: make_head("logreg", C=C)}
            rows += pair(f"logreg, C={C}", ways, options.rounds, data)
    if "linear-svm" in options.only:
        ways = {
            "scikit-learn": lambda: make_pipeline(StandardScaler(), LinearSVC(C=0.001, max_iter=10_000)),
            "embedonce": lambda: make_head("linear-svm", probability=False),
            "embedonce, probabilities": lambda: make_head("linear-svm"),
        }
        rows += pair("linear-svm", ways, options.rounds, data)
    if "svm" in options.only:
        ways = {
            "scikit-learn": lambda: make_pipeline(StandardScaler(), SVC(C=10.0)),
            "embedonce": lambda: make_head("svm", scaling="standard", probability=False),
            "embedonce, probabilities": lambda: make_head("svm", scaling="standard"),
        }
        rows += pair("svm", ways, options.rounds, data)
    return rows


class Noise:
    """Rows around the centres of three classes, made on demand: a `RowSource`."""

    def __init__(self, rows: int, width: int) -> None:
        self.shape = (rows, width)
        self.labels = (np.arange(rows) * 3 // rows).astype(np.int32)
        self.centres = np.random.default_rng(0).uniform(0, 1, (3, width)).astype(np.float32)

    def read_rows(self, start: int, end: int) -> Any:
        """Return float32 rows; always the same ones."""
        runs = []
        for block in range(start // 1024, -(-end // 1024)):
            noise = np.random.default_rng((1, block)).standard_normal((1024, self.shape[1]), np.float32)
            first = block * 1024
            runs.append((5 * noise)[max(start - first, 0) : end - first])
        rows: Any = np.concatenate(runs)
        rows += self.centres[self.labels[start:end]]
        return rows


def generate(path: Path, rows: int, width: int) -> None:
    """Write a cache of generated features."""
    source = Noise(rows, width)
    digests = np.zeros((rows, 32), np.uint8)
    digests[:, :8] = np.arange(rows, dtype=np.uint64).view(np.uint8).reshape(rows, 8)
    paths = [f"class{label}/{number:08d}.jpg".encode() for number, label in enumerate(source.labels.tolist())]
    zeros = np.zeros(rows, np.int64)
    classes = [b"class0", b"class1", b"class2"]
    about = {"architecture": "noise", "alpha": 1.0}
    write_cache(
        Table(about, {"weights": "random:0"}, classes, Files(paths, zeros, zeros, digests), source.labels, source), path
    )


TRAIN = """
import resource, sys, json, time
from pathlib import Path
from embedonce import FeatureCache, make_head
from embedonce.evaluate.scoring.fitting import fit_and_score
from embedonce.evaluate.splits.plan import make_split
cache = FeatureCache.open(sys.argv[1])
split = make_split(cache, "random", 0)
opened = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
begin = time.perf_counter()
result = fit_and_score(sys.argv[2], make_head(sys.argv[2]), cache, split)
done = {"seconds": time.perf_counter() - begin, "fit": result.fit_seconds, "accuracy": result.scores["accuracy"]}
done |= {"opened_mb": opened, "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}
print(json.dumps(done | {"iterations": result.head.n_iter_, "train": len(split.train)}))
"""


def train_from_disk(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Write a cache and train on it in other processes."""
    rows = []
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        path = Path(folder) / "noise.h5"
        begin = time.perf_counter()
        generate(path, options.generate, options.width)
        size = os.path.getsize(path)
        print(
            f"wrote {options.generate:,} rows, {size / 1e9:.2f} GB, in {time.perf_counter() - begin:.0f} s", flush=True
        )
        for name in options.only:
            if name in ("softmax", "logreg"):
                command = [sys.executable, "-c", TRAIN, str(path), name]
                done = subprocess.run(command, stdout=subprocess.PIPE, check=True)
                rows.append({"head": name} | json.loads(done.stdout))
    return rows


def show(rows: list[dict[str, Any]]) -> None:
    """Print a table."""
    columns = list(dict.fromkeys(key for row in rows for key in row))
    table = Shown(*columns)
    for row in rows:
        cells = [row.get(key, "") for key in columns]
        table.add_row(*(f"{cell:.4g}" if isinstance(cell, float) else str(cell) for cell in cells))
    Console(width=180).print(table)


def main() -> None:
    """Measure, print and write JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cache", type=Path, nargs="?")
    parser.add_argument("--rows", type=int, default=12_000, help="images to train on")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--only", type=lambda names: names.split(","), default=["softmax", "logreg", "linear-svm", "svm"]
    )
    parser.add_argument("--generate", type=int, help="rows of a generated cache, instead of CACHE")
    parser.add_argument("--width", type=int, default=1280)
    parser.add_argument("--folder", type=Path, help="write the generated cache here")
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args()
    if (options.cache is None) == (options.generate is None):
        parser.error("give a CACHE or --generate ROWS")
    rows = compare_ways(options) if options.generate is None else train_from_disk(options)
    show(rows)
    if options.json:
        options.json.write_text(json.dumps(rows, indent=2))


if __name__ == "__main__":
    main()
