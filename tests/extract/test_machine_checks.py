"""What embedonce doctor says of a machine, and of one that lacks something."""

from __future__ import annotations

import json
from importlib.metadata import PackageNotFoundError, version

import pytest
from click.testing import CliRunner
from embedonce import extract_features
from embedonce.cli.app import main
from embedonce.extract import machine_checks as module
from embedonce.extract.machine_checks import FAIL, PASS, WARN, doctor

NAMES = ["Python", "packages", "extras", "processor", "memory", "disk", "writing", "weights", "engine"]


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(module, "SECONDS", 0.2)


def found(folder, **options):
    return {check.name: check for check in doctor(folder, **options)}


def test_a_machine_that_has_embedded_images_passes(images, small, tmp_path):
    extract_features(images, tmp_path / "a.h5", **small)
    before = sorted(tmp_path.rglob("*"))
    checks = found(tmp_path, **small)
    assert list(checks) == NAMES
    assert {name: check.status for name, check in checks.items() if name not in ("processor", "memory", "disk")} == (
        dict.fromkeys(["Python", "packages", "extras", "writing", "weights", "engine"], PASS)
    )
    assert "images/s" in checks["engine"].found
    assert "tensorflow" in checks["packages"].found
    assert sorted(tmp_path.rglob("*")) == before  # nothing stays behind


def test_a_backbone_that_was_never_converted_is_no_failure(tmp_path):
    check = found(tmp_path, weights="random:1", image_size=321)["engine"]
    assert check.status == WARN
    assert "not measured" in check.found
    assert "the first embedonce extract prepares it" in check.remedy


def test_missing_imagenet_weights_come_with_their_address_and_are_not_fetched(tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    monkeypatch.setattr("urllib.request.urlopen", lambda *_, **__: pytest.fail("fetched"))
    check = found(tmp_path)["weights"]
    assert check.status == WARN
    assert "https://storage.googleapis.com/" in check.remedy
    assert str(tmp_path / "keras") in check.found


@pytest.mark.parametrize("weights", ["nowhere.h5", "random:x"])
def test_weights_that_cannot_be_fail(weights, tmp_path):
    assert found(tmp_path, weights=weights)["weights"].status == FAIL


def test_a_package_that_is_not_installed_is_named(tmp_path, monkeypatch):
    def without(name):
        if name == "keras":
            raise PackageNotFoundError(name)
        return version(name)

    monkeypatch.setattr(module, "version", without)
    check = found(tmp_path)["packages"]
    assert check.status == FAIL
    assert check.found.startswith("keras missing")
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
    check = found(tmp_path)["writing"]
    assert check.status == FAIL
    assert "two writers would not notice each other" in check.found


def test_a_folder_that_is_not_there_fails_with_what_to_do(tmp_path):
    checks = found(tmp_path / "nowhere")
    assert checks["disk"].status == checks["writing"].status == FAIL
    assert checks["writing"].remedy
    assert not (tmp_path / "nowhere").exists()


@pytest.mark.parametrize("free", [0.2, 50.0])
def test_little_memory_and_disk_are_warned_of(free, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_LEAST_MEMORY", 10_000.0 if free < 1 else 0.0)
    monkeypatch.setattr(module, "_LEAST_DISK", 1e9 if free < 1 else 0.0)
    checks = found(tmp_path)
    assert {checks["memory"].status, checks["disk"].status} == {WARN if free < 1 else PASS}


def test_an_old_processor_is_warned_of(tmp_path, monkeypatch):
    monkeypatch.setattr(module.platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(module.np, "show_config", lambda mode: {"SIMD Extensions": {"baseline": ["SSE"], "found": []}})
    check = found(tmp_path)["processor"]
    assert check.status == WARN
    assert "no AVX2, FMA3" in check.found


def test_the_command_prints_every_check_and_ends_with_1_when_one_failed(tmp_path):
    good = CliRunner().invoke(main, ["doctor", str(tmp_path), "--weights", "random:0"])
    assert good.exit_code == 0, good.output
    assert [line.split()[1] for line in good.output.splitlines() if not line.startswith(" ")] == NAMES
    bad = CliRunner().invoke(main, ["doctor", str(tmp_path), "--weights", "nowhere.h5", "--json"])
    assert bad.exit_code == 1
    assert [check["status"] for check in json.loads(bad.output) if check["name"] == "weights"] == [FAIL]
