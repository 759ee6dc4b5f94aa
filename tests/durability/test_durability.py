from __future__ import annotations

import os
import shutil

import pytest

if not hasattr(os, "fork"):
    pytest.skip("kills and races need fork", allow_module_level=True)

from durability_campaigns import CONTROLS
from durability_disk import tree, unrecorded
from durability_faults import Fault
from durability_images import difference, read
from durability_machine import CacheMachine, FolderMachine
from durability_runner import call
from durability_scenarios import FORMS, make_scenarios, record
from embedonce.errors import OutputError
from hypothesis import HealthCheck, settings

SETTINGS = settings(
    max_examples=8,
    stateful_step_count=20,
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
)


def assert_nothing_wrong(tally):
    counts = {name: tally[name] for name in ("lost", "wrong", "crashed", "left_over")}
    assert not any(counts.values()), "\n".join([str(counts), *tally["notes"]])


@pytest.fixture(scope="module")
def scenarios(tmp_path_factory):
    return {scenario.label: scenario for scenario in make_scenarios(tmp_path_factory.mktemp("scenarios"))}


def test_every_change_on_the_disk_goes_through_the_recorder(scenarios, tmp_path):
    for scenario in scenarios.values():
        events = record(scenario, tmp_path / scenario.label).events
        assert unrecorded(scenario.start, events, tmp_path / scenario.label) == [], scenario.label


BYPASSES = {
    "a file is written": lambda root: (root / "c.h5").write_bytes(b"something else"),
    "a file is removed": lambda root: os.remove(root / "c.h5"),
    "a file is cut": lambda root: os.truncate(root / "c.h5", 100),
    "a file is added": lambda root: os.link(root / "c.h5", root / "d.h5"),
    "a folder is added": lambda root: shutil.copytree(root, root / "copy"),
}


@pytest.mark.parametrize("bypass", BYPASSES)
def test_a_change_that_goes_past_the_recorder_is_noticed(scenarios, tmp_path, monkeypatch, bypass):
    scenario = scenarios["append c.h5"]
    step = scenario.step

    def careless(root, watch):
        step(root, watch)
        BYPASSES[bypass](root)

    monkeypatch.setattr(scenario, "step", careless)
    events = record(scenario, tmp_path / "run").events
    assert unrecorded(scenario.start, events, tmp_path / "run")


@pytest.mark.parametrize("most", [1, 700])
def test_writes_that_take_only_some_of_the_data_change_nothing(scenarios, tmp_path, most):
    for scenario in scenarios.values():
        if scenario.name == "append" or most > 1:
            record(scenario, tmp_path / scenario.label, Fault(short_writes=most))
            for path, generations in scenario.readable(tmp_path / scenario.label):
                assert difference(read(path), generations[-1]) == ""


def test_a_failed_run_leaves_no_temporary_file(scenarios, tmp_path):
    for scenario in scenarios.values():
        calls = record(scenario, tmp_path / "whole").calls
        writes = [number for number, text in enumerate(calls) if text.startswith("write ")]
        with pytest.raises(OutputError, match="No space left"):
            record(scenario, tmp_path / "run", Fault("error", writes[-1], errno=28, lasting=True))
        left = [path for path in tree(tmp_path / "run") if path.endswith(".tmp")]
        assert [path for path in left if path not in tree(scenario.start)] == []
        shutil.rmtree(tmp_path / "whole")
        shutil.rmtree(tmp_path / "run")


# campaign, options, and what must be counted more often than never; benchmarks/durability.py runs the long forms
CAMPAIGNS = {
    "kills": ("kills", {"count": 20}, "states"),
    "power cuts": ("cuts", {"count": 80}, "states"),
    "power cuts after a resumed run": ("cuts-after-kills", {"kills": 1, "count": 1}, "states"),
    "full or broken disk": ("errors", {"stride": 13}, "states"),
    **{
        f"{name}, {form}": (command, options | {"form": form}, counted)
        for form in FORMS
        for name, command, options, counted in (
            ("changed bytes", "flips", {"rows": 8, "stride": 23}, "states"),
            ("torn pages", "torn", {"rows": 100, "count": 150}, "states"),
            ("runs over damage", "repairs", {"count": 24}, "repaired"),
            ("several writers", "races", {"seconds": 0.8}, "refused"),
            ("readers of a live cache", "readers", {"seconds": 0.8}, "switches"),
        )
    },
}


@pytest.mark.parametrize("campaign", CAMPAIGNS)
def test_fault_loses_nothing_and_gives_no_other_value(tmp_path, campaign):
    command, options, counted = CAMPAIGNS[campaign]
    tally = call(command, tmp_path / "scratch", **options)
    assert_nothing_wrong(tally)
    assert tally[counted] > 0


@pytest.mark.parametrize(("control", "form"), list(zip(CONTROLS, [*FORMS, FORMS[0]], strict=True)))
def test_careless_writer_is_noticed(tmp_path, control, form):
    # The rename matters in the one moment before the sync that follows it, so this takes a short scenario.
    scenario, count = ("tidy", 120) if control == "renamed before synced" else ("append", 60)
    tally = call("cuts", tmp_path / "scratch", count=count, control=control, forms=form, scenarios=scenario)
    assert tally["lost"] + tally["crashed"] > 0


class TestFile(CacheMachine.TestCase):
    settings = SETTINGS


class TestFolder(FolderMachine.TestCase):
    settings = SETTINGS
