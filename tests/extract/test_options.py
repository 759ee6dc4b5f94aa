"""Options of an extraction, and threads, which change no feature."""

from __future__ import annotations

import os

import numpy as np
import pytest
from embedonce._keras import import_keras
from embedonce.errors import ParameterError
from embedonce.extract.engines import engines
from embedonce.extract.engines.litert import Interpreter
from embedonce.extract.engines.prepared_models import load_prepared
from embedonce.extract.recipe import make_recipe
from embedonce.extract.run import extract_features


@pytest.mark.parametrize("precision", ["float32", "int8"])
def test_threads_inside_an_interpreter_change_no_bit(images, tmp_path, small, precision):
    for threads in (1, 2, 3):
        extract_features(
            images, tmp_path / f"{threads}.h5", precision=precision, engine="litert", threads=threads, **small
        )
    assert len({(tmp_path / f"{threads}.h5").read_bytes() for threads in (1, 2, 3)}) == 1


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["float32", "int8"])
def test_threads_change_no_bit_of_large_layers(precision):
    """Small layers may not be worth sharing to LiteRT; those of 128 pixels are."""
    recipe = make_recipe("random:0", 0.35, 128, precision)
    model = (load_prepared(recipe, "litert") or engines.prepare(recipe, "litert")).model
    image = np.random.RandomState(0).uniform(0, 255, (128, 128, 3)).astype(np.float32)
    rows = []
    for threads in (1, 2, 4):
        session = Interpreter(model, threads)
        np.copyto(session.slot(0), image)
        rows.append(session.run(1))
    np.testing.assert_array_equal(rows[0], rows[1])
    np.testing.assert_array_equal(rows[0], rows[2])


def test_an_interpreter_gets_the_threads_that_were_asked_for(cache_path, small, monkeypatch):
    from ai_edge_litert import interpreter as litert

    seen = []
    real = litert.Interpreter
    monkeypatch.setattr(litert, "Interpreter", lambda **options: (seen.append(options), real(**options))[1])
    for threads in (None, 3):
        engines.make_engine("litert", make_recipe(*small.values()), threads).session()
    assert [options["num_threads"] for options in seen] == [1, 3]


@pytest.mark.parametrize(
    ("processors", "threads", "workers"), [(8, None, 8), (8, 1, 8), (8, 3, 2), (8, 8, 1), (2, 16, 1)]
)
def test_workers_and_threads_share_the_processors(cache_path, small, monkeypatch, processors, threads, workers):
    monkeypatch.setattr(engines, "cpu_count", lambda: processors)
    assert engines.make_engine("litert", make_recipe(*small.values()), threads).default_workers() == workers


def test_threads_of_keras_are_those_of_tensorflow(python):
    code = (
        "import embedonce\n"
        "from embedonce.extract.engines.engines import make_engine\n"
        "from embedonce.extract.recipe import make_recipe\n"
        "recipe = make_recipe('random:0', 0.35, 32)\n"
        "make_engine('keras', recipe, 1)\n"
        "import tensorflow as tf\n"
        "print(tf.config.threading.get_intra_op_parallelism_threads())\n"
        "try: make_engine('keras', recipe, 2)\n"
        "except embedonce.EmbedonceError as error: print(error)\n"
    )
    number, error = python(code).splitlines()
    assert number == "1"
    assert error.startswith("parameter threads of extract must be what TensorFlow began with in this process, 1, got 2")


def test_threads_of_keras_come_too_late_once_tensorflow_runs(small):
    import_keras().ops.zeros(1)
    with pytest.raises(ParameterError, match=r"in this process, all, got 3. Start a new process, or use engine lit"):
        engines.make_engine("keras", make_recipe(*small.values()), 3)


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="needs processor affinity")
def test_workers_are_no_more_than_the_affinity_allows(python):
    code = (
        "import os\n"
        "os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})\n"
        "from embedonce.extract.engines.engines import LiteRTEngine, PreparedModel\n"
        "print(LiteRTEngine(PreparedModel({}, b'', ''), 32).default_workers())\n"
    )
    assert python(code) == "1\n"
