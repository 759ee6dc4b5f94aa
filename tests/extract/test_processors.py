from __future__ import annotations

import os

import pytest
from embedonce.extract import processors
from embedonce.extract.processors import available_processors


@pytest.fixture
def many(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(64)), raising=False)


@pytest.fixture
def files(tmp_path, monkeypatch):
    """Return a function that writes the quota files of version 2 or 1 of cgroups."""
    paths = ((str(tmp_path / "max"),), (str(tmp_path / "quota"), str(tmp_path / "period")))
    monkeypatch.setattr(processors, "_QUOTAS", paths)

    def write(**contents):
        for name, content in contents.items():
            (tmp_path / name).write_text(content)

    return write


@pytest.mark.parametrize(
    ("contents", "expected"),
    [
        ({}, 64),
        ({"max": "max 100000\n"}, 64),
        ({"max": "200000 100000\n"}, 2),
        ({"max": "150000 100000\n"}, 2),
        ({"max": "1000 100000\n"}, 1),
        ({"max": "9900000 100000\n"}, 64),
        ({"max": "nonsense"}, 64),
        ({"quota": "300000\n", "period": "100000\n"}, 3),
        ({"quota": "-1\n", "period": "100000\n"}, 64),
        ({"quota": "300000\n"}, 64),
    ],
)
def test_no_more_processors_are_used_than_the_container_has(many, files, contents, expected):
    files(**contents)
    assert available_processors() == expected


def test_no_more_processors_are_used_than_the_process_may(monkeypatch, files):
    files(max="800000 100000")
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {3, 5}, raising=False)
    assert available_processors() == 2


def test_where_there_is_no_affinity_the_machine_is_counted(monkeypatch, files):
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert available_processors() == 1
