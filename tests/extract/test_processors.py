from __future__ import annotations

import os

import joblib
import pytest
from embedonce.extract import cpu_count, processors

QUOTAS = {
    "none": {},
    "version 2": {"cpu.max": "200000 100000\n"},
    "version 2, a part": {"cpu.max": "150000 100000\n"},
    "version 2, below one": {"cpu.max": "1000 100000\n"},
    "version 2, unlimited": {"cpu.max": "max 100000\n"},
    "version 2, above": {"cpu.max": "9900000 100000\n"},
    "version 1": {"quota": "300000\n", "period": "100000\n"},
    "version 1, unlimited": {"quota": "-1\n", "period": "100000\n"},
    "version 1, incomplete": {"quota": "300000\n"},
    "damaged": {"cpu.max": "nonsense"},
}


@pytest.mark.parametrize(("name", "expected"), [*zip(QUOTAS, (64, 2, 2, 1, 64, 64, 3, 64, 64, 64), strict=True)])
def test_processors_are_those_of_the_containers_quota(tmp_path, monkeypatch, name, expected):
    paths = ((str(tmp_path / "cpu.max"),), (str(tmp_path / "quota"), str(tmp_path / "period")))
    monkeypatch.setattr(processors, "_QUOTAS", paths)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(64)), raising=False)
    for file, text in QUOTAS[name].items():
        (tmp_path / file).write_text(text)
    assert cpu_count() == expected


def test_processors_are_those_of_the_affinity(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {5}, raising=False)
    assert cpu_count() == 1


def test_without_affinity_the_machine_is_counted(monkeypatch):
    monkeypatch.setattr(processors, "_QUOTAS", ())
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert cpu_count() == 1


def test_the_count_is_that_of_joblib(monkeypatch):
    monkeypatch.delenv("LOKY_MAX_CPU_COUNT", raising=False)
    assert cpu_count() == joblib.cpu_count()
