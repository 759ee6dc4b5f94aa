"""A run on a Dask cluster gives the bytes of a run on one machine, also when workers are lost."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import cloudpickle
import numpy as np
import pytest
from click.testing import CliRunner
from embedonce.cache import FeatureCache
from embedonce.cache.partial import PartialRun
from embedonce.cache.place import CacheLocation
from embedonce.cli.app import main
from embedonce.errors import ClusterError, ImageError
from embedonce.extract.cluster import coordinator as cluster
from embedonce.extract.cluster import worker as cluster_worker
from embedonce.extract.cluster.worker import StoredDigests, embed_slice
from embedonce.extract.engines.engines import note_engine
from embedonce.extract.progress import Progress
from embedonce.extract.run import extract_features
from PIL import Image

distributed = pytest.importorskip("distributed")
cloudpickle.register_pickle_by_value(sys.modules[__name__])  # workers do not find the tests

LOCAL = {"processes": True, "threads_per_worker": 1, "dashboard_address": ":0"}
SMALL_OPTIONS = ("--weights", "random:0", "--alpha", "0.35", "--image-size", "64")


@pytest.fixture(scope="module")
def local(_own_home):
    with distributed.LocalCluster(n_workers=2, **LOCAL) as cluster:
        yield cluster


@pytest.fixture
def scheduler(local):
    """The address of a scheduler with two workers, each a process."""
    with distributed.Client(local, set_as_default=False) as client:
        client.wait_for_workers(2, timeout=30)
    return local.scheduler_address


@pytest.fixture(autouse=True)
def _small_parts(monkeypatch):
    monkeypatch.setattr("embedonce.extract.run.SHARD_ROWS", 8)
    monkeypatch.setattr(cluster, "SLICE_ROWS", 2)


@pytest.fixture
def folder(tmp_path, make_images):
    return make_images(tmp_path / "images")


@pytest.fixture
def run(folder, tmp_path, small):
    def update(name="a.h5", **options):
        return extract_features(folder, tmp_path / name, **(small | options))

    return update


def contents(path):
    if path.is_file():
        return path.read_bytes()
    return {file.relative_to(path): file.read_bytes() for file in path.rglob("*") if file.is_file()}


def assert_same(tmp_path, one, other):
    assert FeatureCache.open(tmp_path / one).signatures is not None
    assert contents(tmp_path / one) == contents(tmp_path / other)
    partial = CacheLocation.of(tmp_path / other).partial
    assert not partial.exists(), os.listdir(partial)


@pytest.mark.slow
def test_workers_convert_a_missing_model_once_per_machine(run, tmp_path):
    run("one.h5", engine="litert")
    home = tmp_path / "home"
    with (
        distributed.LocalCluster(n_workers=2, env={"EMBEDONCE_HOME": str(home)}, **LOCAL) as own,
        distributed.Client(own, set_as_default=False) as client,
    ):
        run("many.h5", dask=client, engine="litert")
        loaded = client.run(lambda: "tensorflow" in sys.modules)
    assert sorted(loaded.values()) == [False, True]
    assert len(list(home.glob("*.tflite"))) == 1
    assert_same(tmp_path, "one.h5", "many.h5")


class AtFirst(Progress):
    """Does something once the first slice has been taken over."""

    def __init__(self, action):
        self.action, self.slices = action, 0

    def advance(self, count):
        self.slices += 1
        if self.slices == 1:
            self.action()


@pytest.mark.parametrize(
    "options",
    [{"precision": "int8", "threads": 2}, {"decoding": "reduced", "threads": 2}],
    ids=lambda options: " ".join(map(str, options.values())),
)
def test_a_cluster_uses_the_options_of_the_run(run, scheduler, tmp_path, draw, folder, options):
    for number in range(2):
        draw(0, number, 150, 200).save(folder / "ash" / f"large{number}.jpg")
    made = run("one.h5", **options)
    run("many.h5", dask=scheduler, **options)
    assert_same(tmp_path, "one.h5", "many.h5")
    assert not (made.features == run("plain.h5").features).all()


@pytest.mark.parametrize(("ending", "workers"), [("h5", None), ("cache", 2)])
def test_a_cluster_gives_the_bytes_of_one_machine(run, scheduler, tmp_path, ending, workers):
    run(f"one.{ending}")
    report = run(f"many.{ending}", dask=scheduler, workers=workers).report
    assert (report.embedded, report.added, report.rejected) == (24, 24, 0)
    assert_same(tmp_path, f"one.{ending}", f"many.{ending}")
    assert run(f"many.{ending}", dask=scheduler).report.published is False


def test_a_client_stays_open_and_a_scheduler_file_is_read(folder, scheduler, tmp_path, small):
    with distributed.Client(scheduler, set_as_default=False) as client:
        assert len(extract_features(folder, tmp_path / "a.h5", dask=client, **small)) == 24
        assert client.status == "running"
    (tmp_path / "scheduler.json").write_text(json.dumps({"address": scheduler}))
    assert len(extract_features(folder, tmp_path / "b.h5", dask=tmp_path / "scheduler.json", **small)) == 24


def test_the_command_line_takes_a_scheduler(folder, scheduler, tmp_path):
    command = ["extract", str(folder), str(tmp_path / "a.h5"), *SMALL_OPTIONS, "--dask", scheduler]
    result = CliRunner().invoke(main, command)
    assert result.exit_code == 0, result.output
    assert "Embedded 24 images" in result.stdout


def test_moved_and_copied_images_are_not_embedded_again(run, folder, scheduler, draw, tmp_path):
    for ending in ("h5", "cache"):
        run(f"one.{ending}")
    shutil.copy(tmp_path / "one.h5", tmp_path / "many.h5")
    shutil.copytree(tmp_path / "one.cache", tmp_path / "many.cache")
    (folder / "ash").rename(folder / "alder")
    shutil.copy(folder / "birch" / "001.png", folder / "cedar" / "copy.png")
    draw(0, 99).save(folder / "cedar" / "new.png")
    os.utime(folder / "cedar" / "006.jpeg", (1, 1))
    for ending in ("h5", "cache"):
        report = run(f"many.{ending}", dask=scheduler).report
        assert (report.embedded, report.copied, report.moved, report.added) == (1, 10, 8, 2)
        run(f"one.{ending}")
        assert_same(tmp_path, f"one.{ending}", f"many.{ending}")


def test_two_new_files_of_one_content_both_get_their_row(run, folder, scheduler, tmp_path):
    shutil.copy(folder / "ash" / "000.jpg", folder / "cedar" / "copy.jpg")
    run("one.h5")
    assert len(run("many.h5", dask=scheduler)) == 25
    assert_same(tmp_path, "one.h5", "many.h5")


def test_rejects_are_those_of_one_machine(run, folder, scheduler, tmp_path):
    (folder / "ash" / "bad.jpg").write_bytes(b"")
    (folder / "birch" / "half.png").write_bytes((folder / "birch" / "001.png").read_bytes()[:500])
    run("one.h5")
    report = run("many.h5", dask=scheduler).report
    assert (report.embedded, report.rejected) == (24, 2)
    assert_same(tmp_path, "one.h5", "many.h5")
    with pytest.raises(ImageError, match=r"2 images cannot be embedded \(--strict\)"):
        run("strict.h5", dask=scheduler, strict=True)
    assert run("strict.h5").report.resumed == 26


@pytest.mark.parametrize(("ending", "victims"), [("h5", 2), ("cache", 1)])
def test_killed_workers_change_no_byte(run, folder, tmp_path, make_images, ending, victims):
    for name in (f"one.{ending}", f"many.{ending}"):  # some of the images are known, under other names
        run(name)
    (folder / "ash").rename(folder / "alder")
    make_images(folder, ("elm", "fir"), per_class=40)
    run(f"one.{ending}")
    with distributed.LocalCluster(n_workers=2, **LOCAL) as own, distributed.Client(own, set_as_default=False) as client:
        pids = list(client.run(os.getpid).values())[:victims]
        killed = []

        def kill():
            own.scale(3)  # one worker must continue, and a nanny may replace the dead one late
            for pid in pids:
                os.kill(pid, signal.SIGKILL)
                killed.append(pid)

        report = run(f"many.{ending}", dask=client, progress=AtFirst(kill)).report
    assert killed == pids
    assert (report.embedded, report.copied, report.moved) == (64, 24, 8)  # the first of a kind look all the same
    assert_same(tmp_path, f"one.{ending}", f"many.{ending}")


class Deadly(distributed.WorkerPlugin):
    """Ends every worker that comes to a certain image."""

    def setup(self, worker):
        real = cluster_worker.embed_images

        def deadly(root, images, *rest):
            if any(image.path == b"birch/003.bmp" for image in images):
                time.sleep(0.5)  # let the other slices come through
                os.kill(os.getpid(), signal.SIGKILL)
            real(root, images, *rest)

        sys.modules["embedonce.extract.cluster.worker"].embed_images = deadly


def test_a_slice_that_kills_every_worker_is_one_error(run, tmp_path, small):
    import dask

    run("one.h5")
    with (
        dask.config.set({"distributed.scheduler.allowed-failures": 1}),
        distributed.LocalCluster(n_workers=2, **LOCAL) as own,
        distributed.Client(own, set_as_default=False) as client,
    ):
        client.register_plugin(Deadly())
        with pytest.raises(
            ClusterError, match=r"the slice from \S+ to \S+ was lost with 2 workers, the last of them tcp:"
        ):
            run("many.h5", dask=client)
    report = run("many.h5").report
    assert 0 < report.resumed <= 22
    assert report.embedded == 24 - report.resumed
    assert_same(tmp_path, "one.h5", "many.h5")


KILLED = """
import os, signal, sys
from embedonce.cache.partial import PartialRun
from embedonce.extract.cluster import coordinator as cluster
import embedonce

