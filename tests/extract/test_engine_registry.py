from __future__ import annotations

import json

from embedonce.extract.engine_registry import ENGINES, engine_class, engines_for
from embedonce.extract.options import DTYPES
from embedonce.extract.run import extract_features

PLAIN = '''
import sys
from importlib.metadata import version

import numpy as np
from embedonce.extract.backbone.architecture import random_weights
from embedonce.extract.engines.fold import fold, from_bytes, to_bytes
from embedonce.extract.engines.reference import reference_features
from embedonce.extract.engine_registry import ENGINES, StoredModelFormat, EngineSpec
from embedonce.extract.engines.protocol import PreparedModel


class PlainEngine:
    """NumPy, one image at a time."""

    name, batch_size = "plain", 1

    def __init__(self, prepared, image_size, threads=1):
        self.hashes, self.folded = prepared.hashes, from_bytes(prepared.model)
        self.images = np.zeros((1, image_size, image_size, 3), np.float32)

    def versions(self):
        return {"numpy": version("numpy")}

    def session(self):
        return self

    def default_workers(self):
        return 1

    def slot(self, position):
        return self.images[position]

    def run(self, count):
        return reference_features(self.folded, self.images)

    @staticmethod
    def prepare(recipe):
        print("prepared", file=sys.stderr)
        weights = random_weights(recipe.weights.seed, recipe.alpha)
        return PreparedModel(weights, to_bytes(fold(weights)), "plain hands")


ENGINES["plain"] = EngineSpec("__main__", "PlainEngine", ("float32",), StoredModelFormat(".plain", "plain_sha256", "plain_maker"))
from embedonce.cli.app import main
main(sys.argv[1:])
'''


def test_one_entry_of_the_table_is_all_that_an_engine_needs(python, make_images, tmp_path, small, monkeypatch):
    monkeypatch.setenv("EMBEDONCE_HOME", str(tmp_path / "home"))
    images = make_images(tmp_path / "images", per_class=1)
    options = [f"--{name.replace('_', '-')}={value}" for name, value in small.items()]

    def embed(name, *more, status=0):
        return python(PLAIN, "extract", images, tmp_path / name, *options, "--engine", "plain", *more, status=status)

    assert "|plain]" in python(PLAIN, "extract", "--help")
    report = json.loads(embed("a.h5", "--json"))
    assert report["embedded"] == 3
    info = json.loads(python(PLAIN, "info", tmp_path / "a.h5", "--json"))
    assert list(info["provenance"]["engines"]) == ["plain"]
    (kept,) = (tmp_path / "home").glob("*.plain")
    about = json.loads(kept.with_suffix(".json").read_text("ascii"))
    assert about["plain_maker"] == "plain hands"

    kept.touch()
    before = kept.stat().st_mtime_ns
    embed("b.h5")
    assert kept.stat().st_mtime_ns == before  # it was read, not made again
    embed("c.h5", "--precision", "int8", status=2)
    assert "all agree" in python(PLAIN, "verify", tmp_path / "a.h5", "--images", images, "--engine", "keras")


def test_every_engine_is_what_its_entry_says():
    for name, entry in ENGINES.items():
        made = engine_class(name)
        assert made.name == name
        assert (entry.form is not None) == hasattr(made, "prepare")
        assert all(hasattr(made, method) for method in ("versions", "session", "default_workers"))
        assert set(entry.precisions) <= set(DTYPES)


def test_the_documentation_of_extract_names_every_engine():
    assert "engine : {" + ", ".join(f'"{name}"' for name in ("auto", *ENGINES)) + "}" in extract_features.__doc__


def test_every_precision_has_an_engine_and_no_two_engines_share_a_file():
    assert all(engines_for(precision) for precision in DTYPES)
    for values in zip(*(entry.form for entry in ENGINES.values() if entry.form), strict=True):
        assert len(set(values)) == len(values)


def test_the_table_imports_no_engine(python):
    loaded = python(
        "import sys, embedonce.extract.options, embedonce.extract.engine_registry; print(sorted(sys.modules))"
    )
    assert "'embedonce.extract.engines.engines'" not in loaded
