"""Heads in parallel processes give the results of one process, or one error."""

from __future__ import annotations

import os
import pickle
import shutil
import sys
import threading
import time
from functools import partial

import cloudpickle
import embedonce
import numpy as np
import pytest
from embedonce.cache import FeatureCache
from embedonce.errors import CacheError, ClusterError, HeadError, HeadParameterError, ParameterError
from embedonce.evaluate.comparison import run
from embedonce.evaluate.scoring.parallel import run_jobs
from embedonce.extract import Progress
from kept_lines import KeptLines
from parallel_heads import Broken, ComesBackBroken, Deadly, FromNowhere, Head, Locked, LocksItself, Slow

cloudpickle.register_pickle_by_value(sys.modules[__name__])  # workers do not find the tests

compare = partial(run.compare, split="random")  # near-duplicates, which nothing here is about, are not searched
HEADS = ["softmax", "svm", "logreg", "dummy", "sklearn.linear_model:Perceptron"]


@pytest.fixture(scope="module")
def comparisons(cache_path):
    return compare(cache_path, HEADS), compare(cache_path, HEADS, jobs=2)


def test_the_results_are_those_of_one_process(comparisons):
    one, many = comparisons
    assert [result.name for result in many.results] == HEADS
    for here, there in zip(one.results, many.results, strict=True):
        np.testing.assert_array_equal(there.predicted, here.predicted)
        assert there.scores["confusion"] == here.scores["confusion"]
        assert there.head.get_params() == here.head.get_params()
        assert there.fit_seconds > 0
        if here.probabilities is None:
            assert there.probabilities is None
        else:
            np.testing.assert_allclose(there.probabilities, here.probabilities, atol=1e-6)
    assert [result.name for result in many.table] == [result.name for result in one.table]


def test_a_head_that_comes_back_is_fitted_and_has_its_curves(comparisons, cache, tmp_path):
    one, many = comparisons
    for key, values in one.result("softmax").history.items():
        np.testing.assert_allclose(many.result("softmax").history[key], values, rtol=1e-5)
    for name in HEADS:
        predicted = many.result(name).head.predict(cache.features)
        np.testing.assert_array_equal(predicted, one.result(name).head.predict(cache.features))
    embedonce.save_head(many.result("softmax").head, tmp_path / "a.keras")
    loaded = embedonce.load_head(tmp_path / "a.keras").predict_proba(cache.features)
    np.testing.assert_allclose(loaded, one.result("softmax").head.predict_proba(cache.features), atol=1e-6)


def test_times_that_were_taken_beside_each_other_are_noted(comparisons):
    one, many = comparisons
    assert any("only with jobs=1" in note for note in many.notes)
    assert not any("only with jobs=1" in note for note in one.notes)


def test_the_first_process_does_not_import_tensorflow(cache_path, python, tmp_path):
    code = (
        "import sys, embedonce\n"
        "heads = {'softmax': {'epochs': 5}, 'dummy': {}}\n"
        "comparison = embedonce.compare(sys.argv[1], heads, split='random', jobs=2)\n"
        "comparison.save(sys.argv[2], figures='report')\n"
        "print('tensorflow' in sys.modules, len(comparison.result('softmax').history['loss']))\n"
    )
    assert python(code, cache_path, tmp_path / "results") == "False 5\n"


def test_heads_are_fitted_in_other_processes_and_announced_here(cache_path):
    class Announced(KeptLines):
        def now(self, text):
            assert threading.current_thread() is threading.main_thread()
            super().say(text)

    heads, progress = {name: Head() for name in "abcde"}, Announced()
    made = compare(cache_path, heads, jobs=2, progress=progress)
    assert progress.lines[:5] == [f"training {name} …" for name in "abcde"]
    pids = {result.head.process_ for result in made.results}
    assert os.getpid() not in pids
    assert 1 <= len(pids) <= 2


def test_one_head_or_one_job_stays_in_this_process(cache_path):
    assert compare(cache_path, {"a": Head()}, jobs=2).result("a").head.process_ == os.getpid()
    assert compare(cache_path, {"a": Head(), "b": Head()}).result("b").head.process_ == os.getpid()


def slept(seconds):
    time.sleep(seconds)
    return seconds


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_results_come_in_the_order_of_the_jobs(n_jobs):
    started = []
    jobs = {str(number): (seconds,) for number, seconds in enumerate((0.5, 0.0, 0.1, 0.0))}
    assert list(run_jobs(slept, jobs, n_jobs, on_start=started.append)) == [0.5, 0.0, 0.1, 0.0]
    assert started == [0, 1, 2, 3]


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_head_that_fails_leaves_the_others(cache_path, jobs):
    comparison = compare(cache_path, {"mine": Broken(), "good": Head()}, split="random", jobs=jobs)
    assert [result.name for result in comparison.results] == ["good"]
    error = comparison.failed["mine"]
    assert str(error) == "head 'mine' failed: RuntimeError: no luck today"
    assert jobs == 1 or "in fit\n" in str(error.__cause__)  # the traceback of the worker, for --debug
    assert f"mine is left out: {error}" in comparison.notes


