"""Every public name has a numpydoc docstring whose examples run, and every command has a public function."""

from __future__ import annotations

import doctest
import inspect
import re

import click
import embedonce
import pytest
from embedonce.cli import main
from saving import without_pictures

NAMES = sorted(set(embedonce.__all__) - {"__version__", "EmbedonceError", "errors"})
public_names = pytest.mark.parametrize("name", NAMES)

FUNCTIONS = {"extract": "extract_features", "evaluate": "evaluate_model", "groups": "find_groups"}
"""Functions whose names are not those of their commands."""
WITHOUT_FUNCTION = {"demo", "init"}
"""demo prints a workflow for readers, and init writes a file that only the command line reads."""
OF_COMMANDS = {"as_json", "timings"}
"""Parameters of commands alone."""
OF_FUNCTIONS = {"progress"}
"""Parameters of functions alone: commands always show progress."""
DIFFERENCES = {
    "groups": {"output", "suggest"},  # find_groups writes no file without it; suggest_groups is another function
    "train": {"params", "parameters"},
    "tune": {"output", "params", "parameters"},  # Tuning.save
    "compare": {
        *("output", "maps", "figures"),  # Comparison.save
        "mlflow",  # log_to_mlflow
        *("heads", "params", "fail_under", "partial_results"),
    },
    "predict": {"as_csv", "output", "columns", "copy_to", "link_to"},
    "evaluate": {"output"},  # Evaluation.save
    "leaderboard": {"output"},  # Leaderboard.save
    "card": {"output"},  # ModelCard.save
    "explain": {"output"},  # Explanation.save
}
"""Parameters of one of both, or with another form: files to write, parameters of heads, thresholds."""


@public_names
def test_docstrings_have_all_sections(name):
    docstring = inspect.getdoc(getattr(embedonce, name))
    for section in ("See Also", "Examples"):
        assert f"\n{section}\n{'-' * len(section)}\n" in docstring, section


@public_names
def test_docstrings_describe_every_parameter(name):
    docstring = inspect.getdoc(getattr(embedonce, name))
    section = re.search(
        r"^(?:Parameters|Attributes)\n-+\n(.*?)(?:^\w[\w ]*\n-+\n|\Z)", docstring, re.DOTALL | re.MULTILINE
    )
    documented = re.findall(r"^(\**\w+(?:, \**\w+)*)(?: : .*)?$", section[1] if section else "", re.MULTILINE)
    documented = [part.lstrip("*") for names in documented for part in names.split(", ")]
    if inspect.isfunction(getattr(embedonce, name)):
        assert set(inspect.signature(getattr(embedonce, name)).parameters) <= set(documented)


@public_names
def test_examples_run(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
    for example in doctest.DocTestFinder().find(getattr(embedonce, name), name, globs={}):
        report = []
        with without_pictures():
            runner.run(example, out=report.append)
        assert not runner.summarize(verbose=False).failed, "".join(report)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", sorted(set(main.commands) - WITHOUT_FUNCTION))
def test_commands_have_the_parameters_of_their_functions(name):
    command = main.commands[name]
    function = inspect.signature(getattr(embedonce, FUNCTIONS.get(name, name))).parameters
    options = {param.name: param for param in command.params if param.expose_value}
    allowed = DIFFERENCES.get(name, set())
    assert set(options) - set(function) - OF_COMMANDS <= allowed
    assert set(function) - set(options) - OF_FUNCTIONS <= allowed
    required = [param for param in command.params if param.required]
    arguments = [word for param in required for word in (*param.opts[-1:], "1")[isinstance(param, click.Argument) :]]
    defaults = command.make_context(name, arguments).params
    for shared in set(defaults) & set(function) - allowed:
        assert options[shared].required == (function[shared].default is inspect.Parameter.empty), shared
        if not options[shared].required:
            assert str(defaults[shared] or None) == str(function[shared].default or None), shared
