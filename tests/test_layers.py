from __future__ import annotations

import ast
from pathlib import Path

import embedonce
import pytest

ROOT = Path(embedonce.__file__).parent
FOLDERS = ("cache", "extract", "heads", "evaluate")
MAY_IMPORT = {
    "cache": {"cache"},
    "extract": {"extract", "cache"},
    "heads": {"heads", "cache"},
    "evaluate": {"evaluate", "extract", "heads", "cache"},
}
HEAVY = {"tensorflow", "keras", "matplotlib", "sklearn", "scipy", "skops", "dask", "distributed"}
MODULES = sorted(path for folder in FOLDERS for path in (ROOT / folder).glob("**/*.py"))


def _imports(tree, folder, *, top_level):
    """Yield (target, is_ours): the folder of ours or the package that each import names."""
    nodes = tree.body if top_level else ast.walk(tree)
    for node in nodes:
        if isinstance(node, ast.Import):
            for name in node.names:
                yield name.name.split(".")[0], False
        elif isinstance(node, ast.ImportFrom):
            if node.level == 0:
                yield node.module.split(".")[0], False
            elif node.level == 1:
                yield folder, True
            elif node.module:
                yield node.module.split(".")[0], True
            else:
                yield from ((name.name, True) for name in node.names)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_go_downwards_only(path):
    folder = path.relative_to(ROOT).parts[0]
    for target, ours in _imports(ast.parse(path.read_text()), folder, top_level=False):
        assert target != "embedonce", f"{path}: folders import each other relatively"
        if ours:
            assert target in MAY_IMPORT[folder], f"{folder} must not import {target}"


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_heavy_packages_are_imported_where_they_are_used(path):
    folder = path.relative_to(ROOT).parts[0]
    # a head is a subclass of scikit-learn's estimators; the registry imports its module when it is made
    allowed = {"sklearn", "scipy"} if folder == "heads" else set()
    for target, ours in _imports(ast.parse(path.read_text()), folder, top_level=True):
        assert ours or target not in HEAVY - allowed


def test_the_cache_needs_no_tensorflow_and_no_scikit_learn(python):
    code = "import sys; import embedonce.cache.reader, embedonce.cache.partial; print(sorted(sys.modules))"
    loaded = python(code)
    assert "'h5py'" in loaded
    assert not any(f"'{name}'" in loaded for name in ("tensorflow", "sklearn", "matplotlib"))


def test_importing_embedonce_and_its_command_line_loads_nothing_heavy(python):
    code = "import sys, embedonce, embedonce.cli; print(sorted(sys.modules))"
    loaded = python(code)
    assert not any(f"'{name}'" in loaded for name in (*HEAVY, "h5py", "rich"))


def test_every_public_name_resolves():
    for name in embedonce.__all__:
        assert getattr(embedonce, name) is not None
    assert set(embedonce.__all__) <= set(dir(embedonce))
    assert not {"Any", "TYPE_CHECKING", "annotations", "import_module"} & set(dir(embedonce))


def test_an_unknown_public_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = embedonce.nonsense


def test_extract_is_callable_whatever_was_imported_first(python):
    code = (
        "import embedonce.extract.scan, embedonce\n"
        "import embedonce.extract.run\n"
        "try: embedonce.extract('no such folder', 'x.h5')\n"
        "except embedonce.EmbedonceError as error: print(type(error).__name__)\n"
    )
    assert python(code).strip() == "ImageFolderError"


def test_modules_stay_small():
    for path in MODULES:
        assert len(path.read_text().splitlines()) <= 420, f"{path} has outgrown one job"
