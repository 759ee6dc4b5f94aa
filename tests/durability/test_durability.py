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
    max_examples=20,
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


def test_a_killed_process_loses_nothing_that_was_acknowledged(tmp_path):
    tally = call("kills", tmp_path / "scratch", count=100)
    assert tally["states"] == 100
    assert_nothing_wrong(tally)


def test_a_power_cut_loses_nothing_that_was_acknowledged(tmp_path):
    tally = call("cuts", tmp_path / "scratch", count=500)
    assert tally["states"] == 500
    assert_nothing_wrong(tally)


def test_power_cut_after_a_resumed_run_loses_nothing(tmp_path):
    tally = call("cuts-after-kills", tmp_path / "scratch", kills=2, count=5)
    assert tally["states"] > 50 * len(FORMS)
    assert_nothing_wrong(tally)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("control", CONTROLS)
def test_the_bench_notices_a_writer_that_is_careless(tmp_path, form, control):
    # The rename matters in the one moment before the sync that follows it, so this takes short scenarios.
    scenarios, count = (["delete", "tidy"], 600) if control == "renamed before synced" else (["append"], 100)
    tally = call("cuts", tmp_path / "scratch", count=count, control=control, forms=form, scenarios=scenarios)
    assert tally["lost"] + tally["crashed"] > 0


def test_full_or_broken_disk_loses_nothing(tmp_path):
    assert_nothing_wrong(call("errors", tmp_path / "scratch"))


@pytest.mark.parametrize("form", FORMS)
def test_no_changed_byte_is_read_as_something_else(tmp_path, form):
    tally = call("flips", tmp_path / "scratch", form=form, rows=8)
    assert tally["states"] > 5000
    assert_nothing_wrong(tally)


@pytest.mark.parametrize("form", FORMS)
def test_torn_pages_are_detected(tmp_path, form):
    tally = call("torn", tmp_path / "scratch", form=form, count=2000, rows=100)
    assert tally["states"] == 2000
    assert_nothing_wrong(tally)


@pytest.mark.parametrize("form", FORMS)
def test_run_over_damage_gives_correct_values_or_refuses(tmp_path, form):
    tally = call("repairs", tmp_path / "scratch", form=form, count=300)
    assert_nothing_wrong(tally)
    assert tally["repaired"] > 250


@pytest.mark.parametrize("form", FORMS)
def test_one_of_several_writers_proceeds(tmp_path, form):
    tally = call("races", tmp_path / "scratch", form=form)
    assert tally["refused"] > 0
    assert_nothing_wrong(tally)


@pytest.mark.parametrize("form", FORMS)
def test_readers_see_whole_generations_while_a_writer_publishes(tmp_path, form):
    tally = call("readers", tmp_path / "scratch", form=form)
    assert_nothing_wrong(tally)
    assert tally["reads"] > 20
    assert tally["switches"] > 5


class TestFile(CacheMachine.TestCase):
    settings = SETTINGS


class TestFolder(FolderMachine.TestCase):
    settings = SETTINGS
