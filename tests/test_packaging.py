"""What a release holds: the files of the source archive, and the addresses that a package index shows."""

from __future__ import annotations

import re
import runpy
from pathlib import Path
from unittest import mock

import pytest
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


@pytest.fixture
def setup_arguments():
    """Return a function that runs setup.py and returns what it gives to setuptools."""

    def run():
        with mock.patch("setuptools.setup") as setup:
            runpy.run_path(str(ROOT / "setup.py"))
        return setup.call_args.kwargs

    return run


def test_links_of_a_release_lead_to_the_repository(setup_arguments, monkeypatch):
    address = "https://example.org/embedonce"
    monkeypatch.setenv("EMBEDONCE_URL", f"{address}/")
    arguments = setup_arguments()
    assert arguments["project_urls"]["Source"] == address
    links = re.findall(r"(!?)\[[^]]*\]\(([^)]*)\)", arguments["long_description"])
    assert len(links) > 15
    for is_image, target in links:
        begin = f"{address}/{'raw' if is_image else 'blob'}/HEAD/"
        assert target.startswith(begin) or "example.org" not in target, target
        assert "://" in target, target
        assert not target.startswith(begin) or (ROOT / target.removeprefix(begin).partition("#")[0]).exists(), target


def test_a_build_without_an_address_names_none(setup_arguments, monkeypatch):
    monkeypatch.delenv("EMBEDONCE_URL", raising=False)
    arguments = setup_arguments()
    assert arguments["project_urls"] == {}
    assert arguments["long_description"] == (ROOT / "README.md").read_text(encoding="utf-8")
