"""Pages of the documentation: every command parses, every snippet compiles with existing names, every link has a target."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import inspect
import json
import re
import runpy
import shlex
import subprocess
import sys
from pathlib import Path

import click
import embedonce
import numpy as np
import pytest
from click.testing import CliRunner
from embedonce.cli.app import main
from embedonce.evaluate.comparison.config import read_config, write_config
from embedonce.evaluate.report.model_card import _contents as card_contents
from embedonce.evaluate.report.study_file import read_study
from PIL import Image
from textures import texture

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
TEXTS = {page: page.read_text(encoding="utf-8") for page in PAGES}
IDS = [str(page.relative_to(ROOT)) for page in PAGES]
pages = pytest.mark.parametrize("page", PAGES, ids=IDS)
OF_BENCHMARKS = {
    option for path in (ROOT / "benchmarks").glob("*.py") for option in re.findall(r'"(--[a-z-]+)"', path.read_text())
}
COMMAND = re.compile(r"(?:\w+=\S+ |\.venv/bin/)*embedonce ")


def blocks(page, kind):
    """Return the blocks of a language."""
    return re.findall(rf"^```{kind}\n(.*?)^```", TEXTS[page], flags=re.DOTALL | re.MULTILINE)


def options_of(command):
    return {name for param in command.params for name in (*param.opts, *param.secondary_opts)} | {"--help"}


def parse(line):
    """Parse a line as the command line does, without running it."""
    words = shlex.split(COMMAND.sub("", line, count=1), comments=True)
    if words[0].startswith("-"):
        return
    command = main.commands[words[0]]
    command.make_context(words[0], words[1:], parent=click.Context(main))


@pages
def test_every_command_line_parses(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_config("heads.toml")  # compare reads it when it looks at its options
    lines = [line for kind in ("bash", "console") for block in blocks(page, kind) for line in block.splitlines()]
    for line in lines:
        for part in line.split(" && "):
            if COMMAND.match(part):
                try:
                    parse(part)
                except click.ClickException as error:
                    pytest.fail(f"{part}: {error.format_message()}")


@pytest.mark.parametrize("name", main.commands)
def test_help_has_examples_that_can_be_copied(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_config("heads.toml")
    result = CliRunner().invoke(main, [name, "--help"], terminal_width=40)
    assert result.exit_code == 0
    examples = result.output.partition("For example:\n")[2].partition("Options:\n")[0]
    lines = [line.strip() for line in examples.strip().splitlines()]
    assert lines, result.output
    for purpose, line in zip(lines[::2], lines[1::2], strict=True):
        assert purpose.startswith("# ")
        assert line.startswith(f"embedonce {name}")
        parse(line)  # unwrapped, although the terminal is narrow


def test_incorrect_commands_do_not_parse():
    for line in ("embedonce compare a.h5 --head svm -o b", "embedonce info", "embedonce train a.h5 --head svm"):
        with pytest.raises(click.ClickException):
            parse(line)
    with pytest.raises(KeyError):
        parse("embedonce learn a.h5")


@pages
def test_commands_and_options_in_sentences_exist(page):
    known = set().union(*map(options_of, main.commands.values()), OF_BENCHMARKS, {"--version"})
    text = re.sub(r"^```.*?^```", "", TEXTS[page], flags=re.DOTALL | re.MULTILINE)
    for code in re.findall(r"`([^`\n]+)`", text):
        name, _, rest = code.removeprefix("embedonce ").partition(" ")
        options = set(re.findall(r"(?<!\S)--[a-z][a-z-]*", code))
        if code.startswith("embedonce "):
            if name.startswith("--") or name == "COMMAND":
                continue
            assert name in main.commands, code
        if name in main.commands and (rest or code.startswith("embedonce ")):
            assert options <= options_of(main.commands[name]), code
        elif code.startswith("-"):
            assert options <= known, code


@pages
def test_python_snippets_compile_with_existing_names(page):
    for block in blocks(page, "python"):
        tree = ast.parse(block)
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom):
                module = importlib.import_module(node.module)
                assert all(hasattr(module, name.name) for name in node.names), ast.unparse(node)
            elif isinstance(node, ast.Import):
                assert all(importlib.util.find_spec(name.name) for name in node.names), ast.unparse(node)
            elif isinstance(node, ast.Attribute) and ast.unparse(node.value) == "eo":
                assert node.attr in embedonce.__all__, ast.unparse(node)
            elif isinstance(node, ast.Call) and re.fullmatch(r"eo(\.\w+)+", ast.unparse(node.func)):
                check_call(node)


def check_call(node):
    """Check that a call's arguments fit the function."""
    function = embedonce
    for name in ast.unparse(node.func).split(".")[1:]:
        function = getattr(function, name)
    keywords = {keyword.arg: None for keyword in node.keywords if keyword.arg}
    inspect.signature(function).bind(*node.args, **keywords)


@pages
def test_configuration_files_can_be_read(page, tmp_path):
    for block in blocks(page, "toml"):
        (tmp_path / "heads.toml").write_text(block)
        if "[study]" in block:
            assert read_study(tmp_path / "heads.toml", {topic.key: topic.question for topic in card_contents()[0]})
        else:
            assert read_config(tmp_path / "heads.toml")[1]


