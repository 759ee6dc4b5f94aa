"""The source archive: MANIFEST.in takes what is no part of the package."""

from __future__ import annotations

from pathlib import Path

from setuptools.command.egg_info import FileList

ROOT = Path(__file__).parents[1]


def test_the_source_archive_has_tests_and_docs(monkeypatch):
    monkeypatch.chdir(ROOT)
    files = FileList()
    for line in (ROOT / "MANIFEST.in").read_text(encoding="ascii").splitlines():
        files.process_template_line(line)
    taken = set(files.files)
    assert {"CHANGELOG.md", "tests/conftest.py", "docs/FAQ.md", "benchmarks/heads.py", "tools/tutorial.py"} <= taken
    assert {str(path.relative_to(ROOT)) for path in (ROOT / "examples").glob("*.*")} <= taken
    assert not any("__pycache__" in name for name in taken)
