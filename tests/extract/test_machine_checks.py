"""Results of embedonce doctor, also where something is missing."""

from __future__ import annotations

import json
import re
from importlib.metadata import PackageNotFoundError, version

import pytest
from click.testing import CliRunner
from embedonce import doctor, extract_features
from embedonce.cli.app import main
from embedonce.extract import machine_checks as module
from embedonce.extract.machine_checks import FAIL, PASS, WARN

NAMES = ["Python", "packages", "extras", "processor", "memory", "disk", "writing", "weights", "engine"]


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(module, "SECONDS", 0.2)


def run_doctor(folder, **options):
    return {check.name: check for check in doctor(folder, **options)}


def test_a_machine_that_has_embedded_images_passes(images, small, tmp_path):
    extract_features(images, tmp_path / "a.h5", **small)
    before = sorted(tmp_path.rglob("*"))
    checks = run_doctor(tmp_path, **small)
    assert list(checks) == NAMES
    assert {name: check.status for name, check in checks.items() if name not in ("processor", "memory", "disk")} == (
        dict.fromkeys(["Python", "packages", "extras", "writing", "weights", "engine"], PASS)
    )
    assert re.search(r"native \d+, litert \d+ images/s", checks["engine"].finding)
    assert "tensorflow" in checks["packages"].finding
    assert sorted(tmp_path.rglob("*")) == before  # no file is left


def test_a_backbone_that_was_never_converted_is_no_failure(tmp_path):
    check = run_doctor(tmp_path, weights="random:1", image_size=321)["engine"]
    assert check.status == WARN
    assert re.search(r"images/s in memory, .*; not in .* yet", check.finding)
    assert "the first embedonce extract prepares it" in check.remedy


def test_missing_imagenet_weights_are_named_and_not_fetched(tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    monkeypatch.setattr("urllib.request.urlopen", lambda *_, **__: pytest.fail("fetched"))
    check = run_doctor(tmp_path)["weights"]
    assert check.status == WARN
    assert "https://storage.googleapis.com/" in check.remedy
    assert str(tmp_path / "keras") in check.finding


@pytest.mark.parametrize("weights", ["nowhere.h5", "random:x"])
def test_weights_that_cannot_be_fail(weights, tmp_path):
    assert run_doctor(tmp_path, weights=weights)["weights"].status == FAIL


def test_a_web_page_in_place_of_weights_fails(tmp_path):
    (tmp_path / "x.h5").write_text("<html>")
    check = run_doctor(tmp_path, weights=tmp_path / "x.h5")["weights"]
    assert check.status == FAIL
    assert "a web page" in check.finding


def test_a_package_that_is_not_installed_is_named(tmp_path, monkeypatch):
    def without(name):
        if name == "keras":
            raise PackageNotFoundError(name)
        return version(name)

    monkeypatch.setattr(module, "version", without)
    check = run_doctor(tmp_path)["packages"]
    assert check.status == FAIL
    assert check.finding.startswith("keras missing")
    assert check.remedy == "pip install keras"


def test_a_folder_that_does_not_lock_fails(tmp_path, monkeypatch):
    class NoLock:
        def __init__(self, path):
            pass

        def acquire(self, timeout):
            pass

        def release(self):
            pass

    monkeypatch.setattr("filelock.FileLock", NoLock)
    check = run_doctor(tmp_path)["writing"]
    assert check.status == FAIL
    assert "two writers would not notice each other" in check.finding


def test_a_folder_that_is_not_there_fails_with_what_to_do(tmp_path):
    checks = run_doctor(tmp_path / "nowhere")
    assert checks["disk"].status == checks["writing"].status == FAIL
    assert checks["writing"].remedy
    assert not (tmp_path / "nowhere").exists()


@pytest.mark.parametrize("free", [0.2, 50.0])
def test_little_memory_and_disk_are_warned_of(free, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_MINIMUM_MEMORY", 10_000.0 if free < 1 else 0.0)
    monkeypatch.setattr(module, "_MINIMUM_DISK", 1e9 if free < 1 else 0.0)
    checks = run_doctor(tmp_path)
    assert {checks["memory"].status, checks["disk"].status} == {WARN if free < 1 else PASS}


def test_an_old_processor_is_warned_of(tmp_path, monkeypatch):
    monkeypatch.setattr(module.platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(module.np, "show_config", lambda mode: {"SIMD Extensions": {"baseline": ["SSE"], "found": []}})
    check = run_doctor(tmp_path)["processor"]
    assert check.status == WARN
    assert "no AVX2, FMA3" in check.finding


def test_the_command_prints_checks_and_exits_1_on_failure(tmp_path):
    good = CliRunner().invoke(main, ["doctor", str(tmp_path), "--weights", "random:0"])
    assert good.exit_code == 0, good.output
    assert [line.split()[1] for line in good.output.splitlines() if not line.startswith(" ")] == NAMES
    bad = CliRunner().invoke(main, ["doctor", str(tmp_path), "--weights", "nowhere.h5", "--json"])
    assert bad.exit_code == 1
    assert [check["status"] for check in json.loads(bad.output) if check["name"] == "weights"] == [FAIL]


def test_checks_are_reported_one_by_one(tmp_path):
    reported = []
    assert doctor(tmp_path, weights="random:0", image_size=321, progress=reported.append) == reported
    assert [check.name for check in reported] == NAMES


def test_the_preferred_engine_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("EMBEDONCE_ENGINE", "litert")
    assert run_doctor(tmp_path, weights="random:1", image_size=321)["engine"].finding.startswith(
        "litert (EMBEDONCE_ENGINE)"
    )