@pytest.mark.parametrize("jobs", [1, 2])
def test_heads_that_all_fail_are_an_error(cache_path, jobs):
    with pytest.raises(HeadError, match=r"^head 'mine' failed: RuntimeError: no luck today$"):
        compare(cache_path, {"mine": Broken()}, jobs=jobs)


def test_a_wrong_parameter_is_the_error_of_one_process(cache_path):
    with pytest.raises(HeadParameterError, match=r"^parameter C of head 'logreg' must be a number above 0, got -1$"):
        compare(cache_path, {"dummy": {}, "logreg": {"C": -1}}, jobs=2)


def slept_or_failed(seconds):
    if seconds < 0:
        raise RuntimeError("no luck today")
    time.sleep(seconds)


def test_the_first_error_of_jobs_ends_the_others():
    with pytest.raises(HeadError, match="quick failed: RuntimeError: no luck today"):
        list(run_jobs(slept_or_failed, {"slow": (300,), "quick": (-1,)}, 2))


@pytest.mark.filterwarnings("error:.*tasks")
def test_an_interrupt_ends_the_others(cache_path):
    class Interrupting(Progress):
        def now(self, text):
            if "third" in text:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        compare(cache_path, {"slow": Slow(), "quick": Head(), "third": Head()}, jobs=2, progress=Interrupting())


@pytest.mark.parametrize(
    ("head", "message"),
    [
        (Locked(), r"^head 'mine' cannot be sent to a worker process \(TypeError: .*lock.*\); with jobs=1 it stays"),
        (LocksItself(), r"^head 'mine' cannot be sent back from a worker process \(TypeError: .*lock.*\); with jobs=1"),
        (FromNowhere(), r"^head 'mine' cannot be made in a worker process \(ModuleNotFoundError: .*no_such_module.*\)"),
        (ComesBackBroken(), r"^head 'mine' cannot be read back from a worker process \(ModuleNotFoundError: "),
    ],
)
def test_a_head_that_cannot_be_pickled_is_one_error(cache_path, head, message):
    with pytest.raises(HeadError, match=message):
        raise compare(cache_path, {"good": Head(), "mine": head}, jobs=2).failed["mine"]
    assert len(compare(cache_path, {"good": Head(), "mine": head}).results) == 2


def test_a_process_that_is_killed_leaves_the_others(cache_path):
    comparison = compare(cache_path, {"mine": Deadly(), "good": Head(), "other": Head()}, split="random", jobs=2)
    assert [result.name for result in comparison.results] == ["good", "other"]
    message = "head 'mine': a worker process was killed, crashed, or ran out of memory"
    assert str(comparison.failed["mine"]) == message
    assert isinstance(comparison.failed["mine"], ClusterError)


@pytest.mark.parametrize("jobs", [0, -1, True, 1.5, "2", None])
def test_an_impossible_number_of_jobs_stops_before_training(cache_path, jobs):
    with pytest.raises(ParameterError, match="parameter jobs of compare must be an integer of at least 1, got"):
        compare(cache_path, ["dummy"], jobs=jobs)


def test_jobs_and_dask_do_not_go_together(cache_path):
    with pytest.raises(ParameterError, match="parameter jobs of compare .* cannot go together with dask"):
        compare(cache_path, ["dummy"], jobs=2, dask="tcp://127.0.0.1:1")


@pytest.fixture(params=["a.h5", "a.cache"])
def changing(request, tmp_path, make_images, small):
    """A cache that was opened, and a function that changes it underneath."""
    images, path = make_images(tmp_path / "images"), tmp_path / request.param
    opened = embedonce.extract_features(images, path, **small)

    def change():
        (images / "ash" / "000.jpg").unlink()
        embedonce.extract_features(images, path, **small)

    return opened, change


def test_a_cache_that_changed_underneath_is_refused(changing):
    opened, change = changing
    assert len(compare(opened, ["dummy", "knn"], jobs=2).results) == 2
    change()
    with pytest.raises(CacheError, match=r"a\.(h5|cache) has changed since it was opened"):
        compare(opened, ["dummy", "knn"], jobs=2)
    if opened.path.suffix == ".h5":  # one process continues with its open file
        parts = compare(opened, ["dummy", "knn"]).split
        assert len(parts.train) + len(parts.test) == 24


def test_a_cache_that_is_gone_is_refused(changing):
    opened, _ = changing
    (shutil.rmtree if opened.path.is_dir() else os.unlink)(opened.path)
    with pytest.raises(CacheError, match="cannot open|is no readable"):
        compare(opened, ["dummy", "knn"], jobs=2)


def test_a_cache_is_pickled_as_its_path(changing, tmp_path, monkeypatch):
    opened, change = changing
    monkeypatch.chdir(tmp_path)
    data = pickle.dumps(FeatureCache.open(opened.path.name))
    monkeypatch.chdir("/")
    assert len(data) < 500
    again = pickle.loads(data)
    assert again.digest == opened.digest
    assert again.paths == opened.paths
    np.testing.assert_array_equal(again.features, opened.features)
    change()
    with pytest.raises(CacheError, match="has changed since it was opened, so its rows could be mixed up"):
        pickle.loads(data)
