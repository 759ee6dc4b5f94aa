"""Heads on a Dask cluster give what one process gives, or one error; nothing waits for ever."""

from __future__ import annotations

import json
import os
import shutil
import sys
import threading
import time
from functools import partial

import cloudpickle
import embedonce
import numpy as np
import pytest
from click.testing import CliRunner
from embedonce.cli.app import main
from embedonce.errors import ClusterError, HeadError
from embedonce.evaluate.comparison import aligned_caches, run
from embedonce.evaluate.scoring import dask_backend as parallel_dask
from embedonce.evaluate.scoring.parallel import run_jobs
from embedonce.evaluate.tuning.run import tune
from embedonce.extract.cluster import coordinator
from kept_lines import KeptLines
from parallel_heads import Broken, Deadly, FromNowhere, Head, Locked, Slow
from saving import without_pictures

distributed = pytest.importorskip("distributed")
cloudpickle.register_pickle_by_value(sys.modules[__name__])  # workers do not find the tests

LOCAL = {"processes": True, "threads_per_worker": 1, "dashboard_address": ":0"}
compare = partial(run.compare, split="random")  # near-duplicates, which nothing here is about, are not searched
HEADS = ["softmax", "svm", "logreg", "dummy", "sklearn.linear_model:Perceptron"]


@pytest.fixture(scope="module")
def local(_own_home):
    with distributed.LocalCluster(n_workers=2, **LOCAL) as made:
        yield made


@pytest.fixture
def scheduler(local):
    """The address of a scheduler with two workers, each a process."""
    with distributed.Client(local, set_as_default=False) as client:
        client.wait_for_workers(2, timeout=120)
    return local.scheduler_address


def test_a_cluster_gives_the_table_of_one_process(cache_path, scheduler):
    progress = KeptLines()
    one, many = compare(cache_path, HEADS), compare(cache_path, HEADS, dask=scheduler, progress=progress)
    assert progress.lines[: len(HEADS)] == [f"training {name} …" for name in HEADS]
    for here, there in zip(one.results, many.results, strict=True):
        assert there.name == here.name
        np.testing.assert_array_equal(there.predicted, here.predicted)
        if here.probabilities is not None:
            np.testing.assert_allclose(there.probabilities, here.probabilities, atol=1e-6)
    for here, there in zip(one.table, many.table, strict=True):
        for key in ("head", "accuracy", "balanced_accuracy", "macro_f1"):
            assert there.to_dict()[key] == here.to_dict()[key]
    assert many.result("softmax").history["loss"] == pytest.approx(one.result("softmax").history["loss"], rel=1e-4)
    assert any("only with jobs=1" in note for note in many.notes)


def test_a_client_or_a_scheduler_file_is_taken(cache_path, scheduler, tmp_path):
    heads = {name: Head() for name in "abc"}
    with distributed.Client(scheduler, set_as_default=False) as client:
        workers = set(client.run(os.getpid).values())
        made = compare(cache_path, heads, dask=client)
        assert {result.head.process_ for result in made.results} <= workers
        assert client.status == "running"
        assert not client.futures
    (tmp_path / "scheduler.json").write_text(json.dumps({"address": scheduler}))
    assert len(compare(cache_path, heads, dask=tmp_path / "scheduler.json").results) == 3


def test_the_command_line_takes_a_scheduler(cache_path, scheduler, tmp_path):
    command = ["compare", str(cache_path), "--heads", "logreg,dummy", "-o", str(tmp_path), "--dask", scheduler]
    command += ["--split", "random"]
    with without_pictures():
        result = CliRunner().invoke(main, command)
    assert result.exit_code == 0, result.output
    assert "logreg" in result.stdout
    assert "at the same time" in result.stdout


@pytest.mark.slow
def test_threads_of_one_worker_train_softmax_heads_side_by_side(cache_path):
    heads = {
        f"sklearn.base:clone {number}": embedonce.make_head("softmax", epochs=5, random_state=number)
        for number in range(4)
    }
    threads = {"processes": False, "threads_per_worker": 4}
    local = distributed.LocalCluster(n_workers=1, **(LOCAL | threads))
    with local as own, distributed.Client(own, set_as_default=False) as client:
        many = compare(cache_path, heads, dask=client)
    one = compare(cache_path, heads)
    for here, there in zip(one.results, many.results, strict=True):
        np.testing.assert_allclose(there.probabilities, here.probabilities, atol=1e-6)


@pytest.mark.parametrize(
    ("head", "message"),
    [
        (Broken(), r"^head 'mine' failed: RuntimeError: no luck today$"),
        (Locked(), r"^head 'mine' cannot be sent to a worker process"),
        (FromNowhere(), r"^head 'mine' cannot be made in a worker process \(ModuleNotFoundError: .*no_such_module"),
    ],
)
def test_a_head_that_fails_or_cannot_travel_is_one_error(cache_path, scheduler, head, message):
    with pytest.raises(HeadError, match=message):
        raise compare(cache_path, {"good": Head(), "mine": head}, dask=scheduler).failed["mine"]


