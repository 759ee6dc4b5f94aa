from __future__ import annotations

import os

import numpy as np
import pytest
from durability_disk import Disk, tree, write_tree
from durability_faults import Event, Faults

pytestmark = pytest.mark.skipif(os.name == "nt", reason="Windows cannot open folders")

OLD, NEW = b"o" * 1500, b"n" * 2500


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "a").write_bytes(OLD)
    return tmp_path / "root"


def after_cuts(folder, act, count=300):
    """Return every state that a power cut after ``act`` may leave, for some seeds."""
    disk = Disk(folder)
    with Faults(folder) as faults:
        act(folder)
    for event in faults.events:
        disk.apply(event)
    return [disk.cut(np.random.default_rng(seed), 512) for seed in range(count)]


def write(path, data, *, sync=False, flags=os.O_CREAT):
    descriptor = os.open(path, os.O_WRONLY | flags)
    os.write(descriptor, data)
    if sync:
        os.fsync(descriptor)
    os.close(descriptor)


def sync_folder(path):
    descriptor = os.open(path, os.O_RDONLY)
    os.fsync(descriptor)
    os.close(descriptor)


def test_what_nobody_touched_is_unharmed(folder):
    assert all(state["a"] == OLD for state in after_cuts(folder, lambda root: write(root / "b", NEW)))


def test_a_new_file_may_be_missing_empty_torn_or_full_of_zeros(folder):
    states = after_cuts(folder, lambda root: write(root / "b", NEW))
    contents = {state.get("b") for state in states}
    assert {None, b"", NEW} <= contents
    assert any(content and b"\0" in content for content in contents)
    assert any(content and len(content) % 512 for content in contents if content != NEW)


def test_an_overwritten_file_mixes_old_and_new_pages(folder):
    states = after_cuts(folder, lambda root: write(root / "a", NEW, flags=0))
    assert any(set(state["a"]) == set(b"on") for state in states)
    pages = {state["a"][start : start + 512] for state in states for start in (0, 512)}
    assert pages == {b"o" * 512, b"n" * 512}


def test_a_synced_file_is_whole_but_its_name_may_be_missing(folder):
    states = after_cuts(folder, lambda root: write(root / "b", NEW, sync=True))
    assert {state.get("b") for state in states} == {None, NEW}


def test_a_synced_file_in_a_synced_folder_is_there(folder):
    def act(root):
        write(root / "b", NEW, sync=True)
        sync_folder(root)

    assert all(state == {"a": OLD, "b": NEW} for state in after_cuts(folder, act))


def test_a_rename_happens_whole_or_not_at_all(folder):
    def act(root):
        write(root / "b", NEW, sync=True)
        sync_folder(root)
        os.replace(root / "b", root / "a")

    states = after_cuts(folder, act)
    assert {tuple(sorted(state.items())) for state in states} == {(("a", NEW),), (("a", OLD), ("b", NEW))}


def test_names_survive_independently_but_in_order(folder):
    def act(root):
        write(root / "b", b"", sync=True)
        write(root / "c", b"", sync=True)
        os.unlink(root / "b")

    names = {frozenset(state) - {"a"} for state in after_cuts(folder, act)}
    assert names == {frozenset(), frozenset("b"), frozenset("c"), frozenset("bc")}


def test_a_lost_folder_loses_its_content(folder):
    def act(root):
        os.mkdir(root / "d")
        write(root / "d" / "e", NEW, sync=True)
        sync_folder(root / "d")

    assert {frozenset(state) for state in after_cuts(folder, act)} == {frozenset("a"), frozenset(["a", "d", "d/e"])}


def test_a_folder_is_removed_only_after_what_was_in_it(folder):
    os.mkdir(folder / "d")
    (folder / "d" / "e").write_bytes(b"")

    def act(root):
        os.unlink(root / "d" / "e")
        os.rmdir(root / "d")

    assert {frozenset(state) for state in after_cuts(folder, act)} == {
        frozenset("a"),
        frozenset(["a", "d"]),
        frozenset(["a", "d", "d/e"]),
    }


def test_a_state_depends_on_the_seed_alone(folder, tmp_path):
    disk = Disk(folder)
    disk.apply(Event("create", "b", handle=1))
    disk.apply(Event("write", "b", handle=1, data=NEW))
    states = [disk.cut(np.random.default_rng(seed), 4096) for seed in (1, 1)]
    assert states[0] == states[1]
    assert disk.live() == {"a": OLD, "b": NEW}
    write_tree(states[0], tmp_path / "out")
    assert tree(tmp_path / "out") == states[0]