@pages
def test_every_python_file_that_a_page_names_exists(page):
    names = re.findall(
        r"\b((?:benchmarks|cache|cli|docs|evaluate|examples|extract|heads|tests|tools)/[\w/]+\.py)\b", TEXTS[page]
    )
    assert [name for name in names if not (ROOT / name).is_file()] == []


def test_every_file_that_the_architecture_names_exists():
    for package, content in re.findall(
        r"^\| `([\w/]+)/` \| (.*) \|$", TEXTS[ROOT / "CONTRIBUTING.md"], flags=re.MULTILINE
    ):
        for name in re.findall(r"`(\w+\.(?:py|c))`", content):
            assert (ROOT / package / name).is_file(), f"{package}/{name}"


@pages
def test_links_have_targets(page):
    text = re.sub(r"^```.*?^```", "", TEXTS[page], flags=re.DOTALL | re.MULTILINE)
    for target in re.findall(r"\]\((?!https?:)([^)]+)\)", text):
        path, _, anchor = target.partition("#")
        if path.endswith("CONTRIBUTING.md") and page.parent != ROOT:
            continue  # a page of the site from the top of the repository
        found = page if not path else (page.parent / path).resolve()
        assert found.is_file(), target
        if anchor:
            headings = re.findall(r"^#+ (.*)$", found.read_text(encoding="utf-8"), flags=re.MULTILINE)
            assert anchor in {slug(heading) for heading in headings}, target


def slug(heading):
    """Return the anchor of a heading, as GitHub and the site make it."""
    return re.sub(r"[\s-]+", "-", re.sub(r"[^\w\s-]", "", heading).strip().lower())


def test_every_page_is_in_the_navigation():
    navigation = (ROOT / "mkdocs.yml").read_text(encoding="utf-8").partition("\nnav:")[2]
    for page in (ROOT / "docs").rglob("*.md"):
        assert f"- {page.relative_to(ROOT / 'docs').as_posix()}\n" in navigation + "\n"


def test_the_api_page_has_every_public_name():
    directives = re.findall(r"^::: embedonce\.(\w+)$", TEXTS[ROOT / "docs" / "API.md"], flags=re.MULTILINE)
    assert sorted(directives) == sorted(set(embedonce.__all__) - {"__version__", "EmbedonceError"} | {"errors"})


def test_no_picture_fetches_from_another_server():
    module = runpy.run_path(str(ROOT / "tools" / "check_site.py"))
    assert not list(module["fetched_addresses"](ROOT / "docs"))


def test_fetched_addresses_are_found(tmp_path):
    fetched_addresses = runpy.run_path(str(ROOT / "tools" / "check_site.py"))["fetched_addresses"]
    (tmp_path / "page.html").write_text(
        '<link rel="stylesheet" href="https://a/x.css"><script src="//b/x.js"></script><img src="x.png">'
        '<style>@import "https://c/x.css";</style><a href="https://d">a link</a><link rel="canonical" href="https://e">'
    )
    (tmp_path / "page.css").write_text("@font-face { src: url('https://f/x.woff2') }")
    assert {address for _, address in fetched_addresses(tmp_path)} == {
        "https://a/x.css",
        "//b/x.js",
        "https://c/x.css",
        "https://f/x.woff2",
    }


@pytest.mark.slow
def test_the_site_builds_and_needs_no_network(tmp_path):
    pytest.importorskip("mkdocstrings", reason="needs embedonce[docs]")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", tmp_path / "site"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    checked = subprocess.run(
        [sys.executable, ROOT / "tools" / "check_site.py", tmp_path / "site"], capture_output=True, text=True
    )
    assert checked.returncode == 0, checked.stdout


@pytest.mark.slow
def test_the_commands_of_the_tutorial_run(tmp_path, monkeypatch):
    for kind, name in enumerate(("lung_aca", "lung_n", "lung_scc")):
        (tmp_path / "lung_image_sets" / name).mkdir(parents=True)
        for number in range(1, 25):  # twelve originals, each once more upside down
            picture = texture(100 * kind + number // 2)[:: 1 - 2 * (number % 2)]
            colours = picture[..., None] * np.roll((1.0, 0.7, 0.4), kind)
            path = tmp_path / "lung_image_sets" / name / f"{name.replace('_', '')}{number}.jpeg"
            Image.fromarray(colours.astype(np.uint8)).save(path)
    monkeypatch.chdir(tmp_path)
    small = " --weights random:0 --alpha 0.35 --image-size 96"  # the README's test has the large one
    lines = [line for block in blocks(ROOT / "docs" / "TUTORIAL.md", "bash") for line in block.splitlines()]
    assert len(lines) > 10
    for line in lines:
        line += small * line.startswith("embedonce extract ")
        result = CliRunner().invoke(main, shlex.split(line)[1:])
        assert result.exit_code == 0, f"{line}: {result.output}"
    results = json.loads((tmp_path / "runs" / "lung" / "results.json").read_text())
    assert results["leak_gap"]
    assert (tmp_path / "models" / "lung.keras").is_file()
    assert (tmp_path / "explained.png").is_file()