def slept_or_failed(seconds):
    if seconds < 0:
        raise RuntimeError("no luck today")
    time.sleep(seconds)


def test_an_error_takes_back_what_waits(scheduler):
    work = {"broken": (-1,)} | {f"slow {number}": (1,) for number in range(20)}
    with distributed.Client(scheduler, set_as_default=False) as client:
        with pytest.raises(HeadError, match="no luck"):
            list(run_jobs(slept_or_failed, work, dask=client))
        end = time.monotonic() + 60
        while client.run_on_scheduler(lambda dask_scheduler: len(dask_scheduler.tasks)) and time.monotonic() < end:
            time.sleep(0.05)
        assert client.run_on_scheduler(lambda dask_scheduler: len(dask_scheduler.tasks)) == 0


@pytest.mark.slow
def test_a_head_that_ends_every_worker_is_one_error(cache_path):
    import dask

    with (
        dask.config.set({"distributed.scheduler.allowed-failures": 1}),
        distributed.LocalCluster(n_workers=2, **LOCAL) as own,
        pytest.raises(ClusterError, match=r"^head 'mine' was lost with 2 workers, the last of them tcp:"),
    ):
        raise compare(cache_path, {"good": Head(), "mine": Deadly()}, dask=own.scheduler_address).failed["mine"]


def test_one_thread_computes_until_its_scheduler_is_lost(cache_path):
    with distributed.LocalCluster(n_workers=1, **LOCAL) as own:
        with distributed.Client(own, set_as_default=False) as client:
            worker = set(client.run(os.getpid).values())
            made = compare(cache_path, {"a": Head(), "b": Head()}, dask=client)
        assert {result.head.process_ for result in made.results} == worker
        closing = threading.Timer(1.0, own.close)
        closing.start()
        with pytest.raises(ClusterError, match="the Dask scheduler was lost, or has cancelled the jobs"):
            compare(cache_path, {"a": Slow(), "b": Slow()}, dask=own.scheduler_address)
        closing.join()


def test_a_cluster_without_workers_is_one_error(cache_path, monkeypatch):
    monkeypatch.setattr(coordinator, "WORKER_SECONDS", 0.5)
    with (
        distributed.LocalCluster(n_workers=0, **LOCAL) as own,
        pytest.raises(ClusterError, match=r"the Dask cluster has no worker \(.*\)\. Start one with: dask worker"),
    ):
        compare(cache_path, {"a": Head(), "b": Head()}, dask=own.scheduler_address)


def test_the_cluster_is_asked_before_the_groups_are_found(cache_path, monkeypatch):
    monkeypatch.setattr(coordinator, "CONNECT_SECONDS", 0.5)
    monkeypatch.setattr(aligned_caches, "groups_for", None)
    for call in (compare, partial(tune, head="logreg")):
        with pytest.raises(ClusterError, match="cannot reach the Dask scheduler"):
            call(cache_path, dask="tcp://127.0.0.1:1")


def test_a_worker_with_other_versions_is_named(cache_path, scheduler, monkeypatch):
    versions = parallel_dask.package_versions() | {"scikit-learn": "0.1"}
    monkeypatch.setattr(parallel_dask, "package_versions", lambda: versions)
    message = r"^worker tcp://[\d.:]+ has scikit-learn [\d.]+, this process has 0\.1\. Install the same everywhere$"
    with pytest.raises(ClusterError, match=message):
        compare(cache_path, {"a": Head(), "b": Head()}, dask=scheduler)


def test_a_worker_that_lacks_a_module_is_one_error(cache_path, scheduler, monkeypatch):
    class Missing:
        def __call__(self, *arguments):
            raise AssertionError

        def __reduce__(self):
            return __import__, ("no_such_embedonce",)

    monkeypatch.setattr(parallel_dask, "run_on_worker", Missing())
    message = (
        r"head '[ab]' failed on the cluster: .*no_such_embedonce.*\. Scheduler and workers need the same embedonce"
    )
    with pytest.raises(ClusterError, match=message) as caught:
        compare(cache_path, {"a": Head(), "b": Head()}, dask=scheduler)
    assert "\n" not in str(caught.value)


def test_a_worker_that_sees_another_cache_is_named(images, tmp_path, small, scheduler):
    shutil.copytree(images, tmp_path / "images")
    opened = embedonce.extract_features(tmp_path / "images", tmp_path / "a.h5", **small)
    (tmp_path / "images" / "ash" / "000.jpg").unlink()
    embedonce.extract_features(tmp_path / "images", tmp_path / "a.h5", **small)
    for message in ("a.h5 has changed since it was opened", "cannot open the cache .*a.h5: No such file"):
        with pytest.raises(ClusterError, match=rf"^worker tcp://[\d.:]+: .*{message}.*\. Every worker needs the same"):
            compare(opened, {"a": Head(), "b": Head()}, dask=scheduler)
        (tmp_path / "a.h5").unlink(missing_ok=True)