cluster.SLICE_ROWS = 2
claim, claims = PartialRun.claim, 0

def counting(self, path):
    global claims
    if sys.argv[4] == "before" and claims == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    claimed = claim(self, path)
    claims += 1
    if sys.argv[4] == "after" and claims == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return claimed

PartialRun.claim = counting
embedonce.extract_features(sys.argv[1], sys.argv[2], weights="random:0", alpha=0.35, image_size=64, dask=sys.argv[3])
"""


@pytest.mark.parametrize(("moment", "again"), [("before", "on the cluster"), ("after", "on one machine")])
def test_a_killed_coordinator_is_resumed_to_the_same_bytes(run, folder, scheduler, tmp_path, moment, again):
    run("one.h5")
    command = [sys.executable, "-c", KILLED, folder, tmp_path / "many.h5", scheduler, moment]
    assert subprocess.run(command, timeout=60, check=False).returncode == -signal.SIGKILL
    assert not (tmp_path / "many.h5").exists()
    report = run("many.h5", dask=scheduler if again == "on the cluster" else None).report
    assert report.resumed >= 6
    assert report.embedded == 24 - report.resumed
    assert_same(tmp_path, "one.h5", "many.h5")


def test_an_interrupt_keeps_results_and_cancels_waiting_slices(run, folder, scheduler, tmp_path):
    run("one.h5")

    def interrupt():
        raise KeyboardInterrupt

    with distributed.Client(scheduler, set_as_default=False) as client:
        with pytest.raises(KeyboardInterrupt):
            run("many.h5", dask=client, progress=AtFirst(interrupt))
        end = time.monotonic() + 10
        while client.run_on_scheduler(lambda dask_scheduler: len(dask_scheduler.tasks)) and time.monotonic() < end:
            time.sleep(0.05)
        assert client.run_on_scheduler(lambda dask_scheduler: len(dask_scheduler.tasks)) == 0
    report = run("many.h5", dask=scheduler).report
    assert report.resumed >= 2
    assert_same(tmp_path, "one.h5", "many.h5")


def test_a_lost_scheduler_is_one_error_and_results_are_kept(run, tmp_path, monkeypatch):
    run("one.h5")
    monkeypatch.setattr(cluster, "CONNECT_SECONDS", 1.0)
    with (
        distributed.LocalCluster(n_workers=1, **LOCAL) as own,
        pytest.raises(ClusterError, match="the Dask scheduler was lost, or has cancelled the run"),
    ):
        run("many.h5", dask=own.scheduler_address, progress=AtFirst(own.close))
    assert run("many.h5").report.resumed >= 2
    assert_same(tmp_path, "one.h5", "many.h5")


# Replacements of the task that simulate failing workers.


def without_images(job, images, segment):
    return embed_slice(replace(job, root=Path("/nowhere/images")), images, segment)


def without_the_cache_folder(job, images, segment):
    cluster_worker.PATIENCE = 0.1
    return embed_slice(job, images, Path("/nowhere") / segment.name)


def with_a_folder_of_its_own(job, images, segment):
    own = job.root.parent / "own"
    own.mkdir(exist_ok=True)
    return replace(embed_slice(job, images, own / segment.name), segment=segment)


def with_an_empty_mount(job, images, segment):
    return embed_slice(replace(job, root=job.root / "ash"), images, segment)


def with_other_weights(job, images, segment):
    return embed_slice(replace(job, fingerprint=job.fingerprint | {"weights_sha256": "0" * 64}), images, segment)


def with_another_quantised_model(job, images, segment):
    recipe = replace(job.recipe, precision="int8")
    fingerprint = job.fingerprint | {"quantized_model_sha256": "0" * 64}
    return embed_slice(replace(job, recipe=recipe, fingerprint=fingerprint), images, segment)


def without_the_weights_file(job, images, segment):
    weights = replace(job.recipe.weights, label="my.h5", path=Path("/nowhere/my.h5"), identity="0", seed=None)
    return embed_slice(replace(job, recipe=replace(job.recipe, weights=weights)), images, segment)


def with_the_converted_model_alone(job, images, segment):
    """Serve the converted model alone: LiteRT can use it, Keras cannot."""
    weights = replace(job.recipe.weights, label="my.h5", path=Path("/nowhere/my.h5"), seed=None)
    recipe = replace(job.recipe, weights=weights, precision="float16")
    return embed_slice(replace(job, recipe=recipe), images, segment)


def with_a_changed_weights_file(job, images, segment):
    path = job.root / "ash" / "000.jpg"
    weights = replace(job.recipe.weights, label="my.h5", path=path, identity="0", seed=None)
    return embed_slice(replace(job, recipe=replace(job.recipe, weights=weights)), images, segment)


def with_another_embedonce(job, images, segment):
    versions = job.provenance["versions"] | {"embedonce": "0.0.1"}
    return embed_slice(replace(job, provenance=job.provenance | {"versions": versions}), images, segment)


def with_a_failing_disk(job, images, segment):
    done = embed_slice(job, images, segment)
    data = bytearray(segment.read_bytes())
    data[len(data) // 2] ^= 1
    segment.write_bytes(data)
    return done


def with_a_bug(job, images, segment):
    return embed_slice(job, images[:-1], segment)


def without_some_package(job, images, segment):
    raise ModuleNotFoundError("No module named 'embedonce'")


@pytest.fixture(scope="module")
def whole(tmp_path_factory, make_images, small):
    """Images that no worker changes, and their cache as one machine makes it."""
    folder = tmp_path_factory.mktemp("cluster")
    make_images(folder / "images")
    extract_features(folder / "images", folder / "one.h5", **small)
    return folder / "images", folder / "one.h5"


@pytest.mark.parametrize(
    ("task", "message"),
    [
        (without_images, r"worker tcp://[\d.:]+: it cannot see the image folder, /nowhere/images. Every worker needs"),
        (
            without_the_cache_folder,
            r"worker tcp://[\d.:]+: it cannot see the folder of unfinished work, /nowhere. Every",
        ),
        (
            with_a_folder_of_its_own,
            r"worker tcp://[\d.:]+ has written segment-.* to .*a\.h5\.partial, but this machine",
        ),
        (with_an_empty_mount, r"worker tcp://[\d.:]+ says of .* that it cannot be read: No such file.*image folder"),
        (with_other_weights, r"worker tcp://[\d.:]+: its backbone for the weights random:0 has the hash .*has 0000"),
        (
            with_another_quantised_model,
            r"worker tcp://[\d.:]+: its backbone .*has 0000.*EMBEDONCE_HOME to one folder",
        ),
        (without_the_weights_file, r"worker tcp://[\d.:]+: weights must be .*nowhere/my\.h5.*Every worker needs the"),
        (
            with_the_converted_model_alone,
            r"worker tcp://[\d.:]+: weights must be .*nowhere/my\.h5.*Every worker needs the weights file",
        ),
        (with_a_changed_weights_file, r"worker tcp://[\d.:]+: its weights file .*000\.jpg is not that of the coordin"),
        (
            with_another_embedonce,
            r"worker tcp://[\d.:]+: it has embedonce .*, the coordinating process 0\.0\.1. Install",
        ),
        (with_a_failing_disk, r"worker tcp://[\d.:]+ .*segment-00000.*Run the same command again"),
        (with_a_bug, r"worker tcp://[\d.:]+ returned other images than it was given"),
        (without_some_package, r"ModuleNotFoundError: No module named 'embedonce'. Scheduler and workers need"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_failing_worker_is_named_and_the_next_run_repairs_it(
    whole, scheduler, tmp_path, small, monkeypatch, task, message
):
    images, expected = whole
    with monkeypatch.context() as patch:
        patch.setattr(cluster, "embed_slice", task)
        patch.setattr(cluster, "PATIENCE", 0.1)
        with pytest.raises(ClusterError, match=message) as caught:
            extract_features(images, tmp_path / "a.h5", dask=scheduler, **small)
    assert "\n" not in str(caught.value)
    cache = extract_features(images, tmp_path / "a.h5", dask=scheduler, **small)
    assert (len(cache), cache.rejects) == (24, [])
    assert_same(tmp_path, expected, "a.h5")


def with_another_numpy(job, images, segment):
    versions = job.provenance["versions"] | {"numpy": "0.1"}
    return embed_slice(replace(job, provenance=job.provenance | {"versions": versions}), images, segment)


def test_a_worker_with_other_versions_is_written_down(run, scheduler, monkeypatch):
    import numpy as np

    [(engine, versions)] = run("one.h5").provenance["engines"].items()
    monkeypatch.setattr(cluster, "embed_slice", with_another_numpy)
    assert run(dask=scheduler).provenance["engines"] == {engine: versions | {"numpy": np.__version__}}


def test_engines_of_other_versions_get_a_number():
    engines = {}
    for name, version in [("litert", "1"), ("litert", "2"), ("litert (2)", "1"), ("keras", "1"), ("litert", "3")]:
        note_engine(engines, name, {"version": version})
    assert {name: about["version"] for name, about in engines.items()} == {
        "litert": "1",
        "litert (2)": "2",
        "litert (3)": "3",
        "keras": "1",
    }


def test_known_contents_are_found_and_others_are_not():
    digests = [bytes([value]) * 32 for value in (7, 0, 255)]
    known = StoredDigests(StoredDigests.pack(digests))
    assert [known.get(digest).digest for digest in digests] == digests
    assert known.get(bytes([8]) * 32) is None
    assert StoredDigests(b"").get(digests[0]) is None


def test_no_two_runs_give_a_worker_the_same_name(tmp_path):
    place = CacheLocation.of(tmp_path / "a.h5")
    assert PartialRun(place).reserve() != PartialRun(place).reserve()


def test_a_lost_worker_cannot_change_a_committed_segment(run, folder, tmp_path):
    cache = run("one.h5")
    partial = PartialRun(CacheLocation.of(tmp_path / "a.h5"))
    name = partial.reserve()
    shutil.copy(tmp_path / "one.h5", name)
    claimed = partial.claim(name)
    name.write_bytes(b"late")
    assert FeatureCache.open(claimed).paths == cache.paths
    (segment,), (damaged,) = PartialRun(CacheLocation.of(tmp_path / "a.h5")).recover()
    assert segment.path == claimed
    assert "segment-00000003.h5" in damaged  # the late file has a segment's name as well
    report = run("a.h5").report
    assert (report.embedded, report.resumed) == (0, 24)
    assert_same(tmp_path, "one.h5", "a.h5")


@pytest.mark.parametrize(
    ("dask", "message"),
    [
        (
            "tcp://127.0.0.1:1",
            r"cannot reach the Dask scheduler tcp://127\.0\.0\.1:1 \(.*Start one with: dask scheduler",
        ),
        ("localhost", r"parameter dask of extract must be a scheduler's address, .* got 'localhost'"),
        ("", r"parameter dask of extract must be a scheduler's address, .* got ''"),
        (8786, r"parameter dask of extract must be a scheduler's address, .* got 8786"),
        ("none.json", r"cannot read the scheduler file none\.json: No such file"),
    ],
)
def test_an_unreachable_scheduler_is_one_error(run, tmp_path, monkeypatch, dask, message):
    monkeypatch.setattr(cluster, "CONNECT_SECONDS", 0.5)
    with pytest.raises(ClusterError, match=message):
        run(dask=dask)
    assert os.listdir(tmp_path) == ["images"]


def reply(kind, connection):
    with contextlib.suppress(OSError):
        if kind == "http":
            connection.recv(10)
            connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        elif kind == "ssh":
            connection.sendall(b"SSH-2.0-OpenSSH_9.6\r\n")
        elif kind == "zeros":
            connection.sendall((8).to_bytes(8, "little") + bytes(100))
        elif kind == "large":
            connection.sendall((2**62).to_bytes(8, "little"))
        if kind in ("closes", "http"):
            connection.close()


@pytest.mark.parametrize("kind", ["silent", "closes", "http", "ssh", "zeros", "large"])
def test_a_server_of_another_kind_is_one_quick_error(run, tmp_path, monkeypatch, kind, caplog):
    monkeypatch.setattr(cluster, "CONNECT_SECONDS", 1.0)
    connections = []

    def serve():
        with contextlib.suppress(OSError):
            while True:
                connections.append(server.accept()[0])
                reply(kind, connections[-1])

    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=serve, daemon=True).start()
        address = f"tcp://127.0.0.1:{server.getsockname()[1]}"
        begin = time.monotonic()
        with pytest.raises(ClusterError, match=rf"cannot reach the Dask scheduler {address} \(.+\)\. Start one"):
            run(dask=address)
        assert time.monotonic() - begin < 10
    assert not caplog.records
    assert os.listdir(tmp_path) == ["images"]


def test_the_address_of_a_worker_is_not_a_scheduler(run, local):
    worker = next(iter(local.workers.values())).worker_address
    with pytest.raises(ClusterError, match=r"\(what answers there is not a Dask scheduler\)"):
        run(dask=worker)


def test_a_scheduler_without_workers_is_one_quick_error(run, tmp_path, monkeypatch):
    monkeypatch.setattr(cluster, "WORKER_SECONDS", 0.5)
    with (
        distributed.LocalCluster(n_workers=0, **LOCAL) as own,
        pytest.raises(ClusterError, match=r"the Dask cluster has no worker \(.*\)\. Start one with: dask worker"),
    ):
        run(dask=own.scheduler_address)
    assert os.listdir(tmp_path) == ["images"]


def test_a_file_that_is_not_a_scheduler_file_is_named(run, tmp_path):
    for text in ("my thesis", "[]", "{}"):
        (tmp_path / "a.json").write_text(text)
        with pytest.raises(ClusterError, match=r"a\.json is not a scheduler file: it has no address"):
            run(dask=str(tmp_path / "a.json"))


def test_without_dask_the_error_says_what_to_install(folder, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    command = ["extract", str(folder), str(tmp_path / "a.h5"), *SMALL_OPTIONS, "--dask", "tcp://127.0.0.1:8786"]
    result = CliRunner().invoke(main, command)
    assert result.exit_code == 1
    assert result.stderr.count("\n") == 1
    assert "pip install 'embedonce[cluster]'" in result.stderr


def test_dark_images_are_noted_as_on_one_machine(run, folder, scheduler):
    for number, path in enumerate(sorted(folder.rglob("*.*"))):
        if number % 3:
            Image.fromarray(np.full((70, 90), number % 9, np.uint8)).save(path.with_suffix(".png"))
            if path.suffix != ".png":
                path.unlink()
    notes = run("one.h5").report.notes
    assert any("are nearly black or of one colour" in note for note in notes)
    assert run("many.h5", dask=scheduler).report.notes == notes
